"""Requirement 12: the plan's own figures come out of its own inputs, and are priced."""

from datetime import UTC, datetime

import pytest

from app.settings import UsageSettings
from app.usage.projection import Assumptions, project

NOW = datetime(2026, 11, 22, tzinfo=UTC)
PLAN = {
    "agents": 100,
    "calls_per_cycle": 2.5,
    "tokens_in": 50,
    "tokens_out": 100,
    "period_s": 300,
    "rate": 4.0,
    "latency_s": 2.0,
    "threads": 16,
}


@pytest.mark.plan(12)
def test_requirement_12_projection_reproduces_the_plan():
    found = project(Assumptions(models={"google/gemini-2.5-flash": 1}, **PLAN), NOW, UsageSettings())
    assert (found.calls_cycle, found.calls_hour) == (250, 3_000)
    assert (found.calls_day, found.calls_month) == (72_000, 2_160_000)
    assert (found.tokens_in_month, found.tokens_out_month) == (108_000_000, 216_000_000)
    assert found.cost_micros_month == 572_400_000
    assert found.is_feasible
    assert found.largest_fleet == 480


@pytest.mark.plan(52)
def test_lite_model_and_unknown_model():
    lite = project(Assumptions(models={"google/gemini-2.5-flash-lite": 1}, **PLAN), NOW, UsageSettings())
    assert lite.cost_micros_month == 97_200_000
    assert (
        project(Assumptions(models={"nobody/knows": 1}, **PLAN), NOW, UsageSettings()).cost_micros_month
        is None
    )


def test_each_kind_of_request_is_priced_on_its_own_model():
    models = {"google/gemini-2.5-flash": 1.0, "google/gemini-2.5-flash-lite": 1.5}
    found = project(Assumptions(models=models, **PLAN), NOW, UsageSettings())
    assert list(found.costs.values()) == [572_400_000 * 4 // 10, 97_200_000 * 6 // 10]
    assert found.cost_micros_month == sum(found.costs.values())
    odd = project(Assumptions(models=models | {"nobody/knows": 1}, **PLAN), NOW, UsageSettings())
    assert (odd.cost_micros_month, odd.costs["nobody/knows"]) == (None, None)


@pytest.mark.parametrize(("agents", "gap"), [(480, 1), (481, 3), (1_000, 4)])
def test_what_the_cap_cannot_serve_is_said_with_the_longest_gap(agents, gap):
    found = project(Assumptions(models={"m": 1}, **(PLAN | {"agents": agents})), NOW, UsageSettings())
    assert found.is_feasible == (gap == 1)
    assert found.longest_gap_cycles == gap
