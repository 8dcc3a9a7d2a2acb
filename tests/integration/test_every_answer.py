"""Each kind of answer from the wire to the page: what it stops, costs and ends with, what a person sees."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import delete, func, select, text, update

from app import controls, kinds
from app.actions import Desk, Who, agents, fleet
from app.admission.scripts import FLEET
from app.alerts import incidents, rules
from app.clock import monotonic, utcnow
from app.community.budgets import set_budget
from app.errors import NotFound
from app.gateway.tally import SandboxTally
from app.models import Agent, AuditEntry, Call, Community, Post, Run
from app.runs import books, leases
from app.runs.budgets import read_budgets
from app.runs.execute import execute
from app.runs.explain import explain
from app.runs.rescue import rescue
from app.runs.scheduling import allowance
from app.runs.stops import find_stops, look
from app.runs.upkeep import find_drift, reconcile_limits
from tests.conftest import make_settings
from tests.support.factories import make_agents, make_run

from app.wiring import build  # isort: skip


@pytest.fixture
def ada(services):
    with services.engine.begin() as connection:
        (agent,) = make_agents(connection, 1)
        connection.execute(update(Agent).values(welcomed_at=func.now()))
    return agent


def run(services, agent, **values):
    with services.engine.begin() as connection:
        run_id = make_run(connection, agent, **values)
    return execute(services, run_id)


def rows(services, *columns):
    with services.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(select(*columns))]


def calls(services):
    return rows(services, Call.status, Call.error_code)


def stops_of(services):
    return find_stops(look(services.admission, services.settings, services.engine))


def answer(sandbox, status, body, **fields):
    raw = body if isinstance(body, str) else json.dumps(body)
    sandbox.fault("status", status=status, body=raw, **fields)


def completion(text="A fine day.", usage=None, **choice):
    chosen = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"} | choice
    return {"choices": [chosen], "usage": usage}


def audit(services, sandbox):
    tally = SandboxTally(sandbox.url)
    try:
        return books.audit(services, tally)
    finally:
        tally.close()


def desk(services):
    return Desk(services.settings, services.engine, services.admission)


# What stops the fleet

STOPS = [
    (402, {"type": "payment_required", "message": "Not enough credits"}, kinds.CREDITS_EXHAUSTED),
    (429, {"error": {"type": "insufficient_quota", "message": "pay"}}, kinds.CREDITS_EXHAUSTED),
    (200, {"choices": None, "error": {"code": 402}}, kinds.CREDITS_EXHAUSTED),
    (401, {"type": "unauthorized", "message": ""}, kinds.KEY_REFUSED),
    (
        400,
        {"error": {"code": 400, "message": "no", "details": [{"reason": "API_KEY_INVALID"}]}},
        kinds.KEY_REFUSED,
    ),
    (403, {"error": {"code": 403, "message": "Key limit exceeded (daily limit)"}}, kinds.KEY_LIMIT),
    (
        429,
        {"error": {"details": [{"violations": [{"quotaId": "RequestsPerDayPerProject"}]}]}},
        kinds.DAILY_LIMIT,
    ),
]


@pytest.mark.parametrize(("status", "body", "kind"), STOPS)
@pytest.mark.plan(16, 17)
def test_a_stop_has_an_incident_an_alert_a_line_everywhere_a_probe_and_an_end(
    services, sandbox, redis, ada, status, body, kind
):
    answer(sandbox, status, body)
    outcome = run(services, ada)
    assert (outcome.state, kind.code in outcome.reason) == ("skipped", True)
    assert calls(services) == [("error", kind.code)], "not tried again"
    assert kind.code in run(services, ada).reason
    assert len(sandbox.state.seen) == 1, "nobody else calls"
    state = services.admission.state()
    assert state.stop_reason == kind.code
    assert allowance(state, services.settings, utcnow()).runs == 0
    (stop,) = stops_of(services)
    assert stop.about == kind.code
    assert "next probe" in stop.says
    assert stop.mend
    assert kind.title in explain(services, ada, utcnow()).answer.lower()
    with services.engine.begin() as connection:
        incidents.fold(connection)
        (incident,) = incidents.list_incidents(connection)
        assert (incident["kind"], incident["calls"], incident["agents"]) == (kind.code, 1, 1)
        (message,) = [m for m in rules.evaluate(connection, services.settings) if "incident" in m.key]
        assert kind.title in message.title
    # Its cause ends: the next probe finds out, whatever a person does.
    redis.hset(FLEET[0], "open", 1)
    assert allowance(services.admission.state(), services.settings, utcnow()).runs == 1
    assert run(services, ada).state == "completed"
    assert services.admission.state().stop_reason is None
    assert stops_of(services) == []
    assert audit(services, sandbox).total == 0
    with services.engine.begin() as connection:
        assert len(incidents.fold(connection).closed) == 1
        (incident,) = incidents.list_incidents(connection)
        probe = select(Call.created_at).where(Call.status == "ok").order_by(Call.created_at).limit(1)
        assert incident["closed_at"] == connection.execute(probe).scalar_one(), "its probe's time"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (
            403,
            {
                "error": {
                    "code": 403,
                    "message": "Your input was flagged",
                    "metadata": {"reasons": ["harassment"]},
                }
            },
            kinds.PROMPT_FLAGGED,
        ),
        (
            400,
            {"error": {"message": "Received Model Group=x", "code": "content_policy_violation"}},
            kinds.PROMPT_FLAGGED,
        ),
        (403, "forbidden", kinds.FORBIDDEN),
        (400, {"error": {"message": "bad request about a model"}}, kinds.REQUEST_REFUSED),
        (404, {"error": {"code": "model_not_found"}}, kinds.MODEL_GONE),
        (200, completion(finish_reason="content_filter"), kinds.FILTERED),
        (200, completion(None, message={"refusal": "no", "content": None}), kinds.MODEL_REFUSED),
    ],
)
def test_one_bad_request_stops_nobody_else(services, sandbox, ada, status, body, kind):
    answer(sandbox, status, body)
    run(services, ada)
    assert ("error", kind.code) in calls(services)
    state = services.admission.state()
    assert (state.stop_reason, state.rate_limited_until) == (None, None)
    assert stops_of(services) == []
    assert run(services, ada).state == "completed"
    models = {row[0] for row in rows(services, Call.model)}
    assert services.settings.gateway.post_model in models, "and the model is still asked"
    with services.engine.begin() as connection:
        assert incidents.fold(connection) == incidents.Folded()
    assert audit(services, sandbox).total == 0


def test_a_model_is_dropped_for_all_only_when_a_second_run_sees_it(services, sandbox, ada):
    post_model = services.settings.gateway.post_model
    sandbox.fault("status", status=410, body="{}", model=post_model, count=2)
    assert run(services, ada).state == "completed", "by the fallback"
    asked = [row[0] for row in rows(services, Call.model)]
    assert asked.count(post_model) == 1
    run(services, ada)
    run(services, ada)
    asked = [row[0] for row in rows(services, Call.model)]
    assert asked.count(post_model) == 2, "the third run does not ask it any more"


def test_an_error_429_within_a_200_pauses_and_is_tried_again(services, sandbox, ada):
    answer(sandbox, 200, {"choices": None, "error": {"code": 429}})
    assert run(services, ada).state == "completed"
    assert calls(services)[0] == ("error", "rate_limited")
    first, second = sandbox.state.seen[:2]
    assert second.at_us - first.at_us >= 900_000
    assert audit(services, sandbox).total == 0


def test_nobody_sleeps_an_hour_for_somebody_elses_wait(services, sandbox, ada):
    answer(sandbox, 429, "{}", headers={"retry-after": "86400"})
    began = monotonic()
    outcome = run(services, ada)
    assert monotonic() - began < 5
    assert (outcome.state, outcome.reason) == ("snoozed", "rate_limited")
    ((wake_at,),) = rows(services, Run.wake_at)
    assert wake_at - utcnow() <= timedelta(minutes=1), "never longer without a look"
    (stop,) = stops_of(services)
    assert stop.about == "rate_limited"
    fleet.resume(desk(services), fleet.Resume(reason="x"), Who("eve", "asked the gateway"))
    with services.engine.begin() as connection:
        (woken,) = leases.wake(connection)
    assert execute(services, woken).state == "completed"


def test_a_run_in_an_open_ended_pause_looks_again_within_a_minute(services, ada):
    fleet.pause(desk(services), fleet.Pause(minutes=None, reason="x"), Who("eve", "a drill"))
    assert run(services, ada).state == "snoozed"
    ((wake_at,),) = rows(services, Run.wake_at)
    assert wake_at - utcnow() <= timedelta(minutes=1)


def test_503_with_retry_after_is_honoured(services, sandbox, ada):
    answer(sandbox, 503, "{}", headers={"retry-after": "2"})
    assert run(services, ada).state == "completed"
    first, second = sandbox.state.seen[:2]
    assert second.at_us - first.at_us >= 1_900_000


# What PostgreSQL refuses

REFUSE = """
  create function pg_temp_refuse() returns trigger language plpgsql as
  $$ begin raise exception 'not on a Sunday' using errcode = '{code}'; end $$;
  create trigger refuse before {when} on paceline.{table} for each row execute function pg_temp_refuse()
"""


@pytest.fixture
def refuse(services):
    """A trigger of the user's own that raises."""

    def make(table, when="insert", code="P0001"):
        with services.engine.begin() as connection:
            connection.execute(text(REFUSE.format(table=table, when=when, code=code)))

    yield make
    with services.engine.begin() as connection:
        connection.execute(text("drop function if exists pg_temp_refuse cascade"))


def test_a_row_that_the_database_refuses_is_paid_once(services, sandbox, ada, refuse):
    refuse("posts")
    outcome = run(services, ada)
    assert outcome.state == "failed"
    assert "P0001" in outcome.reason
    assert "not on a Sunday" in outcome.reason
    assert calls(services) == [("error", "not_stored")]
    ((tokens, cost),) = rows(services, Call.tokens_used, Call.cost_micros)
    assert tokens > 0
    assert cost > 0
    with services.engine.begin() as connection:
        done = rescue(connection, patience=timedelta(0), call_deadline=timedelta(0))
        assert (done.to_publish, done.quarantined) == ([], [])
    assert len(sandbox.state.seen) == 1
    assert services.admission.state().reserved == 0
    assert audit(services, sandbox).total == 0


@pytest.mark.parametrize("table", ["ai_request_log", "votes", "runs"])
def test_other_rows_that_are_refused_end_the_run_too(services, sandbox, ada, refuse, table):
    with services.engine.begin() as connection:
        bob = make_agents(connection, 2)[1]
        connection.execute(update(Agent).values(welcomed_at=func.now()))
    run(services, bob)  # something to vote on
    asked = len(sandbox.state.seen)
    with services.engine.begin() as connection:
        run_id = make_run(connection, ada)
    refuse(table, "update" if table == "runs" else "insert")
    execute(services, run_id)
    with services.engine.begin() as connection:
        connection.execute(text("drop function pg_temp_refuse cascade"))
    ((state, reason),) = [
        row[1:] for row in rows(services, Run.id, Run.state, Run.reason) if row[0] == run_id
    ]
    if table == "runs":  # nothing can be written of it, not even its end
        assert state == "queued"
    else:
        assert (state, "P0001" in reason) == ("failed", True)
    if table != "votes":
        assert len(sandbox.state.seen) == asked, "nothing was asked for"
    assert services.admission.state().reserved == 0


@pytest.mark.parametrize("code", ["25006", "57P01", "53300"])
def test_trouble_that_passes_leaves_the_run_to_its_lease(services, ada, refuse, code):
    refuse("posts", code=code)
    assert run(services, ada) is None
    assert rows(services, Run.state) == [("running",)]


def test_a_lost_race_is_tried_again_at_once_and_paid_once(services, sandbox, ada):
    with services.engine.begin() as connection:
        connection.execute(text("create sequence lost_races"))
        connection.execute(
            text("""
          create function lose_once() returns trigger language plpgsql as $$ begin
            if nextval('lost_races') = 1 then raise exception 'deadlock' using errcode = '40P01'; end if;
            return new; end $$;
          create trigger lose before insert on paceline.posts for each row execute function lose_once()
        """)
        )
    try:
        assert run(services, ada).state == "completed"
        assert (len(sandbox.state.seen), calls(services)) == (1, [("ok", None)])
    finally:
        with services.engine.begin() as connection:
            connection.execute(text("drop function lose_once cascade; drop sequence lost_races"))


# Unknown is not zero

ODD = [
    completion(usage=None),
    completion(usage={"prompt_tokens": 0, "completion_tokens": 0}),
    completion(usage={"prompt_tokens": 2147483647, "completion_tokens": 2147483647}),
    {"choices": [], "usage": None},
]


@pytest.mark.parametrize("body", ODD)
def test_a_budget_holds_when_nobody_knows_the_cost(services, sandbox, ada, body):
    fleet.set_limits(desk(services), {"budget_day_micros": 10_000}, Who("eve", ""))
    set_no_duplicates(services)
    answer(sandbox, 200, body, count=100)
    outcomes = [run(services, ada) for _ in range(12)]
    assert "budget_day" in outcomes[-1].reason
    ((reserved,),) = rows(services, func.max(Call.cost_reserved))
    made = len(sandbox.state.seen)
    assert 10_000 <= made * reserved < 10_000 + 2 * reserved, "to within one reservation"
    for _ in range(3):
        reconcile_limits(services)
        run(services, ada)
    assert len(sandbox.state.seen) == made, "nobody takes the estimates back"
    assert find_drift(services) == []
    found = audit(services, sandbox)
    assert found.total == 0
    with services.engine.begin() as connection:
        of_fleet = read_budgets(connection, services.settings, utcnow())[0]
    assert (of_fleet.is_used_up, services.admission.state().budgets[0].is_used_up) == (True, True)
    assert of_fleet.spent == services.admission.state().budgets[0].used


def set_no_duplicates(services):
    with services.engine.begin() as connection:
        controls.change_controls(
            connection, services.settings.controls, {"duplicates_s": 0}, actor="t", reason=""
        )


@pytest.mark.parametrize("cause", ["half", "hang"])
def test_a_call_that_broke_off_counts_its_estimate_in_both_stores(services, sandbox, ada, cause):
    sandbox.fault(cause, count=2, seconds=30)
    run(services, ada)
    assert calls(services) == [("error", "no_answer")] * 2
    assert find_drift(services) == []
    with services.engine.begin() as connection:
        spent = read_budgets(connection, services.settings, utcnow())[0].spent
    ((reserved,),) = rows(services, func.sum(Call.cost_reserved))
    assert spent == reserved > 0
    assert audit(services, sandbox).total == 0


def test_one_rule_says_when_a_budget_is_used_up(services, sandbox, ada):
    """Whoever refuses, warns, explains and draws: at every moment they say the same."""
    fleet.set_limits(desk(services), {"budget_day_micros": 400}, Who("eve", ""))
    said = set()
    for _ in range(12):
        outcome = run(services, ada)
        with services.engine.begin() as connection:
            is_used_up = read_budgets(connection, services.settings, utcnow())[0].is_used_up
            keys = [m.key for m in rules.evaluate(connection, services.settings)]
        told = any(key.startswith("budget.") and key.endswith(".100") for key in keys)
        stops = [stop.about for stop in stops_of(services)]
        findings = explain(services, ada, utcnow()).findings
        explained = any(found.about == "budget" and found.stops for found in findings)
        assert {is_used_up, told, "budget_day" in stops, explained} == {is_used_up}
        if outcome.state == "skipped":
            assert is_used_up
        said.add(is_used_up)
    assert said == {False, True}


def test_a_cost_that_the_gateway_reports_wins(services, sandbox, ada):
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "cost": 0.25}
    answer(sandbox, 200, completion(usage=usage), tokens=[10, 5])
    run(services, ada)
    assert rows(services, Call.cost_micros, Call.cost_reported) == [(250_000, 250_000)]
    assert find_drift(services) == []
    assert audit(services, sandbox).total == 0


def test_usage_that_contradicts_itself_is_flagged_and_counted(services, sandbox, ada):
    usage = {"prompt_tokens": 50, "completion_tokens": 100, "total_tokens": 120}
    answer(sandbox, 200, completion(usage=usage), tokens=[50, 100])
    run(services, ada)
    ((problem, used),) = rows(services, Call.usage_problem, Call.tokens_used)
    assert ("contradictory" in problem, used) == (True, 150)
    found = audit(services, sandbox)
    assert (found.total, found.uncertain["usage_contradicts_itself"]) == (0, 1)


def test_a_budget_of_a_model_without_a_price_is_refused_or_warned_about(
    services, embedded, sandbox, home, ada
):
    unpriced = {"base_url": sandbox.url, "post_model": "z-ai/glm-4.6-unheard-of"}
    for policy, state in (("refuse", "skipped"), ("warn", "completed")):
        own = build(
            make_settings(embedded, sandbox.url, home, gateway=unpriced, usage={"unknown_prices": policy})
        )
        with own.engine.begin() as connection:
            connection.execute(delete(Run).where(Run.state == "queued"))
        fleet.set_limits(desk(services), {"budget_day_micros": 10_000}, Who("eve", ""))
        outcome = run(own, ada)
        assert outcome.state == state
        if policy == "refuse":
            assert "PACELINE_USAGE__PRICES" in outcome.reason
            with pytest.raises(Exception, match="PACELINE_USAGE__PRICES"):
                fleet.set_limits(desk(own), {"budget_day_micros": 20_000}, Who("eve", ""))
        (stop,) = stops_of(own)
        assert "PACELINE_USAGE__PRICES" in stop.says
        with own.engine.begin() as connection:
            keys = [m.key.split(".")[0] for m in rules.evaluate(connection, own.settings)]
        assert "no_price" in keys
        own.close()


def test_a_communitys_budget_is_used_up_by_the_same_rule(services, sandbox, ada):
    with services.engine.begin() as connection:
        name = connection.execute(select(Community.name)).scalar_one()
        set_budget(connection, name, {"budget_day_micros": 100}, actor="t", reason="")
    outcomes = [run(services, ada) for _ in range(4)]
    assert "community_budget_day" in outcomes[-1].reason
    with services.engine.begin() as connection:
        own = [b for b in read_budgets(connection, services.settings, utcnow()) if b.of == name]
    assert own[0].is_used_up


# The whole, final answer; requests that fit the model


def test_a_cut_off_answer_is_asked_for_once_more_with_more_room(services, sandbox, ada):
    answer(sandbox, 200, completion("half a sent", finish_reason="length"))
    assert run(services, ada).state == "completed"
    asked = [body["max_tokens"] for body in sandbox.state.bodies]
    assert asked == [asked[0], 2 * asked[0]]
    assert "half a sent" not in {row[0] for row in rows(services, Post.body)}


def test_thoughts_are_not_published(services, sandbox, ada):
    answer(sandbox, 200, completion("<think>what to say</think>\n\n“Good morning.”"))
    run(services, ada)
    assert rows(services, Post.body) == [("Good morning.",)]


def test_what_was_dropped_is_kept_for_a_reviewer(services, sandbox, ada):
    hidden = "".join(chr(0xE0000 + ord(char)) for char in "obey")
    answer(sandbox, 200, completion(f"Good morning.{hidden}"))
    run(services, ada)
    ((body, dropped),) = rows(services, Post.body, Post.dropped)
    assert (body, "'obey'" in dropped) == ("Good morning.", True)


def test_a_parameter_that_a_model_refuses_is_left_out_from_then_on(services, sandbox, ada):
    refused = {"error": {"code": "unsupported_parameter", "param": "max_tokens", "message": "no"}}
    value = {"error": {"code": "unsupported_value", "param": "temperature", "message": "only 1"}}
    answer(sandbox, 400, refused)
    answer(sandbox, 400, value)
    assert run(services, ada).state == "completed"
    assert run(services, ada).state == "completed"
    first, *_, last = sandbox.state.bodies
    assert {"max_tokens", "temperature"} <= set(first)
    assert "max_completion_tokens" in last
    assert not {"max_tokens", "temperature"} & set(last)
    codes = [row[1] for row in calls(services)]
    assert codes.count("parameter_refused") == 2, "learned once"


def test_a_welcome_that_nobody_sees_is_asked_for_three_times_at_most(services, sandbox):
    with services.engine.begin() as connection:
        (eve,) = make_agents(connection, 1)
        controls.change_controls(
            connection, services.settings.controls, {"banned_words": ["coin"]}, actor="t", reason=""
        )
    answer(sandbox, 200, completion("Buy my coin"), count=2)
    answer(sandbox, 200, completion(None), count=1)
    for _ in range(5):
        run(services, eve)
    asked = [row[0] for row in rows(services, Call.request_type)]
    assert asked.count("welcome") == 3
    assert asked.count("post") == 2


# A person


def test_a_person_cancels_runs_that_wait_or_go_on(services, sandbox, ada):
    with services.engine.begin() as connection:
        waiting = make_run(connection, ada)
        late = utcnow() + timedelta(hours=1)
        snoozed = make_run(connection, ada, state="snoozed", wake_at=late)
        running = make_run(connection, ada)
    complete = services.gateway.complete

    def cancelled_meanwhile(prompt):
        agents.cancel_runs(
            desk(services), agents.CancelRuns(runs=[running], reason="x"), Who("eve", "wrong agent")
        )
        return complete(prompt)

    services.gateway.complete = cancelled_meanwhile
    assert execute(services, running) is None
    assert (
        agents.cancel_runs(
            desk(services), agents.CancelRuns(runs=[waiting, snoozed], reason="x"), Who("eve", "")
        )
        == 2
    )
    found = {row[0]: row[1:] for row in rows(services, Run.id, Run.state, Run.reason)}
    assert found[running] == ("skipped", "cancelled by eve: wrong agent")
    assert found[waiting] == found[snoozed] == ("skipped", "cancelled by eve")
    assert (len(sandbox.state.seen), calls(services)) == (1, [("ok", None)]), "paid and recorded"
    assert rows(services, Post.id) == []
    assert {row[0] for row in rows(services, AuditEntry.action)} == {"runs.cancel"}
    with pytest.raises(NotFound):
        agents.cancel_runs(desk(services), agents.CancelRuns(runs=[waiting], reason="x"), Who("eve", ""))
