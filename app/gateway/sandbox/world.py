"""The sandbox as twitterapi.io and as X, in their real envelopes. Pure: a request in, status and body out."""

from datetime import UTC, datetime
from random import Random
from typing import Any

from app.gateway.sandbox.state import World
from app.gateway.sandbox.writer import write

Answer = tuple[int, dict[str, Any]]
PAGE = 20
OLD_MOMENT = "%a %b %d %H:%M:%S %z %Y"


def face_of(path: str) -> str | None:
    """Return the source that this path belongs to: twitterapi, x, or nobody's here."""
    if path.startswith(("/twitter/", "/oapi/")):
        return "twitterapi"
    return "x" if path.startswith("/2/") else None


def answer(world: World, path: str, query: dict[str, str], headers: dict[str, str]) -> Answer:
    """Return the source's answer."""
    world.requests.append(path)
    if face_of(path) == "x":
        if not headers.get("authorization", "").startswith("Bearer "):
            return 401, {
                "title": "Unauthorized",
                "status": 401,
                "type": "about:blank",
                "detail": "Unauthorized",
            }
        return _x(world, path, query)
    if not headers.get("x-api-key"):
        return 401, {"error": "Unauthorized", "message": "API key is missing"}
    if path == "/oapi/my/info":
        return 200, {"recharge_credits": world.credits}
    if world.credits <= 0:
        said = "Credits is not enough.Please recharge"
        return 402, {"error": "Unauthorized", "message": said}
    user = query.get("userName", "").lower()
    if user in world.missing:
        return 200, {"status": "error", "msg": "user not found", "data": None}
    if path == "/twitter/user/last_tweets":
        tweets = [_tweet(user, n, text) for n, text in enumerate(_texts(world, user)[:PAGE])]
        world.credits -= max(15, 15 * len(tweets))
        data = {"pin_tweet": None, "tweets": tweets}
        return 200, {
            "status": "success",
            "code": 0,
            "msg": "success",
            "data": data,
            "has_next_page": True,
            "next_cursor": "more",
        }
    if path == "/twitter/user/mentions":
        return _mentions(world, user, query)
    return 404, {"detail": "Not Found"}


def _texts(world: World, user: str) -> list[str]:
    if user in world.tweets:
        return world.tweets[user]
    return [write(f"{user}/{number}") for number in range(PAGE)]


def _tweet(user: str, number: int, text: str) -> dict[str, Any]:
    dice = Random(f"{user}/{number}")
    at = datetime.fromtimestamp(1_790_000_000 - 3_600 * number, UTC)
    return {
        "type": "tweet",
        "id": str(1_900_000_000_000_000_000 + dice.randrange(10**15)),
        "text": text,
        "createdAt": at.strftime(OLD_MOMENT),
        "lang": "en",
        "isReply": False,
        "likeCount": dice.randrange(50),
        "author": {"id": "1", "userName": user, "name": user.title()},
        "entities": {},
    }


def _mentions(world: World, user: str, query: dict[str, str]) -> Answer:
    """Newest first, 20 a page; the last page claims that there are more, as the real one may."""
    since = int(query.get("sinceTime") or 0)
    known = [m for m in world.mentions.get(user, []) if _at(m).timestamp() >= since]
    known.sort(key=lambda m: int(m["id"]), reverse=True)
    begin = int(query.get("cursor") or 0)
    page = known[begin : begin + PAGE]
    world.credits -= max(15, 15 * len(page))
    tweets = [
        {
            "id": m["id"],
            "text": m["text"],
            "createdAt": _at(m).strftime(OLD_MOMENT),
            "author": {"id": "9", "userName": m["author"], "name": m["author"]},
        }
        for m in page
    ]
    return 200, {
        "tweets": tweets,
        "has_next_page": bool(page),
        "next_cursor": str(begin + PAGE),
        "status": "success",
        "message": "",
    }


def _at(mention: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(mention["created_at"])


def _x(world: World, path: str, query: dict[str, str]) -> Answer:
    parts = path.strip("/").split("/")
    if parts[1:4] == ["users", "by", "username"] and len(parts) == 5:
        name = parts[4].lower()
        if name in world.missing:
            detail = f"Could not find user with username: [{name}]."
            return 200, {"errors": [{"title": "Not Found Error", "detail": detail}]}
        return 200, {"data": {"id": str(user_number(name)), "name": name, "username": name}}
    if parts[1:2] == ["users"] and parts[3:] == ["mentions"]:
        names = {str(user_number(name)): name for name in world.mentions}
        known = world.mentions.get(names.get(parts[2], ""), [])
        since = int(query.get("since_id") or 0)
        newer = sorted((m for m in known if int(m["id"]) > since), key=lambda m: -int(m["id"]))
        begin, size = int(query.get("pagination_token") or 0), int(query.get("max_results") or 10)
        page = newer[begin : begin + size]
        meta: dict[str, Any] = {"result_count": len(page)}
        if not page:
            return 200, {"meta": meta}
        if len(newer) > begin + size:
            meta["next_token"] = str(begin + size)
        meta |= {"newest_id": page[0]["id"], "oldest_id": page[-1]["id"]}
        authors = sorted({m["author"] for m in page})
        users = [{"id": str(user_number(a)), "name": a, "username": a} for a in authors]
        data = [
            {
                "id": m["id"],
                "text": m["text"],
                "author_id": str(user_number(m["author"])),
                "created_at": m["created_at"],
            }
            for m in page
        ]
        return 200, {"data": data, "includes": {"users": users}, "meta": meta}
    return 404, {"title": "Not Found", "status": 404, "detail": "Not Found", "type": "about:blank"}


def user_number(name: str) -> int:
    """A number for a user, always the same."""
    return Random(name).randrange(10**6, 10**9)
