"""From a gateway's error to a GatewayFault. Pure; no error, however odd, escapes it.

An error is told by its status and by the fields that name it (`error.code`, `type`, `status`,
`details[].reason`, ...), never by words within its message: a message may quote the prompt. Where a gateway
says something in words only, the whole message must have the gateway's own form (`_IN_WORDS`).
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from urllib.parse import unquote
from zoneinfo import ZoneInfo

from app import kinds
from app.gateway import UNKNOWN_USAGE, GatewayFault, Usage
from app.gateway.names import (
    IN_WORDS,
    KEY_LIMIT_SAID,
    MODEL_DENIED,
    NAMES,
    PARAMETER_SAID,
    PARAMETERS,
    REGAIN_SAID,
    STATUS_OF_KIND,
    STATUS_OF_NAME,
)
from app.gateway.retry import retry_after_s
from app.kinds import Kind
from app.text import storable

DETAIL_MAX, MESSAGE_MAX = 200, 1_000
GOOGLE_DAY = ZoneInfo("America/Los_Angeles")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,79}")
TELLING = frozenset(
    (
        "code",
        "type",
        "status",
        "reason",
        "reasons",
        "error_type",
        "error_code",
        "quotaid",
        "param",
        "status_code",
    )
)
"""Fields that name an error. Others may quote what somebody wrote."""
HOLDING = frozenset(
    (
        "error",
        "innererror",
        "inner_error",
        "detail",
        "details",
        "metadata",
        "errors",
        "violations",
        "base_resp",
    )
)
"""Fields that hold the same error once more, or a part of it."""


def read_fault(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> GatewayFault:
    """The fault that a status other than 200 means."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    error = _read_error(data) if data is not None else _Error(message=shorten(body))
    return _fault(status, headers, error, now)


def _fault(status: int, headers: Mapping[str, str], error: "_Error", now: datetime) -> GatewayFault:
    kind = _kind(status, error)
    wait_s = retry_after_s(headers, error.holder, now)
    resets_at = _resets_at(kind, error, now)
    if resets_at is None and kind.effect is kinds.Effect.STOP and wait_s is not None:
        resets_at = now + timedelta(seconds=wait_s)
    detail = f"{status}: {error.message[:DETAIL_MAX]}"
    if kind is kinds.PARAMETER_REFUSED:
        detail = f"{error.parameter}: {detail}"
    return GatewayFault(
        kind,
        detail[: DETAIL_MAX + 20],
        http_status=status,
        usage=UNKNOWN_USAGE,
        retry_after_s=wait_s,
        resets_at=resets_at,
    )


def refused_parameter(fault: GatewayFault) -> str:
    """The parameter that a `parameter_refused` is about, by our name for it."""
    return str(fault).partition(":")[0]


def _kind(status: int, error: "_Error") -> Kind:
    """Return the meaning of the answer: by its names first, then by words that are the gateway's own, then by
    status.
    """
    if 400 <= status < 500 and any(MODEL_DENIED.fullmatch(name) for name in error.names):
        return kinds.MODEL_GONE
    for kind, names in NAMES:
        if not names.isdisjoint(error.names) and _fits(kind, status, error):
            return kind
    for at, kind, form in IN_WORDS:
        if status == at and form.fullmatch(error.message):
            return kind
    # A bound on the answer's length is not left out because its value is wrong.
    is_refused = error.parameter != "max_tokens" or _says_parameter(error.message)
    if status in (400, 422) and error.parameter and is_refused:
        return kinds.PARAMETER_REFUSED
    return _by_status(status, error)


def _by_status(status: int, error: "_Error") -> Kind:
    if status == 429:
        is_daily = any("perday" in name or "per_day" in name for name in error.names)
        return kinds.DAILY_LIMIT if is_daily else kinds.RATE_LIMITED
    if error.is_about_model and 400 <= status < 500:
        return kinds.MODEL_GONE
    if status == 403 and error.is_flagged:
        return kinds.PROMPT_FLAGGED
    if error.is_of_provider and status in (401, 403):  # of the provider behind the gateway, not of our key
        return kinds.GATEWAY_DOWN if status == 401 else kinds.REQUEST_REFUSED
    if status == 404 and error.message.lstrip().startswith("<"):  # the page of some server
        return kinds.WRONG_ADDRESS
    by_status = {
        401: kinds.KEY_REFUSED,
        402: kinds.CREDITS_EXHAUSTED,
        403: kinds.FORBIDDEN,
        404: kinds.MODEL_GONE,
        408: kinds.GATEWAY_DOWN,
        410: kinds.MODEL_GONE,
        412: kinds.CREDITS_EXHAUSTED,
        425: kinds.GATEWAY_DOWN,
        498: kinds.GATEWAY_DOWN,
        499: kinds.GATEWAY_DOWN,
        504: kinds.NO_ANSWER,
        524: kinds.NO_ANSWER,
    }
    if status in by_status:
        return by_status[status]
    return kinds.REQUEST_REFUSED if 400 <= status < 500 else kinds.GATEWAY_DOWN


def _fits(kind: Kind, status: int, error: "_Error") -> bool:
    """Whether a name can mean that at this status: 5xx is the gateway's own trouble, whatever its name."""
    match kind:
        case kinds.PARAMETER_REFUSED:
            return status in (400, 422) and error.parameter is not None
        case kinds.KEY_REFUSED:
            return status in (400, 401, 403) and not (error.is_flagged or error.is_about_model)
        case kinds.RATE_LIMITED:
            return status in (402, 429)
        case kinds.FORBIDDEN:
            return status in (400, 403)
        case kinds.DAILY_LIMIT:
            return status == 429
        case kinds.MODEL_GONE:
            return 400 <= status < 500 or status == 503
    return 400 <= status < 500


@dataclass(frozen=True, slots=True)
class _Error:
    """An error body: the status it names, its names in lower case, its message, and itself. `parameter` is
    ours that it is about; `is_of_provider`: a provider behind the gateway said it.
    """

    status: int | None = None
    names: tuple[str, ...] = ()
    message: str = ""
    holder: dict[str, Any] = field(default_factory=dict)
    parameter: str | None = None
    is_about_model: bool = False
    is_flagged: bool = False
    is_of_provider: bool = False


def _read_error(data: Any) -> _Error:
    """Read an error in any of the shapes gateways use."""
    if isinstance(data, list) and data:  # Google's
        data = data[0]
    if not isinstance(data, dict):
        return _Error(message=storable(str(data), MESSAGE_MAX))
    inner = data.get("error")
    error: dict[str, Any] = inner if isinstance(inner, dict) else data
    code = error.get("code", error.get("status"))
    if isinstance(code, str) and code.isascii() and code.isdigit():
        code = int(code[:9])
    is_status = isinstance(code, int) and not isinstance(code, bool) and 400 <= code < 600
    metadata = error.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    message = _message(data)
    named = error.get("param")
    return _Error(
        status=code if is_status else None,
        names=tuple(name.lower() for name in _names(data, 6)),
        message=message,
        holder=error,
        parameter=_parameter(named, data, message),
        is_about_model=named == "model",
        is_flagged=bool(metadata.get("reasons") or metadata.get("flagged_input")),
        is_of_provider="provider_name" in metadata,
    )


def _parameter(named: Any, data: dict[str, Any], message: str) -> str | None:
    """Return the parameter that an error is about, by our name for it."""
    said = [named] if isinstance(named, str) else []
    details = data.get("detail")
    for detail in details[:20] if isinstance(details, list) else ():  # pydantic's
        place = detail.get("loc") if isinstance(detail, dict) else None
        if isinstance(place, list) and place[:1] == ["body"]:
            said += [part for part in place[1:2] if isinstance(part, str)]
    said += _says_parameter(message)
    return next((PARAMETERS[name] for name in said if name in PARAMETERS), None)


def _says_parameter(message: str) -> list[str]:
    found = (form.fullmatch(message) for form in PARAMETER_SAID)
    return [match[1].lower() for match in found if match]


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
                yield from (str(n) for n in found if _is_name(n))


def _is_name(value: Any) -> bool:
    """A word, or a number that is no status."""
    if isinstance(value, int) and not isinstance(value, bool):
        return 600 <= value < 1_000_000
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def _resets_at(kind: Kind, error: _Error, now: datetime) -> datetime | None:
    """When a limit by the calendar begins anew, as far as that can be known."""
    if kind is kinds.DAILY_LIMIT:
        zone = GOOGLE_DAY if any("perday" in name for name in error.names) else UTC
        return _next_day(now, zone)
    if kind is kinds.KEY_LIMIT and (said := REGAIN_SAID.search(error.message)):
        with suppress(ValueError):
            return datetime.fromisoformat(f"{said[1]}T{said[2]}+00:00")
    if kind is kinds.KEY_LIMIT and (said := KEY_LIMIT_SAID.match(error.message)):
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
    errors = data.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else None
    for source in (data.get("error"), data, first, data.get("base_resp")):
        if isinstance(source, str):
            return _plain(source)
        if isinstance(source, dict):
            for name in ("message", "detail", "msg", "status_msg"):
                if isinstance(source.get(name), str) and source[name]:
                    return _plain(source[name])
    return _plain(json.dumps(data))


def _plain(message: str) -> str:
    """As the gateway meant it: some send it as a part of a URL."""
    message = message[:MESSAGE_MAX]
    return storable(unquote(message) if "%20" in message else message, MESSAGE_MAX)


def shorten(body: bytes) -> str:
    """The beginning of a body, as text."""
    return storable(body[:DETAIL_MAX].decode("utf-8", "replace"), DETAIL_MAX) or "(empty body)"


def is_error(value: Any) -> bool:
    """Whether a field of a 200 tells of an error: some gateways always send one, with nothing in it."""
    if isinstance(value, dict):
        return any(held not in (None, "", 0, False, [], {}) for held in value.values())
    return bool(value)


def fault_within(holder: Any, now: datetime, usage: Usage) -> GatewayFault:
    """The fault of an error that came as a 200."""
    error = _read_error(holder)
    fault = _fault(error.status or _status_within(error), {}, error, now)
    return GatewayFault(
        fault.kind,
        f"error in a 200: {fault}"[:DETAIL_MAX],
        http_status=200,
        usage=usage,
        retry_after_s=fault.retry_after_s,
        resets_at=fault.resets_at,
    )


def _status_within(error: _Error) -> int:
    """The status that an error without a number would have come with."""
    for kind, names in NAMES:
        if not names.isdisjoint(error.names) and kind.code in STATUS_OF_KIND:
            return STATUS_OF_KIND[kind.code]
    found = (STATUS_OF_NAME[name] for name in error.names if name in STATUS_OF_NAME)
    if status := next(found, None):
        return status
    return next((at for at, _, form in IN_WORDS if form.fullmatch(error.message)), 500)
