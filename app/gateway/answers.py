"""From the body of a 200 to a Completion or a GatewayFault. Pure; no answer, however odd, escapes it."""

import json
import re
from datetime import datetime
from typing import Any

from app import kinds
from app.gateway import Completion, GatewayFault
from app.gateway.faults import DETAIL_MAX, fault_within, shorten
from app.gateway.usage import read_usage
from app.kinds import Kind
from app.text import storable

WHOLE = frozenset(
    ("stop", "end_turn", "eos", "eos_token", "stop_sequence", "complete", "completed", "")
)
"""Ways in which a model says that it said all it wanted. Anything else is no whole answer."""
CUT = frozenset(("length", "max_tokens", "max_output_tokens", "token_limit"))
FILTER = frozenset((
    "content_filter", "safety", "recitation", "prohibited_content", "blocklist", "spii", "image_safety",
))  # fmt: skip
THOUGHT = re.compile(r"<(think|thinking|thought|reasoning|reflection)>.*?(?:</\1>|\Z)", re.S | re.I)
THOUGHT_END = re.compile(r"</(?:think|thinking|thought|reasoning|reflection)>", re.I)


def read_answer(body: bytes, now: datetime, tokens_max: int) -> Completion:
    """The text and usage of a 200; raises GatewayFault when there is no whole text to publish, also for an
    error that came as a 200.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise GatewayFault(
            kinds.BAD_ANSWER, f"not JSON: {shorten(body)}", http_status=200
        ) from None
    usage = read_usage(data, tokens_max)
    choice = _first_choice(data)
    for holder in (data, choice):
        if isinstance(holder, dict) and holder.get("error"):
            raise fault_within(holder, now, usage)
    message = choice.get("message") if choice else None
    if choice is None or not isinstance(message, dict):
        detail = f"no choices: {shorten(body)}"
        raise GatewayFault(kinds.BAD_ANSWER, detail, http_status=200, usage=usage)
    text = without_thoughts(_text(message.get("content")))
    if kind := _incomplete(choice, message, text):
        raise GatewayFault(kind, _why_incomplete(kind, message), http_status=200, usage=usage)
    return Completion(text, usage)


def _first_choice(data: Any) -> dict[str, Any] | None:
    choices = data.get("choices") if isinstance(data, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else None


def _text(content: Any) -> str:
    """The text of a message's content: a text, or a list of parts of which only the texts count."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (
        part.get("text")
        for part in content
        if isinstance(part, dict) and part.get("type", "text") in ("text", "output_text")
    )
    return "".join(part for part in parts if isinstance(part, str))


def without_thoughts(text: str) -> str:
    """The text without what the model thought aloud, also where that has no beginning or no end."""
    shown = THOUGHT.sub("", text)
    *_, last = THOUGHT_END.split(shown)  # its opening tag was part of the prompt
    return last.strip()


def _incomplete(choice: dict[str, Any], message: dict[str, Any], text: str) -> Kind | None:
    """Why an answer is not to be published; None when it is whole."""
    finish = choice.get("finish_reason")
    finish = finish.lower() if isinstance(finish, str) else ""
    native = choice.get("native_finish_reason")
    native = native.lower() if isinstance(native, str) else ""
    if finish in CUT or native in CUT:
        return kinds.CUT_OFF
    if finish in FILTER or native in FILTER:
        return kinds.FILTERED
    if message.get("refusal") and isinstance(message["refusal"], str):
        return kinds.MODEL_REFUSED
    if _refused_in_parts(message.get("content")):
        return kinds.MODEL_REFUSED
    if finish == "refusal":
        return kinds.MODEL_REFUSED
    if not text:
        return kinds.EMPTY_ANSWER
    return None if finish in WHOLE else kinds.BAD_ANSWER


def _refused_in_parts(content: Any) -> bool:
    parts = content if isinstance(content, list) else ()
    return any(isinstance(part, dict) and part.get("type") == "refusal" for part in parts)


def _why_incomplete(kind: Kind, message: dict[str, Any]) -> str:
    if kind is kinds.MODEL_REFUSED and isinstance(message.get("refusal"), str):
        return f"the model refused: {storable(message['refusal'], DETAIL_MAX)}"
    if kind is kinds.BAD_ANSWER:
        return "the answer did not end by itself"
    return kind.title
