"""twitterapi.io: a user's newest posts, mentions of an account, what is left of our credits.

It answers in several envelopes, and with errors inside HTTP 200; see `read_tweets` and `_check`.
"""

from datetime import datetime
from typing import Any

from app.sources import NoSuchUser, Pace, Page, SourceCreditsExhausted, SourceDown, Tweet
from app.sources.http import SourceHttp, message
from app.sources.tweets import make_tweet

PAGE = 20
PAGES_MAX = 5
REQUESTS_PER_S = ((50_000, 20.0), (10_000, 10.0), (5_000, 6.0), (1_000, 3.0), (0, 0.2))
"""Return the rate that a balance of so many credits allows, by the vendor's table."""


class TwitterApi:
    """Reads from twitterapi.io. Every answered request is billed, so none is repeated after a 200."""

    name = "twitterapi"

    def __init__(self, base_url: str, key: str, timeout_s: float, pace: Pace) -> None:
        self._http = SourceHttp(base_url, {"X-API-Key": key}, timeout_s, pace)

    def last_tweets(self, username: str) -> list[Tweet]:
        """One page, which is 20: the user's newest posts, without replies; raises SourceFault."""
        data = self._http.get("/twitter/user/last_tweets", userName=username)
        _check(data)
        return read_tweets(data)[:PAGE]

    def mentions(self, account: str, since: datetime | None, since_id: str | None) -> Page:
        """Mentions since that moment, newest first; raises SourceFault."""
        query = {"userName": account}
        if since is not None:
            query["sinceTime"] = str(int(since.timestamp()))
        found: list[Tweet] = []
        cursor = ""
        for _ in range(PAGES_MAX):
            more = {"cursor": cursor} if cursor else {}
            data = self._http.get("/twitter/user/mentions", **query, **more)
            _check(data)
            tweets = read_tweets(data)
            found += tweets
            following = data.get("next_cursor")
            # `has_next_page` may be true with nothing behind it.
            is_last = not (tweets and data.get("has_next_page") is True)
            if is_last or not isinstance(following, str) or following in ("", cursor):
                return Page(found)
            cursor = following
        return Page(found, is_whole=False)

    def credits(self) -> int:
        """Return the credits that are left; raises SourceFault."""
        left = self._http.get("/oapi/my/info").get("recharge_credits")
        if not isinstance(left, int) or isinstance(left, bool):
            raise SourceDown("no credits in the answer")
        return left

    def close(self) -> None:
        """Close connections."""
        self._http.close()


def requests_per_s(credits: int | None) -> float:
    """How often we may ask with such a balance; the slowest when nobody knows."""
    return next(rate for least, rate in REQUESTS_PER_S if (credits or 0) >= least)


def _check(data: dict[str, Any]) -> None:
    """Errors come inside HTTP 200, too."""
    if data.get("status") != "error" and "error" not in data:
        return
    said = message(data) or "an error without a message"
    if "credit" in said.lower():
        raise SourceCreditsExhausted(said, retry_after_s=3_600)
    if any(word in said.lower() for word in ("not found", "suspended", "protected", "private")):
        raise NoSuchUser(said, retry_after_s=3_600)
    raise SourceDown(said)


def read_tweets(data: dict[str, Any]) -> list[Tweet]:
    """The posts in an answer, in any of its envelopes; what is no post is left out. Pure."""
    inner = data.get("data")
    for listed in (inner.get("tweets") if isinstance(inner, dict) else None, inner, data.get("tweets")):
        if isinstance(listed, list):
            return [tweet for item in listed if (tweet := _tweet(item)) is not None]
    raise SourceDown("no list of tweets in the answer")


def _tweet(item: Any) -> Tweet | None:
    if not isinstance(item, dict):
        return None
    author = item.get("author")
    name = author.get("userName") if isinstance(author, dict) else None
    return make_tweet(item.get("id"), name, item.get("text"), item.get("createdAt"))
