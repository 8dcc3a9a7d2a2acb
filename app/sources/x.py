"""X's own API: mentions of an account, for when twitterapi.io does not answer. Read-only."""

from datetime import datetime
from typing import Any

from app.sources import NoSuchUser, Pace, Page, SourceDown, Tweet
from app.sources.http import SourceHttp, message
from app.sources.tweets import make_tweet

PAGE = 100
PAGES_MAX = 8
"""Only the newest 800 mentions can be reached."""


class XApi:
    """Reads from X API v2 with an app's bearer token. Reads are billed by the post."""

    name = "x"

    def __init__(self, base_url: str, token: str, timeout_s: float, pace: Pace) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self._http = SourceHttp(base_url, headers, timeout_s, pace)
        self._ids: dict[str, str] = {}

    def mentions(self, account: str, since: datetime | None, since_id: str | None) -> Page:
        """Mentions newer than `since_id`, newest first; raises SourceFault."""
        path = f"/2/users/{self._user_id(account)}/mentions"
        query = {
            "max_results": str(PAGE),
            "tweet.fields": "created_at,author_id",
            "expansions": "author_id",
            "user.fields": "username",
        }
        if since_id:
            query["since_id"] = since_id
        found: list[Tweet] = []
        for _ in range(PAGES_MAX):
            data = self._http.get(path, **query)
            found += read_mentions(data)
            meta = data.get("meta")
            token = meta.get("next_token") if isinstance(meta, dict) else None
            if not isinstance(token, str) or token == query.get("pagination_token"):
                return Page(found)
            query["pagination_token"] = token
        return Page(found, is_whole=False)

    def _user_id(self, account: str) -> str:
        known = self._ids.get(account)
        if known is None:
            data = self._http.get(f"/2/users/by/username/{account}").get("data")
            known = data.get("id") if isinstance(data, dict) else None
            if not (isinstance(known, str) and known.isascii() and known.isdigit()):
                raise NoSuchUser(f"X knows no user {account}", retry_after_s=3_600)
            self._ids[account] = known
        return known

    def close(self) -> None:
        """Close connections."""
        self._http.close()


def read_mentions(data: dict[str, Any]) -> list[Tweet]:
    """The posts in an answer; there is no `data` when there are none. Pure."""
    listed = data.get("data", [])
    if not isinstance(listed, list) or ("data" not in data and "meta" not in data):
        raise SourceDown(message(data) or "no posts in the answer")
    includes = data.get("includes")
    users = includes.get("users") if isinstance(includes, dict) else None
    names = {
        user["id"]: user["username"]
        for user in (users if isinstance(users, list) else [])
        if isinstance(user, dict)
        and isinstance(user.get("id"), str)
        and isinstance(user.get("username"), str)
    }
    posts = [item for item in listed if isinstance(item, dict)]
    found = [
        make_tweet(
            item.get("id"), names.get(str(item.get("author_id"))), item.get("text"), item.get("created_at")
        )
        for item in posts
    ]
    return [tweet for tweet in found if tweet is not None]
