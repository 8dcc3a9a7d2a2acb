"""Why has it not run? The answer names what stands in the way."""

from contextlib import closing
from datetime import timedelta

import pytest
from sqlalchemy import func, update

from app.admission.limits import change_limits
from app.clock import utcnow
from app.gateway.tally import SandboxTally
from app.models import Agent, AgentState, Controls, Job, Run
from app.runs import jobs, leases
from app.runs.books import audit
from app.runs.execute import execute
from app.runs.explain import explain
from tests.support.factories import make_agents, make_run


@pytest.fixture
def ada(services):
    with services.engine.begin() as connection:
        jobs.done(connection, jobs.OPEN_SLICE, "slice 0")
        return make_agents(connection, 1)[0]


def answer(services, agent_id):
    return explain(services, agent_id, utcnow()).answer


def test_nothing_stops_it(services, ada):
    assert answer(services, ada).startswith(
        "nothing stops it; no turn of it has completed yet, it falls due next at"
    )


def test_paused_and_quarantined_agents_say_so(services, ada):
    for state, said in (
        (AgentState.PAUSED, "is paused"),
        (AgentState.QUARANTINED, "went silent three times"),
    ):
        with services.engine.begin() as connection:
            connection.execute(update(Agent).values(state=state))
        assert said in answer(services, ada)


def test_silent_scheduler_is_named(services, ada):
    with services.engine.begin() as connection:
        connection.execute(update(Job).values(done_at=func.now() - timedelta(hours=4)))
    assert "beat or every worker is gone" in answer(services, ada)


def test_waiting_run_tells_its_place_and_a_silent_worker_its_name(services, ada):
    with services.engine.begin() as connection:
        run_id = make_run(connection, ada)
    assert "waits for a worker, 0 were due before it" in answer(services, ada)
    with services.engine.begin() as connection:
        leases.claim(connection, run_id, timedelta(seconds=30), "worker1@host")
        connection.execute(update(Run).values(lease_until=func.now() - timedelta(seconds=1)))
    assert "worker1@host, which went silent" in answer(services, ada)


def test_pause_of_the_fleet_and_used_up_quota_are_named(services, ada):
    with services.engine.begin() as connection:
        run_id = make_run(connection, ada)
    execute(services, run_id)
    with services.engine.begin() as connection:
        connection.execute(update(Agent).values(daily_tokens=1))
    assert "quota: " in answer(services, ada)
    with services.engine.begin() as connection:
        pause = {"paused_until": utcnow() + timedelta(hours=1)}
        changed = change_limits(connection, services.settings.limits, pause, actor="test", reason="test")
        make_run(connection, ada)
    services.admission.put_in_force(changed)
    said = answer(services, ada)  # the cause, though a run waits and the quota is used up, too
    assert "The fleet is paused until" in said
    assert "by test: test. `paceline resume` ends it" in said


def test_used_up_budget_is_named_and_what_follows_from_it(services, ada):
    with services.engine.begin() as connection:
        run_id = make_run(connection, ada)
    execute(services, run_id)
    with services.engine.begin() as connection:
        changed = change_limits(
            connection, services.settings.limits, {"budget_day_micros": 1}, actor="test", reason=""
        )
    services.admission.put_in_force(changed)
    assert answer(services, ada).startswith("budget: the fleet's budget of the day is used up")
    with services.engine.begin() as connection:
        connection.execute(update(Controls).values(over_budget="posts_only"))
    found = explain(services, ada, utcnow())
    assert found.answer.startswith("nothing stops it")
    assert "posts only" in next(f.says for f in found.findings if f.about == "budget")


def test_books_are_equal_after_work_and_every_difference_is_a_number(services, sandbox, ada):
    with services.engine.begin() as connection:
        run_id = make_run(connection, ada)
    execute(services, run_id)
    with closing(SandboxTally(sandbox.url)) as tally:
        books = audit(services, tally)
    assert (books.total, books.gateway_requests, books.ledger_rows) == (0, 1, 1)
    services.redis.hincrby(next(iter(services.redis.scan_iter("*quota:*"))), f"u:{ada}", 5)
    sandbox.state.record("not-ours", 0, 200, "m", (1, 1))
    with closing(SandboxTally(sandbox.url)) as tally:
        differences = audit(services, tally).differences
    assert (differences["unrecorded"], differences["redis_counters"]) == (1, 1)
