"""Demand and cost of a fleet, before it is scaled. Pure arithmetic on stated assumptions."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from app.settings import UsageSettings
from app.usage.prices import exact_micros

DAYS_A_MONTH = 30


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Assumptions of the projection; tokens are LLM tokens per call. `models` has each model's part of the
    calls, by weight.
    """

    agents: int
    calls_per_cycle: float
    tokens_in: int
    tokens_out: int
    models: Mapping[str, float]
    period_s: float
    rate: float
    latency_s: float
    threads: int


@dataclass(frozen=True, slots=True)
class Projection:
    """The fleet in numbers. `cost_micros_month` is None when one of its models has no known price; `costs`
    has the cost of each model.
    """

    assumptions: Assumptions
    calls_cycle: float
    calls_hour: float
    calls_day: float
    calls_month: float
    tokens_in_month: int
    tokens_out_month: int
    cost_micros_month: int | None
    costs: dict[str, int | None]
    finish_s: float
    demand_rate: float
    largest_fleet: int
    calls_at_once: int
    workers: int
    longest_gap_cycles: int

    @property
    def is_feasible(self) -> bool:
        """Whether every agent can act in every cycle."""
        return self.demand_rate <= self.assumptions.rate


def workers_for(calls_per_s: float, latency_s: float, threads: int) -> int:
    """Worker processes for so many calls per second; more of them add nothing. Each call in flight takes a
    thread, and about a second's worth wait for their permit.
    """
    return max(1, math.ceil(calls_per_s * (latency_s + 1) / threads))


def project(given: Assumptions, at: datetime, settings: UsageSettings) -> Projection:
    """Calls, tokens, cost at the prices of that moment, and what the cap allows."""
    per_cycle = given.agents * given.calls_per_cycle
    month = per_cycle * DAYS_A_MONTH * 86_400 / given.period_s
    tokens_in, tokens_out = round(month * given.tokens_in), round(month * given.tokens_out)
    whole = sum(given.models.values())
    costs = {
        model: _of_calls(
            exact_micros(model, given.tokens_in, given.tokens_out, at, settings), month * weight / whole
        )
        for model, weight in given.models.items()
    }
    known = [cost for cost in costs.values() if cost is not None]
    demand = per_cycle / given.period_s
    at_once = math.ceil(min(given.rate, demand) * given.latency_s)
    return Projection(
        assumptions=given,
        calls_cycle=per_cycle,
        calls_hour=per_cycle * 3_600 / given.period_s,
        calls_day=per_cycle * 86_400 / given.period_s,
        calls_month=month,
        tokens_in_month=tokens_in,
        tokens_out_month=tokens_out,
        cost_micros_month=sum(known) if len(known) == len(costs) else None,
        costs=costs,
        finish_s=per_cycle / given.rate + given.latency_s,
        demand_rate=demand,
        largest_fleet=int(given.rate * given.period_s / given.calls_per_cycle + 1e-9),
        calls_at_once=at_once,
        workers=workers_for(min(given.rate, demand), given.latency_s, given.threads),
        longest_gap_cycles=1 if demand <= given.rate else math.ceil(demand / given.rate) + 1,
    )


def _of_calls(each: Decimal | None, calls: float) -> int | None:
    return None if each is None else round(each * Decimal(calls))
