"""Checking what a source says is a post. Pure; whatever it says, nothing is raised."""

from datetime import UTC, datetime
from typing import Any

from app.sources import Tweet

ID_MAX, TEXT_MAX, NAME_MAX = 19, 2_000, 50
SHAPES = ("%a %b %d %H:%M:%S %z %Y", None)
"""How moments are spelt: the old API's way, and ISO."""
HARMFUL = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 127], " ")
LONG_AGO = datetime(2006, 3, 21, tzinfo=UTC)


def make_tweet(tweet_id: Any, author: Any, text: Any, posted_at: Any) -> Tweet | None:
    """A post, or None when it has no id that is a number, or no text."""
    if isinstance(tweet_id, int):
        tweet_id = str(tweet_id)
    if not (isinstance(tweet_id, str) and tweet_id.isascii() and tweet_id.isdigit()):
        return None
    if len(tweet_id) > ID_MAX or not isinstance(text, str) or not clean(text):
        return None
    name = clean(author)[:NAME_MAX] if isinstance(author, str) else ""
    return Tweet(tweet_id, name, clean(text), _moment(posted_at))


def clean(text: str) -> str:
    """Text that any store takes: without control characters and lone surrogates."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return whole.translate(HARMFUL).strip()[:TEXT_MAX]


def _moment(value: Any) -> datetime:
    """When it was posted; long ago when nobody says, so that it never hides newer ones."""
    for shape in SHAPES:
        try:
            # An answer without a zone is no moment, and is left out below.
            at = datetime.strptime(value, shape) if shape else datetime.fromisoformat(value)  # noqa: DTZ007
            if at.tzinfo is not None:
                return at.astimezone(UTC)
        except (TypeError, ValueError, OverflowError):
            continue
    return LONG_AGO
