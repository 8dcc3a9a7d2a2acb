"""From the body of a 200 to a Completion or a GatewayFault. Pure; no answer, however odd, escapes it."""

import json
from datetime import datetime
from typing import Any

from app import kinds
from app.gateway import Completion, GatewayFault
from app.gateway.faults import DETAIL_MAX, fault_within, is_error, shorten
from app.gateway.thoughts import without_thoughts
from app.gateway.usage import read_usage
from app.kinds import Kind
from app.text import storable

WHOLE = frozenset(("stop", "end_turn", "eos", "eos_token", "stop_sequence", "complete", "completed", ""))
"""Ways in which a model says that it said all it wanted. Anything else is no whole answer."""
CUT = frozenset(
    (
        "length",
        "max_tokens",
        "max_output_tokens",
        "token_limit",
        "model_context_window_exceeded",
        "model_length",
    )
)
FILTER = frozenset(
    (
        "content_filter",
        "safety",
        "recitation",
        "prohibited_content",
        "blocklist",
        "spii",
        "image_safety",
        "sensitive",
        "function_call_filter",
        "guardrail_intervened",
    )
)
BROKEN = frozenset(
    (
        "error",
        "other",
        "language",
        "malformed_function_call",
        "pause_turn",
        "insufficient_system_resource",
        "incomplete",
        "unexpected_tool_call",
        "network_error",
        "abort",
    )
)
"""Names that a provider behind the gateway gives an end that was none, while the gateway says `stop`."""


def read_answer(body: bytes, now: datetime, tokens_max: int) -> Completion:
    """The text and usage of a 200; raises GatewayFault when there is no whole text to publish, also for an
    error that came as a 200.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise GatewayFault(kinds.BAD_ANSWER, f"not JSON: {shorten(body)}", http_status=200) from None
    usage = read_usage(data, tokens_max)
    choice = _first_choice(data)
    for holder in (data, choice, data[0] if isinstance(data, list) and data else None):
        if isinstance(holder, dict) and _tells_an_error(holder, is_whole=choice is not None):
            raise fault_within(holder, now, usage)
    message = choice.get("message") if choice else None
    if choice is None or not isinstance(message, dict):
        if choice and (kind := _cut_or_filtered(choice)):
            raise GatewayFault(kind, kind.title, http_status=200, usage=usage)
        detail = f"no choices: {shorten(body)}"
        raise GatewayFault(kinds.BAD_ANSWER, detail, http_status=200, usage=usage)
    text = without_thoughts(_text(message.get("content")))
    if kind := _incomplete(choice, message, text):
        raise GatewayFault(kind, _why_incomplete(kind, message), http_status=200, usage=usage)
    return Completion(text, usage)


def _tells_an_error(holder: dict[str, Any], *, is_whole: bool) -> bool:
    """Whether a 200 is an error: in the field `error`, or in an envelope that some gateways use instead."""
    if is_error(holder.get("error")):
        return True
    if is_whole:
        return False
    envelope = holder.get("base_resp")  # MiniMax
    code = envelope.get("status_code") if isinstance(envelope, dict) else None
    is_named = any(isinstance(holder.get(name), str) for name in ("message", "msg"))
    return bool(code or holder.get("errors") or (holder.get("code") and is_named))


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
        if isinstance(part, dict)
        and part.get("type", "text") in ("text", "output_text")
        and not part.get("thought")
    )
    return "".join(part for part in parts if isinstance(part, str))


def _cut_or_filtered(choice: dict[str, Any]) -> Kind | None:
    ends = {_end(choice.get(name)) for name in ("finish_reason", "native_finish_reason")}
    if ends & CUT:
        return kinds.CUT_OFF
    return kinds.FILTERED if ends & FILTER else None


def _end(reason: Any) -> str | None:
    """How an answer ended, in lower case, without what follows a colon; None: in no way that can be read."""
    if reason is None:
        return ""
    return reason.partition(":")[0].strip().lower() if isinstance(reason, str) else None


def _incomplete(choice: dict[str, Any], message: dict[str, Any], text: str) -> Kind | None:
    """Why an answer is not to be published; None when it is whole."""
    if kind := _cut_or_filtered(choice):
        return kind
    finish, native = (_end(choice.get(name)) for name in ("finish_reason", "native_finish_reason"))
    if message.get("refusal") and isinstance(message["refusal"], str):
        return kinds.MODEL_REFUSED
    if _refused_in_parts(message.get("content")) or "refusal" in (finish, native):
        return kinds.MODEL_REFUSED
    if not text:
        return kinds.EMPTY_ANSWER
    return None if finish in WHOLE and native not in BROKEN else kinds.BAD_ANSWER


def _refused_in_parts(content: Any) -> bool:
    parts = content if isinstance(content, list) else ()
    return any(isinstance(part, dict) and part.get("type") == "refusal" for part in parts)


def _why_incomplete(kind: Kind, message: dict[str, Any]) -> str:
    if kind is kinds.MODEL_REFUSED and isinstance(message.get("refusal"), str):
        return f"the model refused: {storable(message['refusal'], DETAIL_MAX)}"
    if kind is kinds.BAD_ANSWER:
        return "the answer did not end by itself"
    return kind.title
