"""The composition root: settings in, everything that works with them out. Assembles, decides nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import entry_points
from threading import Event
from typing import Any
from uuid import UUID

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.admission.controller import Admission, Spent, key_fingerprint
from app.admission.limits import Limits, read_limits
from app.admission.pace import wait_for_turn
from app.admission.scripts import Windows
from app.clock import utcnow
from app.db import make_engine
from app.embedded import running
from app.errors import ConfigError
from app.redis_client import make_redis
from app.runs.heartbeat import Heartbeat
from app.runs.outside import credits_left
from app.runs.services import Services, Sources
from app.settings import Settings
from app.sources import Pace, SourceDown, SourceRateLimited
from app.sources.twitterapi import TwitterApi, requests_per_s
from app.sources.x import XApi
from app.usage.quotas import tokens_by_agent
from app.usage.reports import spent_by_community


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the servers are. `gateway_url` is None when nothing says."""

    database_url: str
    redis_url: str
    gateway_url: str | None


def find_addresses(settings: Settings) -> Addresses:
    """The configured servers, else those that a running `paceline up` has in its home."""
    embedded = running(settings.home)
    database_url = settings.database_url and settings.database_url.get_secret_value()
    redis_url = settings.redis_url and settings.redis_url.get_secret_value()
    sandbox = settings.home / "sandbox.url"
    gateway_url = settings.gateway_url
    if gateway_url is None and sandbox.exists():
        gateway_url = sandbox.read_text()
    return Addresses(
        database_url or embedded.database_url or _missing(settings, "DATABASE_URL"),
        redis_url or embedded.redis_url or _missing(settings, "REDIS_URL"),
        gateway_url,
    )


def _missing(settings: Settings, name: str) -> str:
    raise ConfigError(
        f"{name} is not set and no `paceline up` runs in {settings.home.absolute()}: "
        f"start `make up` there, or set {name}"
    )


def require_gateway(addresses: Addresses) -> None:
    """Raise ConfigError when there is no gateway to call."""
    if addresses.gateway_url is None:
        raise ConfigError(
            "no gateway to call: set LOVABLE_API_KEY or PACELINE_GATEWAY__BASE_URL, "
            "or use the sandbox of `make up`"
        )


CONNECTIONS = 16
"""To PostgreSQL, however many threads wait for the gateway: each needs one for a millisecond at a time."""


NO_GATEWAY = "http://127.0.0.1:9/v1"


def build(settings: Settings, *, needs_gateway: bool = True, engine: Engine | None = None) -> Services:
    """Assemble the services, around an engine if there is one already. Nothing connects before it is used.
    Raises ConfigError when there is no gateway to call, unless none is needed.
    """
    # The openai client takes half a second to load, which most commands need not wait for.
    from app.gateway.client import OpenAIGateway  # noqa: PLC0415

    addresses = find_addresses(settings)
    if needs_gateway:
        require_gateway(addresses)
    threads, stopping = settings.worker.threads, Event()
    redis = make_redis(addresses.redis_url, max_connections=threads + 10)
    engine = engine or make_engine(addresses.database_url)
    return Services(
        settings=settings,
        engine=engine,
        autocommit=make_engine(addresses.database_url, pool_size=min(threads, CONNECTIONS), autocommit=True),
        redis=redis,
        gateway=OpenAIGateway(
            addresses.gateway_url or NO_GATEWAY, settings.gateway_key, settings.gateway, connections=threads
        ),
        admission=build_admission(settings, engine, redis, addresses.gateway_url),
        heartbeat=Heartbeat(engine, timedelta(seconds=settings.worker.lease_s)),
        sources=build_sources(settings, engine, redis, stopping),
        stopping=stopping,
    )


X_INTERVAL_S = 2.0
"""450 requests in 15 minutes is what X allows an app."""


def build_sources(settings: Settings, engine: Engine, redis: Redis, stopping: Event) -> Sources:
    """The sources there are keys for, each at its own pace."""
    given = settings.sources

    def twitterapi_interval_s() -> float:
        with engine.connect() as connection:
            return 1 / requests_per_s(credits_left(connection))

    def pace(name: str, interval_s: Callable[[], float]) -> Pace:
        def wait() -> None:
            try:
                is_our_turn = wait_for_turn(redis, name, interval_s(), stopping)
            except (RedisError, SQLAlchemyError) as error:
                raise SourceDown(f"not asked: {type(error).__name__}") from None
            if not is_our_turn:
                raise SourceRateLimited("not asked: others are before us", retry_after_s=60)

        return wait

    twitterapi = x = None
    if key := settings.twitterapi_io_key:
        twitterapi = TwitterApi(
            given.twitterapi_url,
            key.get_secret_value(),
            given.timeout_s,
            pace("twitterapi", twitterapi_interval_s),
        )
    if token := settings.x_bearer_token:
        x = XApi(given.x_url, token.get_secret_value(), given.timeout_s, pace("x", lambda: X_INTERVAL_S))
    return Sources(twitterapi, x)


def build_admission(settings: Settings, engine: Engine, redis: Redis, gateway_url: str | None) -> Admission:
    """Admission with what it reads from Postgres when Redis knows nothing."""

    def limits() -> Limits:
        with engine.begin() as connection:
            return read_limits(connection, settings.limits)

    def spent(window: Windows) -> Spent:
        now = utcnow() + timedelta(minutes=1)
        with engine.connect() as connection:
            starts = (window.day_start, window.month_start)
            tokens = tokens_by_agent(connection, window.day_start, settings.zone)
            day, month = spent_by_community(connection, starts, now, settings.zone)
            return Spent(tokens, day, month)

    return Admission(
        redis,
        read_limits=limits,
        read_spent=spent,
        zone=settings.zone,
        key_fingerprint=key_fingerprint(gateway_url or "", settings.gateway_key),
        call_s=settings.gateway.longest_call_s,
    )


def workers_entry(name: str) -> Callable[..., Any]:
    """A function of the workers, found by entry point: the program itself knows no Celery."""
    (entry,) = entry_points(group="paceline.workers", name=name)
    function: Callable[..., Any] = entry.load()
    return function


def publish(run_ids: Sequence[UUID]) -> None:
    """Tell the workers that these committed runs wait."""
    workers_entry("publish")(run_ids)
