"""When a gateway wants to be asked again: by headers, or in the body of its error. Pure."""

import email.utils
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

RETRY_AFTER_MAX_S = 3_600.0
"""A longer wait is cut: one call an hour then looks whether the gateway still means it."""
DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
LATER_THAN = 1_000_000_000
"""A number above this is a moment (seconds or milliseconds since 1970), not a duration."""


def retry_after_s(
    headers: Mapping[str, str], error: Mapping[str, Any], now: datetime
) -> float | None:
    """Seconds until the next try is welcome, at most an hour; None when nothing readable is said.

    The longest of what is said counts: a header for proxies may be shorter than the quota's own delay.
    """
    found = [
        seconds for seconds in _said(headers, error, now) if seconds is not None and seconds > 0
    ]
    return min(max(found), RETRY_AFTER_MAX_S) if found else None


def _said(
    headers: Mapping[str, str], error: Mapping[str, Any], now: datetime
) -> Iterator[float | None]:
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
            said = DURATION.fullmatch(str(detail.get("retryDelay")))
            yield float(said[1]) if said else None


def _seconds(value: Any, now: datetime) -> float | None:
    """Seconds, a moment since 1970 in seconds or milliseconds, or an HTTP date."""
    number = _number(value)
    if number is not None:
        if number > LATER_THAN * 1000:
            return number / 1000 - now.timestamp()
        return number - now.timestamp() if number > LATER_THAN else number
    try:
        return (email.utils.parsedate_to_datetime(value) - now).total_seconds()
    except (ValueError, TypeError, OverflowError, AttributeError, IndexError):
        return None


def _number(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):
        return None
    if number is None or isinstance(value, bool) or not 0 <= number < float("inf"):
        return None
    return number
