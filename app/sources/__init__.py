"""The world outside: posts and mentions of users on X, read-only, HTTP only.

A source returns checked data or raises a SourceFault, nothing else. Other people's text is data: it is kept
as it is (control characters aside) and framed as such wherever a model sees it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

Pace = Callable[[], None]
"""Waits until the next request may be made."""


@dataclass(frozen=True, slots=True)
class Tweet:
    """A post on X."""

    id: str
    author: str
    text: str
    posted_at: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Mentions, newest first; `is_whole` is False when there may be more than were read."""

    tweets: list[Tweet]
    is_whole: bool = True


class SourceFault(Exception):
    """No usable answer. `code` names why, `retry_after_s` says when asking again makes sense."""

    code = "source_fault"

    def __init__(self, detail: str, *, retry_after_s: float = 300.0) -> None:
        super().__init__(f"{self.code}: {detail}")
        self.retry_after_s = retry_after_s


class SourceRateLimited(SourceFault):
    """429: too many requests."""

    code = "source_rate_limited"


class SourceCreditsExhausted(SourceFault):
    """402, or a usage cap: nothing will work until somebody pays."""

    code = "source_credits_exhausted"


class SourceKeyRefused(SourceFault):
    """401 or 403 about the key."""

    code = "source_key_refused"


class NoSuchUser(SourceFault):
    """The user is unknown, private or suspended."""

    code = "no_such_user"


class SourceDown(SourceFault):
    """5xx, no connection, no answer in time, or an answer that is not what the API promises."""

    code = "source_down"


class StyleSource(Protocol):
    """A source that tells how a user writes."""

    def last_tweets(self, username: str) -> list[Tweet]:
        """The user's newest posts, at most 20; raises SourceFault."""
        ...


class MentionSource(Protocol):
    """A source that tells where an account was mentioned."""

    name: str

    def mentions(self, account: str, since: datetime | None, since_id: str | None) -> Page:
        """Mentions after that point, newest first; raises SourceFault."""
        ...
