"""What people are told is what the fleet does: stops, budgets, incidents, reasons, costs."""

import json
import os
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import func, select, text, update

from app.actions import Desk, Who, agents, fleet
from app.admission.controller import Request
from app.admission.scripts import FLEET
from app.admission.values import Verdict
from app.alerts import incidents, rules
from app.clock import utcnow
from app.models import Agent, AuditEntry, Call, Incident, Run, RunOrigin
from app.runs import jobs, leases, workers
from app.runs.asked import asked_by
from app.runs.budgets import read_budgets
from app.runs.execute import LAST_LOOK, execute
from app.runs.explain import explain
from app.runs.progress import count_reasons
from app.runs.scheduling import allowance
from app.runs.stops import Standing, find_stops, look
from app.runs.upkeep import reconcile_limits
from app.runs.workers import Worker
from app.wiring import build
from tests.conftest import make_settings
from tests.support.factories import NOON, make_agents, make_run

ME = Who("eve", "a test")
CREDITS = Verdict("stop", reason="credits_exhausted")
KEY = Verdict("stop", reason="key_refused", is_of_key=True)


@pytest.fixture
def ada(services):
    with services.engine.begin() as connection:
        (agent,) = make_agents(connection, 1)
        connection.execute(update(Agent).values(welcomed_at=func.now()))
        jobs.done(connection, jobs.OPEN_SLICE, "a slice")
    return agent


def desk(services):
    return Desk(services.settings, services.engine, services.admission)


def run(services, agent, **values):
    with services.engine.begin() as connection:
        run_id = make_run(connection, agent, **values)
    return execute(services, run_id)


def permit(services, **values):
    made = Request(uuid4(), uuid4(), uuid4(), is_adhoc=False, tokens=100, cost_micros=50, model="m")
    return services.admission.acquire(replace(made, **values), lambda: None)


def stops_of(services):
    return find_stops(look(services.admission, services.settings, services.engine))


def test_reconciling_the_limits_ends_no_pause_of_the_gateway(services):
    services.admission.settle(permit(services), Verdict("pause", 600_000_000), tokens=0, cost_micros=0)
    until = services.admission.state().rate_limited_until
    for _ in range(3):
        reconcile_limits(services)
    assert services.admission.state().rate_limited_until == until
    assert permit(services).reason == "rate_limited"
    fleet.resume(desk(services), fleet.Resume(reason="x"), ME)
    assert services.admission.state().rate_limited_until is None


def test_a_shell_with_other_settings_sees_what_the_workers_see(services, embedded, sandbox, home, redis):
    """The key is refused, and the model of comments has no price: the shell has another key and model."""
    keyed = {"base_url": sandbox.url, "api_key": "sk-wrong", "comment_model": "z-ai/unheard-of"}
    other = build(make_settings(embedded, sandbox.url, home, gateway=keyed))
    asked = asked_by(other.settings, other.admission.key, utcnow())
    now = utcnow()
    mine = Worker("w1@host", "host", os.getpid(), "1", now, now, 0, 0, asked)
    workers.report(redis, mine)
    other.admission.settle(permit(other), KEY, tokens=0, cost_micros=0)
    (stop,) = stops_of(services)
    assert (stop.standing, stop.about) == (Standing.STOPPED, "key_refused")
    assert "PACELINE_GATEWAY__API_KEY" in stop.mend
    with pytest.raises(Exception, match="the budget was not set: no price is known for z-ai/unheard-of"):
        fleet.set_limits(desk(services), {"budget_day_micros": 1_000_000}, ME)
    # Workers with another key go on; the old one's stop is nobody's any more.
    workers.report(redis, replace(mine, asked=replace(asked, key="another")))
    assert stops_of(services) == []
    # Nobody works: then this shell's own settings are all there is.
    workers.leave(redis, mine.name)
    assert stops_of(services) == []
    other.close()


def test_a_worker_that_died_and_began_anew_is_counted(redis):
    now = utcnow()
    first = Worker("w1@host", "host", 1, "1", now, now, 0, 0)
    for worker in (first, replace(first, seen_at=now + timedelta(seconds=5))):
        workers.report(redis, worker)
    again = replace(first, pid=2, started_at=now + timedelta(seconds=9))
    for worker in (again, again):
        workers.report(redis, worker)
    assert [worker.restarts for worker in workers.list_workers(redis)] == [1]
    workers.leave(redis, "w1@host")
    workers.report(redis, replace(again, started_at=now + timedelta(seconds=20)))
    assert workers.list_workers(redis)[0].restarts == 0, "it was stopped in order"


def test_calls_under_way_use_no_budget_up(services, sandbox, ada):
    fleet.set_limits(desk(services), {"budget_day_micros": 2_000}, ME)
    with services.engine.begin() as connection:
        run_id = make_run(connection, ada)
        values = {
            "id": uuid4(),
            "run_id": run_id,
            "agent_id": ada,
            "step": "post",
            "attempt": 9,
            "request_type": "post",
            "model": "m",
            "tokens_reserved": 9,
            "cost_reserved": 2_600,
            "created_at": func.now(),
        }
        connection.execute(Call.__table__.insert().values(values))
        of_fleet = read_budgets(connection, services.settings, utcnow())[0]
        assert (of_fleet.spent, of_fleet.held, of_fleet.is_used_up) == (0, 2_600, False)
        assert not [m for m in rules.evaluate(connection, services.settings) if "budget" in m.key]
    held = permit(services, cost_micros=2_600)
    refusal = permit(services, cost_micros=2_600)
    assert (refusal.reason, refusal.retry_after_s) == ("budget_held", 2)
    assert stops_of(services) == []
    outcome = run(services, ada)
    assert (outcome.state, outcome.reason) == ("snoozed", "budget_held"), "put back, not skipped"
    services.admission.settle(held, Verdict("ok"), tokens=1, cost_micros=100)
    assert run(services, ada).state == "completed"


def test_a_tiny_budget_is_not_none():
    for usd in (4e-7, 1e-7, 1e-300):
        assert fleet.SetBudget(reason="x", day_usd=usd).in_micros == {"budget_day_micros": 1}
    assert fleet.SetBudget(reason="x", day_usd=0).in_micros == {"budget_day_micros": 0}


REFUSE = """
  create function refuse_posts() returns trigger language plpgsql as
  $$ begin raise exception 'not on a Sunday'; end $$;
  create trigger refuse before insert on paceline.posts for each row execute function refuse_posts()
"""


def test_answers_that_cannot_be_stored_stop_the_fleet_and_are_told(services, sandbox, redis, ada):
    with services.engine.begin() as connection:
        connection.execute(text(REFUSE))
    try:
        for _ in range(7):
            run(services, ada)
        assert len(sandbox.state.seen) == 5, "five runs in a row, then nobody pays any more"
        (stop,) = stops_of(services)
        assert (stop.standing, stop.about) == (Standing.STOPPED, "not_stored")
        assert "paid for" in stop.says
        with services.engine.begin() as connection:
            incidents.fold(connection, "not_stored")
            messages = rules.evaluate(connection, services.settings)
        assert any("paid for" in m.title for m in messages)
        assert not any("every call" in m.title for m in messages), "the model is not to blame"
        assert allowance(services.admission.state(), services.settings, utcnow()).runs == 0
    finally:
        with services.engine.begin() as connection:
            connection.execute(text("drop function refuse_posts cascade"))
    redis.hset(FLEET[0], "open", 1)
    assert run(services, ada).state == "completed", "the probe's answer is stored"
    assert stops_of(services) == []


def test_a_dropped_model_is_told_with_what_is_asked_in_its_place(services, sandbox, ada):
    model = services.settings.gateway.post_model
    sandbox.fault("status", status=404, body='{"error":{"code":"model_not_found"}}', model=model, count=9)
    for _ in range(2):
        assert run(services, ada).state == "completed"
    (stop,) = stops_of(services)
    assert (stop.standing, stop.about) == (Standing.DEGRADED, "model_gone")
    assert model in stop.says
    assert f"{services.settings.gateway.fallback_models[0]} is asked in its place" in stop.says
    assert explain(services, ada, utcnow()).answer.startswith("nothing stops it"), "the agent goes on"


def test_an_incident_ends_when_somebody_resumes_and_the_next_stop_is_another(services, ada):
    for number in (1, 2):
        with services.engine.begin() as connection:
            run_id = make_run(connection, ada)
            row = {
                "id": uuid4(),
                "run_id": run_id,
                "agent_id": ada,
                "step": "post",
                "attempt": 1,
                "request_type": "post",
                "model": "m",
                "tokens_reserved": 9,
                "status": "error",
                "error_code": "credits_exhausted",
                "finished_at": func.now(),
            }
            connection.execute(Call.__table__.insert().values(row))
        with services.engine.begin() as connection:
            assert len(incidents.fold(connection).opened) == 1, f"stop {number} is an incident"
            messages = [m.key for m in rules.evaluate(connection, services.settings)]
            assert len([key for key in messages if key.startswith("incident.")]) == number
        before = utcnow()
        fleet.resume(desk(services), fleet.Resume(reason="x"), ME)
        with services.engine.begin() as connection:
            closed = connection.execute(select(func.max(Incident.closed_at))).scalar_one()
            assert closed >= before - timedelta(seconds=1)
            assert incidents.fold(connection) == incidents.Folded()


def test_limits_smaller_than_one_call_are_told_as_what_they_do(services, ada):
    fleet.set_limits(desk(services), {"agent_daily_tokens": 1}, ME)
    (stop,) = stops_of(services)
    assert (stop.standing, stop.about) == (Standing.DEGRADED, "quota")
    assert "a call reserves at least 1,024, so agents without a quota of their own" in stop.says
    agents.set_quota(desk(services), agents.SetQuota(agents=[str(ada)], tokens=50_000, reason="x"), ME)
    assert allowance(services.admission.state(), services.settings, utcnow()).runs > 0
    assert run(services, ada).state == "completed", "its own quota is large enough"
    fleet.set_limits(desk(services), {"agent_daily_tokens": 0, "tokens_per_minute": 2}, ME)
    (stop,) = stops_of(services)
    assert "so one call goes in about 512 minutes" in stop.says
    agents.set_quota(desk(services), agents.SetQuota(agents=[str(ada)], tokens=100, reason="x"), ME)
    fleet.set_limits(desk(services), {"tokens_per_minute": 0}, ME)
    assert "so it never calls" in explain(services, ada, utcnow()).answer


def test_an_absurd_bill_is_named_and_not_believed(services, sandbox, ada):
    for usage in (
        {"prompt_tokens": 10, "completion_tokens": 60, "cost": 9_999},
        {"prompt_tokens": 1_900_000, "completion_tokens": 60},
    ):
        body = {
            "choices": [{"message": {"role": "assistant", "content": f"A day of {usage}."}}],
            "usage": usage,
        }
        sandbox.fault("status", status=200, body=json.dumps(body), tokens=[10, 60])
        run(services, ada)
    with services.engine.connect() as connection:
        query = select(Call.cost_micros, Call.cost_reported, Call.usage_problem).order_by(Call.created_at)
        first, second = connection.execute(query).all()
    assert first.cost_micros < 1_000
    assert first.cost_reported == 9_999_000_000
    assert "implausible cost: 9999 dollars" in first.usage_problem
    assert "doubtful: 1900000 tokens of a prompt of" in second.usage_problem


def test_a_short_pause_costs_no_run_its_turn(services, ada):
    fleet.pause(desk(services), fleet.Pause(minutes=10, reason="x"), ME)
    ends = utcnow() + timedelta(seconds=45)
    outcome = run(services, ada, expires_at=ends)
    assert (outcome.state, outcome.reason) == ("snoozed", "paused")
    with services.engine.begin() as connection:
        wake_at = connection.execute(select(Run.wake_at)).scalar_one()
    assert ends - LAST_LOOK < wake_at < ends, "it looks once more before its cycle ends"
    fleet.resume(desk(services), fleet.Resume(reason="x"), ME)
    with services.engine.begin() as connection:
        (woken,) = leases.wake(connection)
    assert execute(services, woken).state == "completed"
    fleet.pause(desk(services), fleet.Pause(minutes=10, reason="x"), ME)
    of_a_cycle = {"cycle_at": NOON, "origin": RunOrigin.CYCLE}
    for more, within in ((of_a_cycle, "within the cycle"), ({}, "before it expired")):
        late = run(services, ada, expires_at=utcnow() + timedelta(seconds=3), **more)
        said = f"paused: the fleet is paused; no permit {within}"
        assert (late.state, late.reason) == ("skipped", said)


def test_who_meets_a_probe_waits_for_its_answer(services, redis, ada):
    services.admission.settle(permit(services), CREDITS, tokens=0, cost_micros=0)
    redis.hset(FLEET[0], "open", 1)
    probe = permit(services)
    outcome = run(services, ada)
    assert (outcome.state, outcome.reason) == ("snoozed", "probing")
    services.admission.settle(probe, Verdict("ok"), tokens=1, cost_micros=1)


def test_the_main_cause_is_counted_whole_though_its_text_varies(services, ada):
    with services.engine.begin() as connection:
        for number in range(5):
            reason = f"post: not_stored: PostgreSQL refused it (text {number})"
            make_run(connection, ada, state="failed", reason=reason, finished_at=func.now())
        for reason in ("welcome: budget_day: used up", "comment2: budget_day: used up"):
            make_run(connection, ada, state="skipped", reason=reason, finished_at=func.now())
        found = count_reasons(connection, utcnow() - timedelta(hours=1), 5)
    assert list(found.values()) == [5, 2]


def test_a_reason_is_one_line_without_commands_for_a_terminal(services):
    fleet.pause(desk(services), fleet.Pause(minutes=1, reason="x"), Who("eve", "\x1b[31mred\nnew line\x07"))
    with services.engine.connect() as connection:
        reason = connection.execute(select(AuditEntry.reason).where(AuditEntry.actor == "eve")).scalar_one()
    assert reason == "[31mred new line"
