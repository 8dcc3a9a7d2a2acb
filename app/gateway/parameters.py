"""Parameters that a model takes. Some models refuse `max_tokens` or `temperature` with a 400; what a
model refused once is left out from then on, by this process.
"""

import re
import threading
from collections import defaultdict
from typing import Any

from app.gateway import Prompt

THINKING = re.compile(r"(?:[a-z0-9-]+/)?(?:gpt-5|o[1-9])(?:$|[-.:@].*)", re.I)
"""OpenAI's reasoning models: they take `max_completion_tokens`, and no temperature."""
LENGTHS = ("max_tokens", "max_completion_tokens")
"""Parameter that bounds the answer's length, by either name."""


class Parameters:
    """The parameters of each model, known by name or learned. Safe to share between threads."""

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature
        self._lock = threading.Lock()
        self._refused: defaultdict[str, set[str]] = defaultdict(set)

    def body(self, prompt: Prompt) -> dict[str, Any]:
        """The JSON body of a request."""
        refused, thinks = self.refused(prompt.model), bool(THINKING.fullmatch(prompt.model))
        body: dict[str, Any] = {"model": prompt.model, "messages": prompt.messages}
        lengths = reversed(LENGTHS) if thinks else LENGTHS
        if length := next((name for name in lengths if name not in refused), None):
            body[length] = prompt.max_tokens
        if not thinks and "temperature" not in refused:
            body["temperature"] = self._temperature
        if prompt.reasoning is not None and "reasoning" not in refused:
            body["reasoning"] = {"effort": prompt.reasoning}
        if prompt.is_json and "response_format" not in refused:
            body["response_format"] = {"type": "json_object"}
        return body

    def refused(self, model: str) -> frozenset[str]:
        """Return the parameters that the model has refused so far."""
        with self._lock:
            return frozenset(self._refused.get(model, ()))

    def learn(self, model: str, parameter: str) -> None:
        """Remember that the model refused it."""
        with self._lock:
            self._refused[model].add(parameter)
