"""Budgets of communities, what happens when one is used up, denied calls, prices, alerts about money."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select, update

from app import controls
from app.alerts import incidents, outbox, rules
from app.alerts.outbox import Message
from app.clock import utcnow
from app.community.budgets import list_budgets, set_budget
from app.models import Agent, Alert, AuditEntry, Call, Community, Post
from app.runs import jobs
from app.runs.execute import execute
from app.runs.upkeep import find_drift, reconcile_limits
from app.settings import AlertSettings, UsageSettings
from app.usage.calls import calls_between, count_between
from app.usage.denials import denied_between
from app.usage.forecast import Demand, Facts, compute
from app.usage.prices import cost_micros
from tests.conftest import make_settings
from tests.integration.test_usage import add_call
from tests.support.factories import make_agents, make_run
from tests.support.ledger import sum_up_all

from app.wiring import build  # isort: skip

UTC_ZONE = ZoneInfo("UTC")


@pytest.fixture
def two_places(services):
    """An agent in each of two communities, both welcomed; one community may spend almost nothing."""
    with services.engine.begin() as connection:
        (poor,) = make_agents(connection, 1, "Poor")
        connection.execute(update(Agent).values(handle="poor"))
        (rich,) = make_agents(connection, 1, "Rich")
        connection.execute(update(Agent).values(welcomed_at=utcnow()))
        assert set_budget(connection, "Poor", {"budget_day_micros": 300}, actor="test", reason="a test")
    return poor, rich


def run(services, agent):
    with services.engine.begin() as connection:
        run_id = make_run(connection, agent)
    return execute(services, run_id)


def rows(services, *columns):
    with services.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(select(*columns))]


def test_community_over_its_budget_is_refused_and_the_other_goes_on(services, two_places):
    poor, rich = two_places
    outcomes = [run(services, poor) for _ in range(12)]
    refused = [outcome for outcome in outcomes if outcome.state == "skipped"]
    assert refused
    assert outcomes[0].state == "completed"
    assert all("community_budget_day" in outcome.reason for outcome in refused)
    assert run(services, rich).state == "completed"
    spent = sum(row[0] for row in rows(services, Call.cost_micros, Call.agent_id) if row[1] == poor)
    assert 300 <= spent < 300 + 2_700, "passed by one call at most, whose estimate is 2,600 and more"
    with services.engine.connect() as connection:
        denied = denied_between(connection, utcnow() - timedelta(hours=1), utcnow())
        assert [(d.reason, d.calls) for d in denied] == [("community_budget_day", len(refused))]
        assert [budget.community for budget in list_budgets(connection)] == ["Poor"]
    assert ("budget.set", "Poor") in rows(services, AuditEntry.action, AuditEntry.subject)


def test_communities_counters_are_seeded_after_a_flush_and_repaired(services, two_places, redis):
    poor, _ = two_places
    while run(services, poor).state == "completed":
        pass
    redis.flushall()
    assert run(services, poor).state == "skipped", "seeded from the ledger"
    assert find_drift(services) == []
    day = next(key for key in redis.keys("*spend*") if len(str(key).split(":")[-1]) == 10)
    (place,) = [row[0] for row in rows(services, Community.id, Community.name) if row[1] == "Poor"]
    redis.hset(day, f"u:{place}", 7)
    assert reconcile_limits(services).repaired == 1


@pytest.mark.parametrize("policy", ["posts_only", "cheaper_model"])
def test_used_up_budget_goes_on_with_less_where_the_operator_says_so(
    services, embedded, sandbox, home, two_places, policy
):
    poor, rich = two_places
    gateway = {"base_url": sandbox.url, "cheap_model": "google/gemini-2.0-flash-lite"}
    activity = {"comment_probability": 1}
    lenient = build(make_settings(embedded, sandbox.url, home, gateway=gateway, activity=activity))
    with services.engine.begin() as connection:
        controls.change_controls(
            connection, services.settings.controls, {"over_budget": policy}, actor="t", reason=""
        )
        connection.execute(update(Community).values(budget_day_micros=1))
        connection.execute(
            update(Agent).values(
                community_id=select(Agent.community_id).where(Agent.id == poor).scalar_subquery()
            )
        )
    run(lenient, rich)
    outcome = run(lenient, poor)
    lenient.close()
    assert (outcome.state, outcome.posts) == ("completed", 1)
    models = {row[0] for row in rows(services, Call.model, Call.agent_id) if row[1] == poor}
    if policy == "posts_only":
        assert "no comment.0: a budget is used up" in outcome.reason
        assert outcome.comments == 0
    else:
        assert models == {"google/gemini-2.0-flash-lite"}
        assert outcome.comments >= 1
    assert len(rows(services, Post.id)) == 2


def test_model_that_never_answers_is_told_once_and_its_end_too(services):
    with services.engine.begin() as connection:
        (agent,) = make_agents(connection, 1)
        run_id = make_run(connection, agent)
        for _ in range(rules.FAILING_CALLS):
            add_call(connection, agent, run_id, utcnow(), status="error", error_code="rate_limited")

    def told():
        with services.engine.begin() as connection:
            outbox.post(connection, rules.evaluate(connection, services.settings))
        return [title for (title,) in rows(services, Alert.title) if "gemini" in title]

    assert told() == told() == ["Paceline: every call of google/gemini-2.5-flash fails"]
    with services.engine.begin() as connection:
        add_call(connection, agent, run_id, utcnow())
    assert len(told()) == 2
    assert told()[1] == "Paceline: over: google/gemini-2.5-flash answers again"
    with services.engine.begin() as connection:
        connection.execute(update(Call).values(status="error", created_at=Call.created_at))
    assert len(told()) == 3, "it began again"


def test_model_that_is_gone_is_told_after_one_call(services):
    with services.engine.begin() as connection:
        (agent,) = make_agents(connection, 1)
        gone = {"status": "error", "error_code": "model_gone", "http_status": 404}
        add_call(connection, agent, make_run(connection, agent), utcnow(), **gone)
        keys = [message.key for message in rules.evaluate(connection, services.settings)]
    assert keys == ["model|google/gemini-2.5-flash|1"]


def test_used_up_credits_are_over_when_a_call_is_answered_and_not_before(services):
    with services.engine.begin() as connection:
        (agent,) = make_agents(connection, 1)
        run_id = make_run(connection, agent)
        hour_ago = utcnow() - timedelta(hours=1)
        broke = {"status": "error", "error_code": "credits_exhausted", "http_status": 402}
        add_call(connection, agent, run_id, hour_ago, **broke)
        assert incidents.fold(connection).closed == (), "nobody asked since"
        assert incidents.fold(connection).closed == ()
        add_call(connection, agent, run_id, utcnow())
        assert len(incidents.fold(connection).closed) == 1


def test_books_that_differ_and_credits_that_end_are_told(services, embedded, sandbox, home):
    usage = {"credits_usd": 1.0}
    poor = make_settings(embedded, sandbox.url, home, usage=usage)
    with services.engine.begin() as connection:
        (agent,) = make_agents(connection, 1)
        run_id = make_run(connection, agent)
        for hours in (30, 20, 10, 2):
            at = utcnow() - timedelta(hours=hours)
            add_call(connection, agent, run_id, at, cost_micros=200_000)
        sum_up_all(connection, UTC_ZONE)
        jobs.done(connection, jobs.CHECK_BOOKS, "3 differences")
        keys = {message.key.split(".")[0] for message in rules.evaluate(connection, poor)}
        assert keys == {"books", "runway"}
        jobs.done(connection, jobs.CHECK_BOOKS, "0 differences")
        keys = {message.key.split(".")[0] for message in rules.evaluate(connection, poor)}
        assert keys == {"runway"}


def test_quiet_hours_hold_back_what_is_no_failure(engine):
    berlin = ZoneInfo("Europe/Berlin")
    night = datetime(2026, 11, 23, 0, 30, tzinfo=UTC)
    assert outbox.end_of_quiet(night, berlin, "22-07") == datetime(2026, 11, 23, 7, tzinfo=berlin)
    evening = night - timedelta(hours=3)
    assert outbox.end_of_quiet(evening, berlin, "22-07") == datetime(2026, 11, 23, 7, tzinfo=berlin)
    assert outbox.end_of_quiet(night + timedelta(hours=8), berlin, "22-07") is None
    assert outbox.end_of_quiet(night, berlin, "") is None
    assert outbox.end_of_quiet(night, berlin, "01-03") == datetime(2026, 11, 23, 3, tzinfo=berlin)
    with pytest.raises(ValueError, match="quiet_hours"):
        AlertSettings(quiet_hours="24-07")
    later = utcnow() + timedelta(hours=5)
    with engine.begin() as connection:
        messages = [Message("a", "warning", "t", "b"), Message("b", "failure", "t", "b")]
        outbox.post(connection, messages, later)
        due = dict(connection.execute(select(Alert.key, Alert.next_try_at)).all())
    assert due["a"] == later
    assert due["b"] < later


def test_own_prices_come_first_from_their_moment_on_and_cached_tokens_count_once():
    prices = [
        {"model": "m", "input": "1", "output": "2"},
        {"model": "m", "input": "10", "output": "20", "cached": "5", "since": "2026-11-01T00:00:00Z"},
    ]
    settings = UsageSettings.model_validate({"prices": prices, "price_multiplier": 1.5})
    before, after = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)
    assert cost_micros("m", 100, 10, before, settings) == 180
    assert cost_micros("m", 100, 10, after, settings) == 1_800
    assert cost_micros("m", 100, 10, after, settings, cached=40) == (600 + 200 + 200) * 1.5
    listed = cost_micros("google/gemini-2.5-flash", 1_000, 0, after, UsageSettings())
    assert listed == 300
    part = cost_micros("google/gemini-2.5-flash", 1_000, 0, after, UsageSettings(), cached=1_000)
    assert part == 30
    assert cost_micros("nobody/knows", 1, 1, after, settings) is None


def test_forecast_says_what_it_rests_on_and_nothing_it_cannot_know():
    demand = Demand(1_000, "10 active agents")
    facts = Facts(
        spent_month=5_000_000,
        burnt=700_000,
        burnt_calls=700,
        burnt_days=7.0,
        days_left=10.0,
        credits_left=3_000_000,
    )
    found = compute(facts, demand)
    assert (found.per_day_measured, found.per_day_planned) == (100_000, 1_000_000)
    assert (found.month_measured, found.month_planned) == (6_000_000, 15_000_000)
    assert found.runway_days == 3.0, "by the faster burn"
    assert "10 active agents" in found.basis
    nothing = compute(Facts(0, 0, 0, 0.5, 10, None), demand)
    assert (nothing.per_day_measured, nothing.month_planned, nothing.runway_days) == (None,) * 3


def test_single_calls_are_exported_in_order_with_their_agent(engine):
    with engine.begin() as connection:
        (agent,) = make_agents(connection, 1)
        run_id = make_run(connection, agent)
        now = utcnow()
        for minutes in (3, 1, 2):
            add_call(connection, agent, run_id, now - timedelta(minutes=minutes))
        since = now - timedelta(hours=1)
        found = list(calls_between(connection, since, now))
        assert count_between(connection, since, now) == len(found) == 3
    moments = [row["created_at"] for row in found]
    assert moments == sorted(moments)
    assert found[0]["agent"] == "a0"
