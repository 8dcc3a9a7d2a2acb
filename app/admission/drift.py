"""Drift between the counters in Redis and the ledger: shown, and mended where nothing is under way.

The ledger is right. Counters leave it when Redis was away at the moment of settling, or lost its state.
"""

from dataclasses import dataclass
from uuid import UUID

from redis import Redis

from app.admission.controller import Spent
from app.admission.scripts import Windows, alone


@dataclass(frozen=True, slots=True)
class Drift:
    """One counter that differs from the ledger; LLM tokens of an agent, micro-dollars of the fleet.

    `redis` is what was used and what is held for calls under way, as the ledger counts both; `counted` is the
    used part alone.
    """

    counter: str
    redis: int
    ledger: int
    key: str
    used: str
    held: str
    counted: int


PIECE = 1_000

Counters = dict[tuple[str, str, str, str], tuple[int, int]]


def read_counters(redis: Redis, window: Windows) -> Counters:
    """Every counter as (name, key, field of used, field of held) -> (used, held). Read before the ledger."""
    quota, day, month = window.keys
    found: Counters = {}
    tokens = _numbers(redis, quota)
    for name in _whose(tokens):
        found[f"tokens of {name} today", quota, f"u:{name}", f"h:{name}"] = _pair(tokens, f":{name}")
    for when, key in (("today", day), ("this month", month)):
        money = _numbers(redis, key)
        found[f"micro-dollars {when}", key, "u", "h"] = _pair(money, "")
        for name in _whose(money):
            about = f"micro-dollars of {name} {when}"
            found[about, key, f"u:{name}", f"h:{name}"] = _pair(money, f":{name}")
    return found


def _numbers(redis: Redis, key: str) -> dict[str, int]:
    """Some fields at a time: all of 100,000 agents at once would hold Redis up for a tenth of a second."""
    return {str(field): int(value) for field, value in redis.hscan_iter(key, count=PIECE)}


def _whose(fields: dict[str, int]) -> list[str]:
    return sorted({name[2:] for name in fields if name[:2] in ("u:", "h:")})


def _pair(fields: dict[str, int], name: str) -> tuple[int, int]:
    return fields.get(f"u{name}", 0), fields.get(f"h{name}", 0)


def find_drift(counters: Counters, spent: Spent, window: Windows) -> list[Drift]:
    """The counters that differ from the ledger. While calls are under way some differ for a moment."""
    quota, day, month = window.keys
    ledger = {
        quota: {f"u:{agent}": used for agent, used in spent.tokens_by_agent.items()},
        day: _money(spent.day_micros),
        month: _money(spent.month_micros),
    }
    drifts = []
    for (name, key, used, held), (counted, reserved) in counters.items():
        right = ledger[key].get(used, 0)
        if counted + reserved != right:
            drifts.append(Drift(name, counted + reserved, right, key, used, held, counted))
    return drifts


def _money(by_place: dict[UUID, int]) -> dict[str, int]:
    return {"u": sum(by_place.values())} | {f"u:{place}": used for place, used in by_place.items()}


def repair(redis: Redis, drifts: list[Drift]) -> int:
    """Set drifted counters right where nothing is under way; returns how many."""
    script = alone(redis, "repair")
    return sum(int(script(keys=[d.key], args=[d.used, d.held, d.counted, d.ledger])) for d in drifts)
