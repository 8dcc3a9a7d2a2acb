"""The connection to Redis or Valkey that admission uses. (Celery has its own, set in workers.)"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from app.errors import ConfigError, Unreachable

SENTINEL = "redis+sentinel://"


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
    if watched := parse_sentinel(url):
        timeouts = {"socket_connect_timeout": 3, "socket_timeout": 3}
        sentinel = Sentinel(watched.hosts, sentinel_kwargs=timeouts)  # type: ignore[no-untyped-call]
        master: Redis = sentinel.master_for(  # type: ignore[no-untyped-call]
            watched.master,
            db=watched.db,
            username=watched.username,
            password=watched.password,
            **options,
        )
        return master
    client: Redis = Redis.from_url(url, **options)
    return client


@dataclass(frozen=True, slots=True)
class Watched:
    """A Redis that sentinels watch over: `redis+sentinel://:password@host:26379,host:26379/master/0`."""

    hosts: list[tuple[str, int]]
    master: str
    db: int
    username: str | None
    password: str | None


def parse_sentinel(url: str) -> Watched | None:
    """What such a URL says; None for any other. Raises ConfigError for a broken one."""
    if not url.startswith(SENTINEL):
        return None
    login, at, rest = url.removeprefix(SENTINEL).rpartition("@")
    hosts, _, path = rest.partition("/")
    master, _, db = path.partition("/")
    username, _, password = login.partition(":")
    try:
        pairs = [host.rpartition(":") for host in hosts.split(",")]
        found = Watched(
            hosts=[(host, int(port)) for host, _, port in pairs],
            master=master,
            db=int(db or 0),
            username=unquote(username) or None,
            password=unquote(password) or None if at else None,
        )
    except ValueError:
        found = None
    if found is None or not found.master or not all(host for host, _ in found.hosts):
        raise ConfigError(f"REDIS_URL is no {SENTINEL}:password@host:26379,host:26379/master/0")
    return found


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
