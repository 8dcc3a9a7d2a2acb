"""From a gateway's error to a GatewayFault. Pure; no error, however odd, escapes it.

An error is told by its status and by the fields that name it (`error.code`, `type`, `status`,
`details[].reason`, ...), never by words within its message: a message may quote the prompt. Where a gateway
says something in words only, the whole message must have the gateway's own form (`_IN_WORDS`).
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from app import kinds
from app.gateway import UNKNOWN_USAGE, GatewayFault, Usage
from app.gateway.retry import retry_after_s
from app.kinds import Kind
from app.text import storable

DETAIL_MAX = 200
GOOGLE_DAY = ZoneInfo("America/Los_Angeles")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,79}")
TELLING = frozenset(
    ("code", "type", "status", "reason", "reasons", "error_type", "error_code", "quotaid", "param")
)
"""Fields that name an error. Others may quote what somebody wrote."""
HOLDING = frozenset(
    ("error", "innererror", "inner_error", "details", "metadata", "errors", "violations")
)
"""Fields that hold the same error once more, or a part of it."""

_NAMES: tuple[tuple[Kind, frozenset[str]], ...] = (
    (kinds.RATE_LIMITED, frozenset(("in_flight_budget", "in_flight_budget_exceeded"))),
    (kinds.CREDITS_EXHAUSTED, frozenset((
        "insufficient_quota", "payment_required", "insufficient_credits", "insufficient_balance",
        "insufficient_funds", "insufficient_user_quota", "billing_hard_limit_reached", "billing_not_active",
        "billing_error", "credits_exhausted", "quota_exhausted", "arrearage",
    ))),
    (kinds.KEY_LIMIT, frozenset(("key_limit_exceeded", "budget_exceeded"))),
    (kinds.KEY_REFUSED, frozenset((
        "api_key_invalid", "invalid_api_key", "invalid_key", "invalid_authentication", "authentication_error",
        "invalid_x_api_key", "unauthenticated", "unauthorized", "api_key_expired", "expired_api_key",
        "account_deactivated", "api_key_service_blocked", "token_not_found_in_db", "permission_denied",
        "permission_error",
    ))),
    (kinds.PROMPT_FLAGGED, frozenset((
        "content_policy_violation", "content_filter", "responsibleaipolicyviolation", "content_policy",
        "moderation", "moderation_blocked", "prohibited_content", "data_inspection_failed",
        "sensitive_words_detected", "input_flagged", "safety", "blocklist",
    ))),
    (kinds.MODEL_GONE, frozenset((
        "model_not_found", "model_not_available", "model_not_supported", "model_deprecated",
        "model_decommissioned", "model_retired", "deploymentnotfound", "deprecated_model", "invalid_model",
        "unknown_model", "model_not_found_error",
    ))),
    (kinds.PARAMETER_REFUSED, frozenset((
        "unsupported_parameter", "unsupported_value", "unknown_parameter",
    ))),
)  # fmt: skip
"""What the names mean, in this order: the first that is found decides."""

_STATUS_OF_NAME = {
    "resource_exhausted": 429, "rate_limit_exceeded": 429, "rate_limit_error": 429, "too_many_requests": 429,
    "unauthenticated": 401, "not_found": 404, "unavailable": 503, "overloaded_error": 503, "overloaded": 503,
    "internal": 500, "api_error": 500, "server_error": 500, "internal_server_error": 500,
    "deadline_exceeded": 504, "invalid_argument": 400, "invalid_request_error": 400, "bad_request": 400,
}  # fmt: skip
"""The status of an error that came within a 200, where it gives no number."""

_KEY_LIMIT_SAID = re.compile(r"Key limit exceeded(?: \((daily|weekly|monthly|total) limit\))?")
_IN_WORDS: tuple[tuple[int, Kind, "re.Pattern[str]"], ...] = (
    (403, kinds.KEY_LIMIT, re.compile(_KEY_LIMIT_SAID.pattern + r"(?:[.;:,] .*|\.)?", re.S)),
    (400, kinds.MODEL_GONE, re.compile(r"\S+ is not a valid model ID\.?")),
    (429, kinds.DAILY_LIMIT, re.compile(r"Rate limit exceeded: free-models-per-day\b.*", re.S)),
)
"""OpenRouter says these in words only. The whole message must have this form."""


def read_fault(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> GatewayFault:
    """The fault that a status other than 200 means."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    error = _read_error(data) if data is not None else _Error(None, (), shorten(body), {}, None)
    return _fault(status, headers, error, now)


def _fault(status: int, headers: Mapping[str, str], error: "_Error", now: datetime) -> GatewayFault:
    kind = _kind(status, error)
    wait_s = retry_after_s(headers, error.holder, now)
    resets_at = _resets_at(kind, error, now)
    if resets_at is None and kind.effect is kinds.Effect.STOP and wait_s is not None:
        resets_at = now + timedelta(seconds=wait_s)
    detail = f"{status}: {error.message}"
    if error.parameter:
        detail = f"{error.parameter}: {detail}"
    return GatewayFault(
        kind, detail[: DETAIL_MAX + 20], http_status=status, usage=UNKNOWN_USAGE,
        retry_after_s=wait_s, resets_at=resets_at,
    )  # fmt: skip


def refused_parameter(fault: GatewayFault) -> str:
    """The parameter that a `parameter_refused` is about."""
    return str(fault).partition(":")[0]


def _kind(status: int, error: "_Error") -> Kind:
    """What the answer means: by its names first, then by words that are the gateway's own, then by status."""
    for kind, names in _NAMES:
        if not names.isdisjoint(error.names) and _fits(kind, status, error):
            return kind
    for at, kind, form in _IN_WORDS:
        if status == at and form.fullmatch(error.message):
            return kind
    if status == 429:
        is_daily = any("perday" in name or "per_day" in name for name in error.names)
        return kinds.DAILY_LIMIT if is_daily else kinds.RATE_LIMITED
    by_status = {
        401: kinds.KEY_REFUSED, 402: kinds.CREDITS_EXHAUSTED, 403: kinds.FORBIDDEN, 404: kinds.MODEL_GONE,
        408: kinds.GATEWAY_DOWN, 410: kinds.MODEL_GONE, 425: kinds.GATEWAY_DOWN,
    }  # fmt: skip
    if status in by_status:
        return kinds.PROMPT_FLAGGED if status == 403 and error.is_flagged else by_status[status]
    if 400 <= status < 500:
        return kinds.MODEL_GONE if error.parameter == "model" else kinds.REQUEST_REFUSED
    return kinds.GATEWAY_DOWN


def _fits(kind: Kind, status: int, error: "_Error") -> bool:
    """Whether a name can mean that at this status: 5xx is the gateway's own trouble, whatever its name."""
    if kind is kinds.PARAMETER_REFUSED:
        return status in (400, 422) and error.parameter in PARAMETERS
    if kind is kinds.KEY_REFUSED:
        return status in (400, 401, 403) and not error.is_flagged
    if kind is kinds.RATE_LIMITED:
        return status in (402, 429)
    return 400 <= status < 500


PARAMETERS = frozenset(
    ("max_tokens", "temperature", "reasoning", "reasoning_effort", "response_format")
)
"""What a request can do without."""


@dataclass(frozen=True, slots=True)
class _Error:
    """An error body: the status it names, its names in lower case, its message, and itself."""

    status: int | None
    names: tuple[str, ...]
    message: str
    holder: dict[str, Any]
    parameter: str | None
    is_flagged: bool = False


def _read_error(data: Any) -> _Error:
    """Read an error in any of the shapes gateways use."""
    if isinstance(data, list) and data:  # Google's
        data = data[0]
    if not isinstance(data, dict):
        return _Error(None, (), storable(str(data), DETAIL_MAX), {}, None)
    inner = data.get("error")
    error: dict[str, Any] = inner if isinstance(inner, dict) else data
    names = tuple(name.lower() for name in _names(data, 6))
    code = error.get("code", error.get("status"))
    if isinstance(code, str) and code.isascii() and code.isdigit():
        code = int(code[:9])
    is_status = isinstance(code, int) and not isinstance(code, bool) and 400 <= code < 600
    metadata = error.get("metadata")
    is_flagged = isinstance(metadata, dict) and bool(
        metadata.get("reasons") or metadata.get("flagged_input")
    )
    parameter = error.get("param")
    return _Error(
        code if is_status else None,
        names,
        _message(data),
        error,
        parameter if isinstance(parameter, str) and NAME.fullmatch(parameter) else None,
        is_flagged,
    )


def _names(value: Any, depth: int) -> Iterator[str]:
    """The names that an error goes by, from the fields that hold names."""
    if not depth:
        return
    if isinstance(value, list):
        for item in value[:20]:
            yield from _names(item, depth - 1)
    elif isinstance(value, dict):
        for field, held in list(value.items())[:50]:
            if field.lower() in HOLDING and not isinstance(held, str):
                yield from _names(held, depth - 1)
            elif field.lower() in TELLING:
                found = held if isinstance(held, list) else [held]
                yield from (n for n in found if isinstance(n, str) and NAME.fullmatch(n))


def _resets_at(kind: Kind, error: _Error, now: datetime) -> datetime | None:
    """When a limit by the calendar begins anew, as far as that can be known."""
    if kind is kinds.DAILY_LIMIT:
        zone = GOOGLE_DAY if any("perday" in name for name in error.names) else UTC
        return _next_day(now, zone)
    if kind is kinds.KEY_LIMIT and (said := _KEY_LIMIT_SAID.match(error.message)):
        tomorrow = _next_day(now, UTC)
        match said[1]:
            case "daily":
                return tomorrow
            case "weekly":
                return tomorrow + timedelta(days=-tomorrow.weekday() % 7)
            case "monthly":
                return (
                    (tomorrow.replace(day=1) + timedelta(days=32)).replace(day=1)
                    if (tomorrow.day != 1)
                    else tomorrow
                )
    return None


def _next_day(now: datetime, zone: tzinfo) -> datetime:
    local = now.astimezone(zone) + timedelta(days=1)
    return local.replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)


def _message(data: dict[str, Any]) -> str:
    """The message of an error body."""
    for source in (data.get("error"), data):
        if isinstance(source, str):
            return storable(source, DETAIL_MAX)
        if isinstance(source, dict):
            for name in ("message", "detail", "msg"):
                if isinstance(source.get(name), str) and source[name]:
                    return storable(source[name], DETAIL_MAX)
    return storable(json.dumps(data), DETAIL_MAX)


def shorten(body: bytes) -> str:
    """The beginning of a body, as text."""
    return storable(body[:DETAIL_MAX].decode("utf-8", "replace"), DETAIL_MAX) or "(empty body)"


def fault_within(holder: dict[str, Any], now: datetime, usage: Usage) -> GatewayFault:
    """The fault of an error that came as a 200."""
    error = _read_error(holder)
    status = error.status
    if status is None:
        found = (_STATUS_OF_NAME[name] for name in error.names if name in _STATUS_OF_NAME)
        status = next(found, 500)
    fault = _fault(status, {}, error, now)
    return GatewayFault(
        fault.kind, f"error in a 200: {fault}"[:DETAIL_MAX], http_status=200, usage=usage,
        retry_after_s=fault.retry_after_s, resets_at=fault.resets_at,
    )  # fmt: skip
