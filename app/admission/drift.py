"""Drift between the counters in Redis and the ledger: shown, and mended where nothing is under way.

The ledger is right. Counters leave it when Redis was away at the moment of settling, or lost its state.
"""

from dataclasses import dataclass
from importlib.resources import files

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
    found["micro-dollars today", day, "u", "h"] = int(redis.hget(day, "u") or 0)
    found["micro-dollars this month", month, "u", "h"] = int(redis.hget(month, "u") or 0)
    return found


def find_drift(counters: dict[tuple[str, str, str, str], int], spent: Spent) -> list[Drift]:
    """The counters that differ from the ledger. While calls are under way some differ for a moment."""
    ledger = {f"u:{agent}": tokens for agent, tokens in spent.tokens_by_agent.items()}
    drifts = []
    for (name, key, used, held), value in counters.items():
        if name == "micro-dollars today":
            right = spent.day_micros
        elif name == "micro-dollars this month":
            right = spent.month_micros
        else:
            right = ledger.get(used, 0)
        if value != right:
            drifts.append(Drift(name, value, right, key, used, held))
    return drifts


def repair(redis: Redis, drifts: list[Drift]) -> int:
    """Set drifted counters right where nothing is under way; returns how many."""
    script = redis.register_script((files("app.admission") / "lua" / "repair.lua").read_text())
    return sum(int(script(keys=[d.key], args=[d.used, d.held, d.redis, d.ledger])) for d in drifts)
