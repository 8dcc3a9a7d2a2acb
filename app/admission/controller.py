"""Admission's client side: asks the scripts, sleeps once, settles. See app/admission/__init__.py."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from threading import Event
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from redis import Redis

from app.admission.circuit import Circuit, StoreAway
from app.admission.limits import Limits
from app.admission.scripts import FLEET, Windows, alone, load, windows
from app.admission.state import State, read_state
from app.admission.turnstile import Stopping, Turnstile, pause
from app.admission.values import Verdict
from app.budget_rule import is_used_up
from app.clock import monotonic, sleep, utcnow
from app.log import get_logger

log = get_logger(__name__)

AWAY_S = 20.0
"""How long a call waits for a Redis that is away before its run is put back."""
DAYS_KEPT_S = 2 * 86_400
PIECE = 500
"""Counters that are set at once: 1,000 of them took Redis up to 9 ms."""
MONTH_KEPT_S = 40 * 86_400


@dataclass(frozen=True, slots=True)
class Place:
    """A community and its budgets in micro-dollars; 0: none of its own."""

    id: UUID
    day_micros: int
    month_micros: int


@dataclass(frozen=True, slots=True)
class Request:
    """One attempt that wants to be made; tokens and cost are what it may take at most. `cost_micros` is None
    when the model has no known price: no budget can hold it.
    """

    id: UUID
    run_id: UUID
    agent_id: UUID
    is_adhoc: bool
    tokens: int
    cost_micros: int | None
    model: str
    quota: int | None = None
    ticket: int = 0
    place: Place | None = None
    obeys_budgets: bool = True


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to make one call now, and the reservation that goes with it."""

    request: Request
    windows: Windows


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer no. `ticket` keeps the place in the line for who comes back after `retry_after_s`."""

    reason: str
    retry_after_s: float
    ticket: int = 0


@dataclass(frozen=True, slots=True)
class Spent:
    """Use in the windows by the ledger: the seed of the counters. Micro-dollars by community."""

    tokens_by_agent: dict[UUID, int]
    day_micros: dict[UUID, int]
    month_micros: dict[UUID, int]


class Admission:
    """Decides about calls for one process; safe to share between its threads."""

    def __init__(
        self,
        redis: Redis,
        *,
        read_limits: Callable[[], Limits],
        read_spent: Callable[[Windows], Spent],
        zone: ZoneInfo,
        key_fingerprint: str,
        call_s: float,
    ) -> None:
        self.redis = redis
        self._read_limits = read_limits
        self.read_spent = read_spent
        self._zone = zone
        self.key = key_fingerprint
        """Hash of the gateway's URL and key; never the key."""
        self._lease_us = int((call_s + 10) * 1e6)
        self._admit = load(redis, "admit")
        self._settle = load(redis, "settle")
        self._configure = load(redis, "configure")
        self._sweep = load(redis, "sweep")
        self._seed = alone(redis, "seed")
        self._circuit = Circuit()
        self.turnstile = Turnstile()
        """Where this process's scheduled runs wait before they begin."""

    def acquire(
        self, request: Request, prepare: Callable[[], None], stopping: Event | None = None
    ) -> Permit | Refusal:
        """Wait for a permit, for no longer than the horizon, or say why not.

        One round trip when the call may start at once; two when it has to wait: the first says how long to
        sleep, the second confirms on waking. One more each time that the booking is void by then, because
        the sleeper woke late, or a pause or a change came in between. `prepare` is called
        once, when there is a booking and before the call's time, so that what takes time (the ledger
        row) does not make the call late. After an error of `prepare` the booking is given back. Raises
        Stopping when the process is told to end meanwhile.
        """
        began = monotonic()
        is_prepared = False
        while True:
            window = windows(utcnow(), self._zone)
            try:
                code, wait_us, *why = self._circuit.call(lambda w=window: self._ask(request, w))  # type: ignore[misc]
            except StoreAway as away:
                if monotonic() - began > AWAY_S:
                    return Refusal("store_away", 5.0)
                pause(away.retry_after_s, stopping)
                continue
            wait_s = int(wait_us) / 1e6
            due = monotonic() + wait_s
            if code == "no":
                if why[0] == "wait":
                    self.turnstile.answered(wait_s)
                return Refusal(why[0], wait_s, int(why[1]))
            if not is_prepared and not request.is_adhoc:  # where the line ends; ad hoc jumps it
                self.turnstile.answered(wait_s)
            permit = Permit(request, window)
            if not is_prepared:
                try:
                    prepare()
                except BaseException:
                    self.void(permit)
                    raise
                is_prepared = True
            try:
                pause(due - monotonic(), stopping)
            except Stopping:
                self.void(permit)
                raise
            if code == "go":
                return permit

    def _ask(self, request: Request, window: Windows) -> list[Any]:
        arguments: list[str | int | float] = [
            str(request.id),
            str(request.agent_id),
            0 if request.is_adhoc else 1,
            request.tokens,
            -1 if request.cost_micros is None else request.cost_micros,
            request.ticket,
            -1 if request.quota is None else request.quota,
            window.day,
            window.day_left_us,
            window.month_left_us,
            self._lease_us,
            self.key,
            request.model,
            str(request.place.id) if request.place else "-",
            request.place.day_micros if request.place else 0,
            request.place.month_micros if request.place else 0,
            1 if request.obeys_budgets else 0,
        ]
        for _ in range(50):
            answer: list[Any] = self._admit(keys=[*FLEET, *window.keys], args=arguments)
            if answer[0] != "cold":
                return answer
            self._warm_up(window)
        raise StoreAway(1.0)

    def settle(
        self, permit: Permit, verdict: Verdict, *, tokens: int | None, cost_micros: int | None
    ) -> bool:
        """Turn the reservation into what was used; None keeps the estimate. Counts once."""
        request = permit.request
        arguments: list[str | int | float] = [
            str(request.id),
            verdict.effect,
            -1 if tokens is None else tokens,
            -1 if cost_micros is None else cost_micros,
            permit.windows.day,
            verdict.span,
            self.key,
            request.model,
            verdict.reason,
            int(verdict.is_of_key),
            verdict.runs_to_confirm,
            str(request.run_id),
        ]
        keys = [*FLEET, *permit.windows.keys]
        try:
            return bool(self._circuit.call(lambda: self._settle(keys=keys, args=arguments)))
        except StoreAway as away:
            # The reservation runs out by itself, and the counters follow the ledger (repair).
            log.warning("admission.not_settled", request_id=arguments[0], error=str(away))
            return False

    def void(self, permit: Permit) -> None:
        """Give a permit back that no call was made with."""
        self.settle(permit, Verdict("void"), tokens=0, cost_micros=0)

    def sweep(self) -> int:
        """End reservations whose callers died, when no question does it; returns how many."""
        window = windows(utcnow(), self._zone)
        keys = [*FLEET, *window.keys]
        return int(self._circuit.call(lambda: self._sweep(keys=keys, args=[window.day, 1_000])))

    def put_in_force(self, limits: Limits, *, close_breaker: bool = False) -> bool:
        """Copy limits into Redis unless newer ones are there; every worker's next call sees them."""
        return self._circuit.call(lambda: self._put_in_force(limits, close_breaker=close_breaker))

    def _put_in_force(self, limits: Limits, *, close_breaker: bool = False) -> bool:
        paused_until = limits.paused_until
        arguments: list[str | int | float] = [
            limits.version,
            max(1, int(limits.rate * 1000)),
            limits.burst,
            int(limits.max_wait_s * 1e6),
            limits.tokens_per_minute,
            limits.agent_daily_tokens,
            limits.budget_day_micros,
            limits.budget_month_micros,
            int(paused_until.timestamp() * 1e6) if paused_until else 0,
            "close" if close_breaker else "",
        ]
        return bool(self._configure(keys=FLEET, args=arguments))

    def _warm_up(self, window: Windows) -> None:
        """After a fresh start, a flush or at midnight: the configuration and the counters from Postgres.

        One process does it, the others ask again a moment later. Counters are set only where there
        are none, so a second seeder does no harm.
        """
        if not self.redis.set("{paceline}:seeding", "1", nx=True, ex=10):
            sleep(0.1)
            return
        try:
            self._put_in_force(self._read_limits())
            spent = self.read_spent(window)
            quota, day, month = window.keys
            counters = {quota: {f"u:{agent}": tokens for agent, tokens in spent.tokens_by_agent.items()}}
            for key, money in ((day, spent.day_micros), (month, spent.month_micros)):
                counters[key] = {"u": sum(money.values())} | {f"u:{place}": n for place, n in money.items()}
            pipeline = self.redis.pipeline(transaction=False)
            for key, values in counters.items():
                pairs = [part for pair in values.items() for part in pair]
                for at in range(0, len(pairs), 2 * PIECE):
                    self._seed(keys=[key], args=pairs[at : at + 2 * PIECE], client=pipeline)
            pipeline.hset(quota, "seeded", 1)
            pipeline.hset(month, "seeded", 1)
            pipeline.expire(quota, DAYS_KEPT_S)
            pipeline.expire(day, DAYS_KEPT_S)
            pipeline.expire(month, MONTH_KEPT_S)
            pipeline.execute()
            log.info("admission.seeded", day=window.day, agents=len(spent.tokens_by_agent))
        finally:
            self.redis.delete("{paceline}:seeding")

    def used_up_budget(self, place: Place) -> str | None:
        """Return the budget of the fleet or of that community that is used up, as a reason of app.refusals;
        None when none is, or Redis is away.
        """
        window = windows(utcnow(), self._zone)
        _, day, month = window.keys
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.hmget(FLEET[0], ["day_budget", "month_budget"])
        for key in (day, month):
            pipeline.hmget(key, ["u", f"u:{place.id}"])
        try:
            limits, *found = self._circuit.call(pipeline.execute)
        except StoreAway:
            return None
        own, periods = (place.day_micros, place.month_micros), ("day", "month")
        for period, of_fleet, of_place, spent in zip(periods, limits, own, found, strict=True):
            used, used_here = (int(value or 0) for value in spent)
            if is_used_up(used, int(of_fleet or 0)):
                return f"budget_{period}"
            if is_used_up(used_here, of_place):
                return f"community_budget_{period}"
        return None

    def tokens_of(self, agents: Sequence[UUID]) -> dict[UUID, int]:
        """LLM tokens of these agents today as quotas count them, what is reserved included; raises
        StoreAway.
        """
        key, *_ = windows(utcnow(), self._zone).keys
        names = [f"{part}:{agent}" for agent in agents for part in ("u", "h")]
        if not names:
            return {}
        found = self._circuit.call(lambda: self.redis.hmget(key, names))
        pairs = zip(found[::2], found[1::2], strict=True)
        return {
            agent: int(used or 0) + int(held or 0) for agent, (used, held) in zip(agents, pairs, strict=True)
        }

    def state(self, keys: Sequence[str] = ()) -> State:
        """Admission as it stands for calls with these keys, or with that of this process; raises StoreAway.
        Warms up when there is nothing yet.
        """
        return self._circuit.call(lambda: self._state(keys or (self.key,)))

    def _state(self, keys: Sequence[str]) -> State:
        now = utcnow()
        window = windows(now, self._zone)
        found = read_state(self.redis, FLEET, window.keys, keys, now)
        if found is None:
            self._warm_up(window)
            found = read_state(self.redis, FLEET, window.keys, keys, now)
        assert found is not None
        return found


def key_fingerprint(gateway_url: str, key: str | None) -> str:
    """Hash of gateway URL and key. Only the hash is stored. A new key gives a new hash, so calls resume."""
    return sha256(f"{gateway_url} {key}".encode()).hexdigest()[:16]
