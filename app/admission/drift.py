"""Drift between the counters in Redis and the ledger: shown, and mended where nothing is under way.

The ledger is right. Counters leave it when Redis was away at the moment of settling, or lost its state.
"""

from dataclasses import dataclass
from importlib.resources import files
from uuid import UUID

from redis import Redis

from app.admission.controller import Spent
from app.admission.scripts import Windows


@dataclass(frozen=True, slots=True)
class Drift:
    """One counter that differs from the ledger; LLM tokens of an agent, micro-dollars of the fleet."""

    counter: str
    redis: int
    ledger: int
    key: str
    used: str
    held: str


def read_counters(redis: Redis, window: Windows) -> dict[tuple[str, str, str, str], int]:
    """Every counter as (name, key, field of used, field of held) -> value. Read it before the ledger."""
    quota, day, month = window.keys
    found = {}
    for field, value in redis.hgetall(quota).items():
        if str(field).startswith("u:"):
            agent = str(field).removeprefix("u:")
            found[f"tokens of {agent} today", quota, f"u:{agent}", f"h:{agent}"] = int(value)
    for when, key in (("today", day), ("this month", month)):
        found[f"micro-dollars {when}", key, "u", "h"] = int(redis.hget(key, "u") or 0)
        for field, value in redis.hgetall(key).items():
            if str(field).startswith("u:"):
                place = str(field).removeprefix("u:")
                found[f"micro-dollars of {place} {when}", key, f"u:{place}", f"h:{place}"] = int(
                    value
                )
    return found


def find_drift(
    counters: dict[tuple[str, str, str, str], int], spent: Spent, window: Windows
) -> list[Drift]:
    """The counters that differ from the ledger. While calls are under way some differ for a moment."""
    quota, day, month = window.keys
    ledger = {
        quota: {f"u:{agent}": used for agent, used in spent.tokens_by_agent.items()},
        day: _money(spent.day_micros),
        month: _money(spent.month_micros),
    }
    drifts = []
    for (name, key, used, held), value in counters.items():
        right = ledger[key].get(used, 0)
        if value != right:
            drifts.append(Drift(name, value, right, key, used, held))
    return drifts


def _money(by_place: dict[UUID, int]) -> dict[str, int]:
    return {"u": sum(by_place.values())} | {f"u:{place}": used for place, used in by_place.items()}


def repair(redis: Redis, drifts: list[Drift]) -> int:
    """Set drifted counters right where nothing is under way; returns how many."""
    script = redis.register_script((files("app.admission") / "lua" / "repair.lua").read_text())
    return sum(int(script(keys=[d.key], args=[d.used, d.held, d.redis, d.ledger])) for d in drifts)
