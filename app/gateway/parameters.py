"""Which parameters a model takes. Some models refuse `max_tokens` or `temperature` with a 400; what a
model refused once is left out from then on, by this process.
"""

import re
import threading
from collections import defaultdict
from typing import Any

from app.gateway import Prompt

THINKING = re.compile(r"(?:[a-z0-9-]+/)?(?:gpt-5|o[1-9])(?:$|[-.:@].*)", re.I)
"""OpenAI's reasoning models: they take `max_completion_tokens`, and no temperature."""
KNOWN = frozenset(("max_tokens", "temperature"))


class Parameters:
    """The parameters of each model, known by name or learned. Safe to share between threads."""

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature
        self._lock = threading.Lock()
        self._refused: defaultdict[str, set[str]] = defaultdict(set)

    def body(self, prompt: Prompt) -> dict[str, Any]:
        """The JSON body of a request."""
        refused = self.refused(prompt.model)
        body: dict[str, Any] = {"model": prompt.model, "messages": prompt.messages}
        if "max_tokens" not in refused:
            body["max_tokens"] = prompt.max_tokens
        elif "max_completion_tokens" not in refused:
            body["max_completion_tokens"] = prompt.max_tokens
        if "temperature" not in refused:
            body["temperature"] = self._temperature
        if prompt.reasoning is not None and "reasoning" not in refused:
            body["reasoning"] = {"effort": prompt.reasoning}
        if prompt.is_json and "response_format" not in refused:
            body["response_format"] = {"type": "json_object"}
        return body

    def refused(self, model: str) -> frozenset[str]:
        """What the model does not take."""
        with self._lock:
            learned = frozenset(self._refused.get(model, ()))
        return learned | KNOWN if THINKING.fullmatch(model) else learned

    def learn(self, model: str, parameter: str) -> bool:
        """Remember that the model refused it; False when that was known already, so a retry is no use."""
        with self._lock:
            is_new = parameter not in self._refused[model]
            self._refused[model].add(parameter)
        return is_new
