"""Who works: each worker process says here every few seconds that it lives and what it has in hand.

Kept in Redis, because it is worth nothing when Redis is gone: then nobody works.
"""

import json
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta

from redis import Redis

from app.runs.asked import Asked, asked_by
from app.settings import Settings

WORKERS = "{paceline}:workers"
SILENT_AFTER = timedelta(seconds=20)
FORGOTTEN_AFTER = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process. `in_hand` are the runs it works on, `done` those it has ended since it started;
    `asked` is None for a worker of an earlier release. `restarts` counts how often one of this name began
    anew without having been stopped in order.
    """

    name: str
    host: str
    pid: int
    version: str
    started_at: datetime
    seen_at: datetime
    in_hand: int
    done: int
    asked: Asked | None = None
    restarts: int = 0

    def is_silent(self, now: datetime) -> bool:
        """Whether it was not heard of lately: it died, hangs, or was stopped."""
        return now - self.seen_at > SILENT_AFTER


_FIELDS = tuple(field.name for field in fields(Worker))
"""A worker of another release may tell more, or less."""


def report(redis: Redis, worker: Worker) -> None:
    """Say that a worker lives; forget those that were silent for long."""
    others = list_workers(redis)
    before = next((other for other in others if other.name == worker.name), worker)
    restarts = before.restarts + (before.started_at != worker.started_at)
    values = asdict(worker) | {
        "started_at": worker.started_at.isoformat(),
        "seen_at": worker.seen_at.isoformat(),
        "restarts": restarts,
    }
    redis.hset(WORKERS, worker.name, json.dumps(values))
    for other in others:
        if worker.seen_at - other.seen_at > FORGOTTEN_AFTER:
            redis.hdel(WORKERS, other.name)


def leave(redis: Redis, name: str) -> None:
    """Forget a worker that was stopped in order."""
    redis.hdel(WORKERS, name)


def list_workers(redis: Redis) -> list[Worker]:
    """The workers that were heard of in the last minutes, by name."""
    found = []
    for text in redis.hgetall(WORKERS).values():
        told = json.loads(text)
        values = {name: told[name] for name in _FIELDS if name in told}
        for name in ("started_at", "seen_at"):
            values[name] = datetime.fromisoformat(values[name])
        values["asked"] = Asked.from_json(values.get("asked") or {})
        found.append(Worker(**values))
    return sorted(found, key=lambda worker: worker.name)


def asked_now(redis: Redis, settings: Settings, key: str, now: datetime) -> list[Asked]:
    """Return the gateways that the living workers ask, each once, that of the youngest worker first. Without
    workers it is the gateway of these settings.
    """
    alive = [worker for worker in list_workers(redis) if not worker.is_silent(now)]
    alive.sort(key=lambda worker: worker.started_at, reverse=True)
    told = dict.fromkeys(worker.asked for worker in alive if worker.asked)
    return list(told) or [asked_by(settings, key, now)]
