"""How `doctor` knows that servers serve us: it does what Paceline does, on keys of its own."""

from collections.abc import Callable
from uuid import uuid4

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine, text

from app.admission.scripts import load
from app.redis_faults import code_of

QUEUES, FLEET = "paceline:", "{paceline}:"
"""Prefix of every key: Celery's queues, and admission's state."""
PATTERNS = ("paceline:/0.celery.pidbox", "paceline:/0.celeryev/*")
"""Channels that workers and Flower subscribe to, in database 0. A right to a pattern names it literally."""
ACL = (
    "~paceline:* ~{paceline}:* &paceline:* "
    + " ".join(f"&{pattern}" for pattern in PATTERNS)
    + " +@all -@admin -@dangerous +info"
)
"""The rights that a user of Redis needs."""


class Refused(Exception):
    """A command that Redis refuses; the message says which."""


def prove_redis(client: Redis) -> list[str]:
    """Publish and take a message, subscribe, and run each script; returns what was done. Raises Refused."""
    scratch = uuid4().hex
    done = []
    for what, proof in _PROOFS.items():
        keys: list[str] = []
        try:
            proof(client, scratch, keys)
        except RedisError as error:
            raise Refused(f"{what} is refused ({code_of(error)} {error})"[:300]) from None
        finally:
            _clean(client, keys)
        done.append(what)
    return done


def _clean(client: Redis, keys: list[str]) -> None:
    try:
        if keys:
            client.delete(*keys)
    except RedisError:
        return  # each key ends by itself after a minute


def _queue(client: Redis, scratch: str, keys: list[str]) -> None:
    queue = f"{QUEUES}doctor:{scratch}"
    keys.append(queue)
    client.lpush(queue, "a message")
    client.expire(queue, 60)
    if client.brpop([queue], timeout=1) is None:
        raise RedisError("a message was published and cannot be taken")
    client.zadd(queue, {"a": 1})
    client.zremrangebyscore(queue, 0, 2)
    client.sadd(queue, "a")
    client.smembers(queue)


def _channel(client: Redis, scratch: str, _: list[str]) -> None:
    channel = f"{QUEUES}doctor:{scratch}"
    subscription = client.pubsub()  # type: ignore[no-untyped-call]
    try:
        subscription.subscribe(channel)
        subscription.get_message(timeout=1)
        client.publish(channel, "a word")
        if subscription.get_message(timeout=1) is None:
            raise RedisError("what was published on a channel does not arrive")
        database = client.connection_pool.connection_kwargs.get("db") or 0
        for pattern in PATTERNS:
            subscription.psubscribe(pattern.replace("/0.", f"/{database}."))
            subscription.get_message(timeout=1)
    finally:
        subscription.close()


def _scripts(client: Redis, scratch: str, keys: list[str]) -> None:
    own = [f"{FLEET}doctor:{scratch}:{n}" for n in range(8)]
    keys += own
    load(client, "configure")(keys=own[:5], args=[1, 4000, 1, 5_000_000, 0, 0, 0, 0, 0, ""])
    client.hset(own[5], "seeded", 1)
    client.hset(own[7], "seeded", 1)
    for key in (own[0], own[5], own[7]):
        client.expire(key, 60)
    day = "2000-01-01"
    request: list[str | int] = [scratch, "agent", 0, 1, 0, 0, -1, day, 1, 1]
    request += [1_000_000, "key", "model", "-", 0, 0, 1]
    load(client, "admit")(keys=own, args=request)
    settled: list[str | int] = [scratch, "void", 0, 0, day, 0, "key", "model", "", 0, 1, "run"]
    load(client, "settle")(keys=own, args=settled)
    load(client, "sweep")(keys=own, args=[day, 1])


_PROOFS: dict[str, Callable[[Redis, str, list[str]], None]] = {
    "a queue": _queue,
    "a channel": _channel,
    "admission's scripts": _scripts,
}


def prove_postgres(engine: Engine) -> None:
    """Write a row and take it back; raises SQLAlchemyError."""
    with engine.connect() as connection:
        transaction = connection.begin()
        connection.execute(
            text("insert into paceline.jobs (name, done_at, result) values (:name, now(), '')"),
            {"name": f"doctor.{uuid4().hex}"},
        )
        transaction.rollback()


def is_cluster(client: Redis) -> bool:
    """Whether this Redis is a node of a cluster: there a queue and its companions lie on several nodes."""
    try:
        return bool(client.info("cluster").get("cluster_enabled"))
    except RedisError:
        return False
