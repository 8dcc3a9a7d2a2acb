"""When a gateway wants to be asked again: by headers, or in the body of its error. Pure."""

import email.utils
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

RETRY_AFTER_MAX_S = 3_600.0
"""A longer wait is cut: one call an hour then looks whether the gateway still means it."""
NUMBER = r"\d{1,15}(?:\.\d{1,15})?"
DURATION = re.compile(rf"(?=\d)(?:({NUMBER})h)?(?:({NUMBER})m)?(?:({NUMBER})s)?(?:({NUMBER})ms)?")
RESETS = ("x-ratelimit-reset", "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens")
LATER_THAN = 1_000_000_000
"""A number above this is a moment (seconds or milliseconds since 1970), not a duration."""


def retry_after_s(headers: Mapping[str, str], error: Mapping[str, Any], now: datetime) -> float | None:
    """Seconds until the next try is welcome, at most an hour; None when nothing readable is said.

    The longest of what is said counts: a header for proxies may be shorter than the quota's own delay.
    """
    found = [seconds for seconds in _said(headers, error, now) if seconds is not None and seconds > 0]
    if not found:  # when the whole limit is there again, which may be later than one call needs
        resets = (_seconds(headers.get(name), now) for name in RESETS)
        found = [seconds for seconds in resets if seconds is not None and seconds > 0]
    return min(max(found), RETRY_AFTER_MAX_S) if found else None


def _said(headers: Mapping[str, str], error: Mapping[str, Any], now: datetime) -> Iterator[float | None]:
    metadata = error.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    within = metadata.get("headers")
    within = within if isinstance(within, dict) else {}
    lower = {str(name).lower(): value for name, value in within.items()}
    for named in (headers, lower):
        yield _seconds(named.get("retry-after"), now)
        if (ms := _number(named.get("retry-after-ms"))) is not None:
            yield ms / 1000
    yield _seconds(lower.get("x-ratelimit-reset"), now)
    for name in ("retry_after", "retry_after_seconds"):
        yield _seconds(error.get(name), now)
        yield _seconds(metadata.get(name), now)
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and str(detail.get("@type", "")).endswith("RetryInfo"):
            yield _duration(str(detail.get("retryDelay")))


def _duration(value: str) -> float | None:
    """Seconds of `34s`, `6m0s` or `1337.18ms`."""
    said = DURATION.fullmatch(value)
    if said is None:
        return None
    sizes = zip(said.groups(), (3_600, 60, 1, 0.001), strict=True)
    return sum(float(part) * size for part, size in sizes if part)


def _seconds(value: Any, now: datetime) -> float | None:
    """Seconds, a duration like `6m0s`, a moment since 1970 in seconds or milliseconds, or an HTTP date."""
    number = _number(value)
    if number is not None:
        if number > LATER_THAN * 1000:
            return number / 1000 - now.timestamp()
        return number - now.timestamp() if number > LATER_THAN else number
    if isinstance(value, str) and (said := _duration(value.strip())) is not None:
        return said
    try:
        moment = email.utils.parsedate_to_datetime(value)
        # The oldest of the three forms of a date has no zone, and means UTC.
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (moment - now).total_seconds()
    except (ValueError, TypeError, OverflowError, AttributeError, IndexError):
        return None


def _number(value: Any) -> float | None:
    try:
        is_plain = not isinstance(value, str) or "_" not in value  # Python alone takes 1_000
        number = float(value) if is_plain and isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):
        return None
    if number is None or isinstance(value, bool) or not 0 <= number < float("inf"):
        return None
    return number
