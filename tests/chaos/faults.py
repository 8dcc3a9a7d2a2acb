"""The faults, each a function that does one and says what it did. Healing happens in `heal_due`."""

import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Timer
from uuid import uuid4

from redis.exceptions import RedisError
from sqlalchemy import select, text

from app.admission.circuit import StoreAway
from app.admission.limits import read_limits
from app.clock import monotonic, utcnow
from app.models import Run, RunState
from app.runs import adhoc
from tests.chaos.fleet import LEASE_S, Fleet

Heal = Callable[[], None]


@dataclass
class Storm:
    """A fleet, the dice, and what has to be healed when."""

    fleet: Fleet
    rng: random.Random
    heals: list[tuple[float, Heal]] = field(default_factory=list)
    victims: list[str] = field(default_factory=list)
    """Workers that were killed, or stopped for longer than a lease, since the last look."""

    def later(self, seconds: float, heal: Heal) -> None:
        """Heal after so long."""
        self.heals.append((monotonic() + seconds, heal))

    def heal_due(self, *, everything: bool = False) -> None:
        """Heal what is due."""
        now = monotonic()
        due = [heal for at, heal in self.heals if everything or at <= now]
        self.heals = [] if everything else [(at, heal) for at, heal in self.heals if at > now]
        for heal in due:
            heal()


def kill_worker(storm: Storm) -> str:
    worker = storm.rng.choice(storm.fleet.workers)
    storm.victims.append(worker.name)
    worker.signal(signal.SIGKILL)
    return f"SIGKILL {worker.name}"


def stop_worker(storm: Storm) -> str:
    worker, seconds = storm.rng.choice(storm.fleet.workers), storm.rng.uniform(0.5, 10)
    if seconds > LEASE_S:
        storm.victims.append(worker.name)
    worker.signal(signal.SIGSTOP)
    storm.later(seconds, lambda: worker.signal(signal.SIGCONT))
    return f"SIGSTOP {worker.name} for {seconds:.1f} s"


def drain_worker(storm: Storm) -> str:
    worker = storm.rng.choice(storm.fleet.workers)
    worker.signal(signal.SIGTERM)
    return f"SIGTERM {worker.name}"


def kill_beat(storm: Storm) -> str:
    beat = storm.rng.choice(storm.fleet.beats)
    beat.signal(signal.SIGKILL)
    return f"SIGKILL {beat.name}"


def stop_beat(storm: Storm) -> str:
    beat, seconds = storm.rng.choice(storm.fleet.beats), storm.rng.uniform(1, 8)
    beat.signal(signal.SIGSTOP)
    storm.later(seconds, lambda: beat.signal(signal.SIGCONT))
    return f"SIGSTOP {beat.name} for {seconds:.1f} s"


def kill_web(storm: Storm) -> str:
    storm.fleet.web.signal(signal.SIGKILL)
    return "SIGKILL web"


def flush_redis(storm: Storm) -> str:
    storm.fleet.services.redis.flushall()
    return "FLUSHALL"


def kill_valkey(storm: Storm) -> str:
    return _kill_server(storm, "valkey", signal.SIGKILL)


def kill_postgres(storm: Storm) -> str:
    return _kill_server(storm, "postgres", signal.SIGQUIT)  # drops everything, recovers from the log


def _kill_server(storm: Storm, name: str, how: signal.Signals) -> str:
    seconds, pid = storm.rng.uniform(0.2, 3), storm.fleet.server_pid(name)
    storm.fleet.server_down_until = monotonic() + seconds
    if pid:
        os.kill(pid, how)
    return f"{how.name} {name}, down for {seconds:.1f} s"


def cut_redis(storm: Storm) -> str:
    return f"cut {storm.fleet.redis.cut()} connections to redis"


def cut_postgres(storm: Storm) -> str:
    return f"cut {storm.fleet.postgres.cut()} connections to postgres"


def slow_redis(storm: Storm) -> str:
    storm.fleet.redis.delay_s = delay = storm.rng.uniform(0.005, 0.05)
    storm.later(storm.rng.uniform(1, 4), storm.fleet.redis.heal)
    return f"redis {delay * 1000:.0f} ms further away"


def slow_postgres(storm: Storm) -> str:
    storm.fleet.postgres.delay_s = delay = storm.rng.uniform(0.005, 0.05)
    storm.later(storm.rng.uniform(1, 4), storm.fleet.postgres.heal)
    return f"postgres {delay * 1000:.0f} ms further away"


def freeze_redis(storm: Storm) -> str:
    seconds = storm.rng.uniform(0.5, 4)
    storm.fleet.redis.frozen_until = monotonic() + seconds
    return f"redis silent for {seconds:.1f} s"


def freeze_postgres(storm: Storm) -> str:
    seconds = storm.rng.uniform(0.5, 4)
    storm.fleet.postgres.frozen_until = monotonic() + seconds
    return f"postgres silent for {seconds:.1f} s"


def redis_out_of_memory(storm: Storm) -> str:
    return _redis_refuses(storm, "out of memory", ("CONFIG", "SET", "maxmemory"), "500kb", "0")


def redis_a_replica(storm: Storm) -> str:
    return _redis_refuses(storm, "a replica", ("REPLICAOF",), "127.0.0.1 1", "NO ONE")


def _redis_refuses(storm: Storm, said: str, command: tuple[str, ...], bad: str, good: str) -> str:
    """Redis lives and answers with errors. One that was killed meanwhile comes back healed."""
    seconds, redis = storm.rng.uniform(0.5, 4), storm.fleet.services.redis
    redis.execute_command(*command, *bad.split())

    def heal() -> None:
        with suppress(RedisError):
            redis.execute_command(*command, *good.split())

    Timer(seconds, heal).start()
    storm.later(seconds, heal)
    return f"redis {said} for {seconds:.1f} s"


def postgres_read_only(storm: Storm) -> str:
    """A primary that was demoted and stays up. The setting survives a crash, so it is surely taken back."""
    seconds = storm.rng.uniform(0.5, 4)
    _allow_writes(storm, "on")

    def heal() -> None:
        storm.fleet.patiently(lambda: _allow_writes(storm, "off"))

    Timer(seconds, heal).start()  # whoever writes for the test waits for this
    storm.later(seconds, heal)
    return f"postgres read-only for {seconds:.1f} s"


def _allow_writes(storm: Storm, is_read_only: str) -> None:
    with storm.fleet.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("set transaction_read_only = off"))
        connection.execute(text(f"alter system set default_transaction_read_only = {is_read_only}"))
        connection.execute(text("select pg_reload_conf()"))


def revoke_run(storm: Storm) -> str:
    """What `celery control revoke` does: to a run that waits, or one that goes on."""
    with storm.fleet.engine.connect() as connection:
        query = select(Run.id).where(Run.state.in_((RunState.QUEUED, RunState.RUNNING)))
        run_ids = list(connection.execute(query).scalars())
    if not run_ids:
        return "revoke: nothing is open"
    storm.fleet.revoke(storm.rng.choice(run_ids))
    return "revoke a run"


def hang_up_worker(storm: Storm) -> str:
    """What a closed terminal sends; Celery begins anew in the same process."""
    worker = storm.rng.choice(storm.fleet.workers)
    storm.victims.append(worker.name)
    worker.signal(signal.SIGHUP)
    return f"SIGHUP {worker.name}"


def publish_again(storm: Storm) -> str:
    with storm.fleet.engine.connect() as connection:
        query = select(Run.id).where(Run.state.in_((RunState.QUEUED, RunState.RUNNING)))
        run_ids = list(connection.execute(query).scalars())
    storm.fleet.publish(run_ids)
    return f"published {len(run_ids)} runs once more"


def ask_by_hand(storm: Storm) -> str:
    run_id, handle = uuid4(), f"a{storm.rng.randrange(20)}"
    with storm.fleet.engine.begin() as connection:
        adhoc.request_run(connection, run_id, handle, utcnow())
    storm.fleet.publish([run_id])
    return f"dispatch {handle}"


def too_many_requests(storm: Storm) -> str:
    count, headers = storm.rng.randint(1, 6), storm.rng.choice([{}, {"retry-after": "1"}])
    storm.fleet.fault(kind="status", status=429, count=count, headers=headers)
    return f"gateway: {count} x 429 {headers}"


def no_credits(storm: Storm) -> str:
    storm.fleet.fault(kind="status", status=402, body='{"type":"payment_required"}')
    storm.later(storm.rng.uniform(1, 4), lambda: close_breaker(storm.fleet))
    return "gateway: 402, credits bought a little later"


def close_breaker(fleet: Fleet) -> None:
    """What an operator does who has bought credits; tried again when Redis is away just then."""
    try:
        with fleet.engine.begin() as connection:
            limits = read_limits(connection, fleet.services.settings.limits)
        fleet.services.admission.put_in_force(limits, close_breaker=True)
    except (StoreAway, RedisError):
        return


def server_errors(storm: Storm) -> str:
    count = storm.rng.randint(1, 6)
    storm.fleet.fault(kind="status", status=storm.rng.choice([500, 502, 503]), count=count)
    return f"gateway: {count} x 5xx"


def bad_answers(storm: Storm) -> str:
    kind, count = storm.rng.choice(["garbage", "half", "empty"]), storm.rng.randint(1, 4)
    storm.fleet.fault(kind=kind, count=count)
    return f"gateway: {count} x {kind}"


def hanging(storm: Storm) -> str:
    count = storm.rng.randint(1, 3)
    storm.fleet.fault(kind="hang", count=count, seconds=10)
    return f"gateway: {count} x silence"


def cut_application(storm: Storm) -> str:
    return f"cut {storm.fleet.application.proxy.cut()} connections to the application"


def freeze_application(storm: Storm) -> str:
    seconds = storm.rng.uniform(0.5, 6)
    storm.fleet.application.proxy.frozen_until = monotonic() + seconds
    return f"application silent for {seconds:.1f} s"


def receiver_in_trouble(storm: Storm) -> str:
    return storm.fleet.application.trouble_of_the_receiver(storm.rng)


def receiver_hangs(storm: Storm) -> str:
    application = storm.fleet.application
    storm.later(storm.rng.uniform(2, 6), lambda: application.hang_up(0.0))
    return application.hang_up(storm.rng.uniform(0.5, 12))


def hide_or_show(storm: Storm) -> str:
    return storm.fleet.application.hide_or_show(storm.rng)


FAULTS: dict[Callable[[Storm], str], int] = {
    kill_worker: 8,
    stop_worker: 5,
    drain_worker: 3,
    kill_beat: 3,
    stop_beat: 3,
    kill_web: 1,
    flush_redis: 3,
    kill_valkey: 3,
    kill_postgres: 3,
    cut_redis: 4,
    cut_postgres: 4,
    slow_redis: 2,
    slow_postgres: 2,
    freeze_redis: 2,
    freeze_postgres: 2,
    publish_again: 5,
    redis_out_of_memory: 2,
    redis_a_replica: 2,
    postgres_read_only: 2,
    revoke_run: 3,
    hang_up_worker: 2,
    ask_by_hand: 4,
    too_many_requests: 4,
    no_credits: 2,
    server_errors: 4,
    bad_answers: 4,
    hanging: 3,
    cut_application: 3,
    freeze_application: 2,
    receiver_in_trouble: 4,
    receiver_hangs: 2,
    hide_or_show: 5,
}
"""Each kind of fault, by its weight."""


class NotPossible(Exception):
    """A fault that another one prevents just now: it is none."""


def inject(storm: Storm) -> str:
    """One fault at random; says what it did. Raises NotPossible."""
    (kind,) = storm.rng.choices(list(FAULTS), weights=list(FAULTS.values()))
    try:
        return kind(storm)
    except (RedisError, OSError) as error:
        raise NotPossible(f"{kind.__name__}: not possible now ({error})") from None
