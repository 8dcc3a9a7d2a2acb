"""One request to a source: bounded in time and size, every odd answer a SourceFault."""

import json
from datetime import datetime
from typing import Any

import httpx2

from app.bounded_http import PLAIN, BoundedTransport
from app.clock import utcnow
from app.sources import (
    NoSuchUser,
    Pace,
    SourceCreditsExhausted,
    SourceDown,
    SourceFault,
    SourceKeyRefused,
    SourceRateLimited,
)
from app.sources.tweets import clean

ANSWER_MAX = 2_000_000
DETAIL_MAX = 200
RETRY_MAX_S = 3_600.0


class SourceHttp:
    """GET with a key, at the source's own pace. Safe to share between threads."""

    def __init__(self, base_url: str, headers: dict[str, str], timeout_s: float, pace: Pace) -> None:
        self._pace = pace
        self._client = httpx2.Client(
            base_url=base_url,
            headers=headers | PLAIN,
            transport=BoundedTransport(total_s=timeout_s, bytes_max=ANSWER_MAX),
            timeout=timeout_s,
            trust_env=False,
        )

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """The JSON object that is answered with 200; raises SourceFault for everything else."""
        self._pace()
        try:
            response = self._client.get(path, params=query)
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise SourceDown(clean(f"{type(error).__name__}: {error}")[:DETAIL_MAX]) from None
        body = response.content
        data = _object(body)
        if response.status_code != 200:
            raise read_fault(response.status_code, response.headers, data, body, utcnow())
        if data is None:
            raise SourceDown(f"not a JSON object: {_shorten(body)}")
        return data

    def close(self) -> None:
        """Close connections."""
        self._client.close()


def read_fault(
    status: int, headers: Any, data: dict[str, Any] | None, body: bytes, now: datetime
) -> SourceFault:
    """The fault that a status other than 200 means. Pure."""
    detail = f"{status}: {message(data) or _shorten(body)}"
    if status == 429:
        # X spells a used-up budget as 429, too: no window opens by waiting for it.
        if data and "usage-capped" in str(data.get("type")):
            return SourceCreditsExhausted(detail, retry_after_s=RETRY_MAX_S)
        return SourceRateLimited(detail, retry_after_s=_reset(headers, now))
    if status == 402:
        return SourceCreditsExhausted(detail, retry_after_s=RETRY_MAX_S)
    if status == 401:
        return SourceKeyRefused(detail, retry_after_s=RETRY_MAX_S)
    if status in (403, 404):
        return NoSuchUser(detail, retry_after_s=RETRY_MAX_S)
    return SourceDown(detail)


def message(data: dict[str, Any] | None) -> str:
    """The message of an error in any of the shapes the sources use; empty when there is none."""
    if data is None:
        return ""
    for name in ("message", "msg", "detail", "title", "error"):
        if isinstance(data.get(name), str) and data[name]:
            return clean(data[name])[:DETAIL_MAX]
    errors = data.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        return message(errors[0])
    return ""


def _reset(headers: Any, now: datetime) -> float:
    """Seconds until requests are welcome again: `retry-after`, or the moment X names; else a minute."""
    for name, base in (("retry-after", 0.0), ("x-rate-limit-reset", now.timestamp())):
        try:
            seconds = float(headers[name]) - base
        except (KeyError, ValueError):
            continue
        if 0 < seconds < float("inf"):
            return min(seconds + 1, RETRY_MAX_S)
    return 60.0


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _shorten(body: bytes) -> str:
    return clean(body[:DETAIL_MAX].decode("utf-8", "replace")) or "(empty body)"
