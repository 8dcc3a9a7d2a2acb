"""The connection to Redis or Valkey that admission uses. (Celery has its own, set in workers.)"""

from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from app.errors import Unreachable
from app.urls import parse_redis


def make_redis(url: str, *, max_connections: int = 64) -> Redis:
    """A client that never replays a command by itself.

    redis-py 8 repeats a timed-out script ten times by default; a script that books a permit must
    not run twice behind our back, so retries are the caller's business.
    """
    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_connect_timeout": 3,
        "socket_timeout": 3,
        "health_check_interval": 10,
        "max_connections": max_connections,
        "retry": Retry(NoBackoff(), 0),
        "client_name": "paceline",
    }
    found = parse_redis(url)
    if found.master:
        timeouts = {"socket_connect_timeout": 3, "socket_timeout": 3}
        sentinel = Sentinel(list(found.hosts), sentinel_kwargs=timeouts)  # type: ignore[no-untyped-call]
        master: Redis = sentinel.master_for(  # type: ignore[no-untyped-call]
            found.master, db=found.db, username=found.username, password=found.password, **options
        )
        return master
    given = found.client
    if socket := given.pop("path", None):
        given["unix_socket_path"] = socket
    return Redis(**given, **options)


def check_redis(client: Redis) -> None:
    """Raise Unreachable with the mend when Redis does not answer."""
    try:
        client.ping()
    except RedisError as error:
        raise Unreachable(
            f"Redis does not answer at {where(client)} ({error}): start it, or correct REDIS_URL"
        ) from None


def where(client: Redis) -> str:
    """The address without its password."""
    kwargs = client.connection_pool.connection_kwargs
    if master := getattr(client.connection_pool, "service_name", None):
        return f"{master}, as its sentinels say"
    path = kwargs.get("path")
    return str(path) if path else f"{kwargs.get('host')}:{kwargs.get('port')}/{kwargs.get('db')}"
