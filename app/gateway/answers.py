"""From an HTTP answer to a Completion or a GatewayFault. Pure; no answer, however odd, escapes it."""

import email.utils
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from typing_extensions import TypeIs

from app.gateway import (
    BadAnswer,
    Completion,
    CreditsExhausted,
    GatewayDown,
    GatewayFault,
    KeyRefused,
    ModelGone,
    RequestRefused,
    Throttled,
    TokenUsage,
)

DETAIL_MAX = 200
RETRY_AFTER_MAX_S = 3_600.0
TOKENS_MAX = 2**31 - 1


def read_answer(body: bytes) -> Completion:
    """The text and usage of a 200; raises BadAnswer when there is no text."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise BadAnswer(f"not JSON: {_shorten(body)}", http_status=200) from None
    usage = _usage(data)
    try:
        choice = data["choices"][0]
        text = choice["message"]["content"]
        finish = choice.get("finish_reason")
    except (TypeError, KeyError, IndexError, AttributeError):
        raise BadAnswer(f"no choices: {_shorten(body)}", http_status=200, usage=usage) from None
    if not isinstance(text, str) or not text.strip():
        hint = " (max_tokens went to thinking)" if finish == "length" else ""
        raise BadAnswer(f"empty content{hint}", http_status=200, usage=usage)
    return Completion(text, usage)


def read_fault(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> GatewayFault:
    """The fault that a status other than 200 means."""
    detail = f"{status}: {_message(body)}"
    if status == 429:
        return Throttled(detail, http_status=429, retry_after_s=_retry_after(headers, now))
    if status == 402 and b"in_flight_budget" in body:
        # OpenRouter's other 402: our own calls under way fill a hold; waiting helps, paying need not
        return Throttled(detail, http_status=402, retry_after_s=_retry_after(headers, now))
    if status == 402:
        return CreditsExhausted(detail, http_status=402)
    if status in (401, 403):
        return KeyRefused(detail, http_status=status)
    if status == 404 or (status == 400 and b"model" in body.lower()):
        return ModelGone(detail, http_status=status)
    if 400 <= status < 500 and status != 408:
        return RequestRefused(detail, http_status=status)
    return GatewayDown(detail, http_status=status)


def _usage(data: Any) -> TokenUsage | None:
    usage = data.get("usage") if isinstance(data, dict) else None
    if not isinstance(usage, dict):
        return None
    tokens_in, tokens_out = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not (_is_count(tokens_in) and _is_count(tokens_out)):
        return None
    cached = _part(usage, "prompt_tokens_details", "cached_tokens", tokens_in)
    reasoning = _part(usage, "completion_tokens_details", "reasoning_tokens", tokens_out)
    return TokenUsage(tokens_in, tokens_out, cached, reasoning)


def _part(usage: dict[str, Any], group: str, name: str, whole: int) -> int | None:
    """A part of a count; None when it is not told, or is more than the whole."""
    details = usage.get(group)
    value = details.get(name) if isinstance(details, dict) else None
    return value if _is_count(value) and value <= whole else None


def _is_count(value: object) -> TypeIs[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= TOKENS_MAX


def _retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds or an HTTP date, capped; None when absent or unreadable."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (email.utils.parsedate_to_datetime(value) - now).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return min(seconds, RETRY_AFTER_MAX_S) if seconds > 0 else None


def _message(body: bytes) -> str:
    """The message of an error body in any of the shapes gateways use."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return _shorten(body)
    for source in (data, data.get("error") if isinstance(data, dict) else None):
        if isinstance(source, str):
            return _storable(source)
        if isinstance(source, dict) and isinstance(source.get("message"), str):
            return _storable(source["message"])
    return _shorten(body)


def _shorten(body: bytes) -> str:
    return _storable(body[:DETAIL_MAX].decode("utf-8", "replace")) or "(empty body)"


def _storable(text: str) -> str:
    """Without what a database refuses: NUL and lone surrogates, which JSON can spell."""
    return text[:DETAIL_MAX].encode("utf-8", "replace").decode().replace("\x00", " ")
