"""A run from claim to its one terminal state, against a real gateway that misbehaves."""

import threading
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, insert, select, update

from app.admission.turnstile import Stopping
from app.clock import monotonic, utcnow
from app.models import Agent, Call, Comment, Post, Run, RunOrigin, Vote
from app.refusals import EXPIRED
from app.runs import leases
from app.runs.execute import execute
from app.runs.rescue import rescue
from app.usage.calls import call_id
from tests.conftest import make_settings
from tests.support.factories import NOON, make_agents, make_run

from app.wiring import build  # isort: skip


def one_run(services, **values) -> UUID:
    with services.engine.begin() as connection:
        agents = make_agents(connection, 1)
        return make_run(connection, agents[0], **values)


def read(services, *columns):
    with services.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(select(*columns))]


def calls(services):
    return read(services, Call.status, Call.error_code, Call.http_status)


@pytest.mark.plan(2, 26, 30, 34, 49)
def test_first_run_welcomes_and_is_recorded(services, sandbox):
    run_id = one_run(services)
    outcome = execute(services, run_id)
    assert (outcome.state, outcome.reason) == ("completed", None)
    assert read(services, Run.state, Run.attempt) == [("completed", 1)]
    assert read(services, Post.kind, Post.run_id) == [("welcome", run_id)]
    ((body,),) = read(services, Post.body)
    assert 1 <= len(body) <= 280
    (row,) = read(
        services,
        Call.id,
        Call.status,
        Call.tokens_used,
        Call.tokens_input,
        Call.tokens_output,
        Call.cost_micros,
        Call.model,
        Call.request_type,
    )
    (seen,) = sandbox.state.seen
    assert (str(row[0]), row[1]) == (seen.request_id, "ok")
    assert row[2] == row[3] + row[4] == seen.tokens_input + seen.tokens_output
    assert row[5] > 0
    assert row[6:] == ("google/gemini-2.5-flash", "welcome")


@pytest.mark.plan(33)
def test_requests_carry_text_and_what_is_set_for_the_model(services, embedded, sandbox, home):
    gateway = {"reasoning": {"google/gemini-2.5-flash": "low"}, "max_tokens": 600}
    own = build(make_settings(embedded, sandbox.url, home, gateway={"base_url": sandbox.url, **gateway}))
    execute(own, one_run(services))
    own.close()
    (body,) = sandbox.state.bodies
    assert (body["model"], body["max_tokens"]) == ("google/gemini-2.5-flash", 600)
    assert body["reasoning"] == {"effort": "low"}
    assert "response_format" not in body
    assert all(isinstance(message["content"], str) for message in body["messages"])


@pytest.mark.plan(7, 8)
def test_second_run_posts_and_does_not_welcome_again(services):
    first = one_run(services)
    execute(services, first)
    with services.engine.begin() as connection:
        agent_id = connection.execute(select(Agent.id)).scalar_one()
        second = make_run(connection, agent_id)
    execute(services, second)
    assert sorted(read(services, Post.kind)) == [("regular",), ("welcome",)]


def test_second_delivery_makes_no_call(services, sandbox):
    run_id = one_run(services)
    assert execute(services, run_id) is not None
    made = len(sandbox.state.seen)
    assert execute(services, run_id) is None
    assert len(sandbox.state.seen) == made


@pytest.mark.plan(31)
def test_comments_go_to_others_posts_and_use_the_lite_model(services, embedded, sandbox, home):
    busy = build(make_settings(embedded, sandbox.url, home, activity={"comment_probability": 1}))
    with busy.engine.begin() as connection:
        ada, bob = make_agents(connection, 2)
        runs = [make_run(connection, ada), make_run(connection, bob)]
    for run_id in runs:
        execute(busy, run_id)
    comments = read(busy, Comment.agent_id, Comment.slot)
    ((commented,),) = read(busy, Comment.post_id)
    busy.close()
    assert comments == [(bob, 0)]
    assert (commented, ada) in read(services, Post.id, Post.agent_id)
    lite = [row for row in read(services, Call.request_type, Call.model) if row[0] == "comment"]
    assert lite == [("comment", "google/gemini-2.5-flash-lite")]


@pytest.mark.plan(25, 48)
def test_item_25_a_429_is_tried_at_0_1_3_7_seconds_then_skipped_with_its_reason(services, sandbox):
    sandbox.fault("status", status=429, count=4, body='{"error":"Rate limit exceeded"}')
    run_id = one_run(services)
    outcome = execute(services, run_id)
    assert outcome.state == "skipped"
    assert "rate_limited" in outcome.reason
    seen = [request.at_us / 1e6 for request in sandbox.state.seen]
    assert len(seen) == 4
    assert [at - seen[0] for at in seen] == pytest.approx([0, 1, 3, 7], abs=0.5)
    assert calls(services) == [("error", "rate_limited", 429)] * 4
    with services.engine.begin() as connection:
        again = make_run(connection, connection.execute(select(Agent.id)).scalar_one())
    assert execute(services, again).state == "completed"


def test_a_longer_retry_after_wins(services, sandbox):
    sandbox.fault("status", status=429, headers={"retry-after": "2"})
    execute(services, one_run(services))
    first, second, *_ = (request.at_us / 1e6 for request in sandbox.state.seen)
    assert second - first >= 2


@pytest.mark.plan(16)
def test_402_is_not_retried_and_ends_the_run(services, sandbox):
    sandbox.state.rules.credits = 0
    outcome = execute(services, one_run(services))
    assert outcome.state == "skipped"
    assert "credits_exhausted" in outcome.reason
    assert calls(services) == [("error", "credits_exhausted", 402)]


def test_wrong_key_ends_the_run_and_names_the_setting(services, sandbox):
    sandbox.state.rules.key = "right"
    outcome = execute(services, one_run(services))
    assert outcome.state == "skipped"
    assert "LOVABLE_API_KEY was refused" in outcome.reason
    with services.engine.begin() as connection:
        again = make_run(connection, connection.execute(select(Agent.id)).scalar_one())
    assert "LOVABLE_API_KEY was refused" in execute(services, again).reason
    assert len(sandbox.state.seen) == 1


@pytest.mark.parametrize(
    ("kind", "fields", "code", "attempts"),
    [
        ("empty", {"count": 2}, "cut_off", 2),
        ("garbage", {}, "bad_answer", 1),
        ("status", {"status": 500, "count": 2}, "gateway_down", 2),
        ("half", {"count": 2}, "no_answer", 2),
        ("hang", {"count": 2, "seconds": 30}, "no_answer", 2),
        ("trickle", {"count": 2}, "no_answer", 2),
    ],
)
@pytest.mark.plan(17, 32, 42)
def test_every_kind_of_bad_answer_is_a_recorded_failure(services, sandbox, kind, fields, code, attempts):
    sandbox.fault(kind, **fields)
    began = monotonic()
    outcome = execute(services, one_run(services))
    assert monotonic() - began < 12  # two attempts of at most 3 + 2 seconds, and one pause
    assert outcome.state == "failed"
    assert code in outcome.reason
    assert [row[:2] for row in calls(services)] == [("error", code)] * attempts
    assert len(sandbox.state.seen) == attempts


def test_model_that_is_gone_is_replaced_by_the_next_one(services, sandbox):
    first, *others = services.settings.gateway.models(services.settings.gateway.post_model)
    sandbox.fault("status", status=404, body="no such model", model=first)
    assert execute(services, one_run(services)).state == "completed"
    models = read(services, Call.model, Call.error_code)
    assert sorted(models, key=lambda row: row[0] != first) == [(first, "model_gone"), (others[0], None)]
    assert len({row[0] for row in read(services, Call.id)}) == 2


def test_no_model_left_is_a_failure_that_names_it(services, sandbox):
    sandbox.fault("status", status=404, body="no such model", count=9)
    outcome = execute(services, one_run(services))
    assert outcome.state == "failed"
    assert "model_gone" in outcome.reason


@pytest.mark.plan(10)
def test_visit_goes_elsewhere_once_and_is_not_tried_again_after_a_failure(services, sandbox):
    with services.engine.begin() as connection:
        guest = make_agents(connection, 2, "Home")[1]
        (host,) = make_agents(connection, 1, "Elsewhere")
        connection.execute(
            update(Agent).values(visited_at=func.now() - timedelta(hours=1), welcomed_at=func.now())
        )
        hosting = make_run(connection, host)
    execute(services, hosting)
    when = utcnow()
    with services.engine.begin() as connection:
        end = when + timedelta(hours=1)
        visiting = make_run(connection, guest, cycle_at=when, origin="cycle", expires_at=end)
    execute(services, visiting)
    assert ("cross_visit", "ok") in read(services, Call.request_type, Call.status)
    assert len(read(services, Comment.id)) >= 1
    (visited,) = [at for at, agent in read(services, Agent.visited_at, Agent.id) if agent == guest]
    assert visited >= when


@pytest.mark.plan(10)
def test_a_visit_that_fails_counts_too_and_a_host_at_home_is_no_visit(services, sandbox):
    with services.engine.begin() as connection:
        _, guest = make_agents(connection, 2, "Home")
        (host,) = make_agents(connection, 1, "Elsewhere")
        long_ago = func.now() - timedelta(hours=1)
        connection.execute(update(Agent).values(visited_at=long_ago, welcomed_at=func.now()))
        hosting = make_run(connection, host)
    execute(services, hosting)
    when = utcnow()

    def visit():
        with services.engine.begin() as connection:
            at = when + timedelta(seconds=len(read(services, Run.id)))
            run = make_run(connection, guest, cycle_at=at, origin="cycle", expires_at=at + timedelta(hours=1))
        execute(services, run)
        kinds = read(services, Call.request_type, Call.status)
        visits = [status for kind, status in kinds if kind == "cross_visit"]
        at = {agent: at for at, agent in read(services, Agent.visited_at, Agent.id)}[guest]
        return visits, at

    model = services.settings.gateway.comment_model
    sandbox.fault("status", status=400, body="{}", model=model, count=20)
    visits, visited = visit()
    assert visits == ["error"]
    assert visited >= when, "its timer begins anew although nothing came of it"
    visits, _ = visit()
    assert visits == ["error"], "not again in the next cycle"


@pytest.mark.plan(13, 23)
def test_reactions_cost_no_call_and_are_stored_once(services, sandbox):
    with services.engine.begin() as connection:
        one, two = make_agents(connection, 2)
        posting, reacting = make_run(connection, one), make_run(connection, two)
    execute(services, posting)
    execute(services, reacting)
    ((value, reaction, run_id),) = read(services, Vote.value, Vote.reaction, Vote.run_id)
    assert value in (-1, 1)
    assert reaction
    assert run_id == reacting
    assert {row[0] for row in read(services, Call.request_type)} <= {"welcome", "comment"}


@pytest.mark.plan(22)
def test_no_regular_post_where_the_community_had_one_just_now(services, sandbox, embedded, home):
    quiet = build(
        make_settings(embedded, sandbox.url, home, activity={"post_quiet_s": 60, "comment_slots": 0})
    )
    with services.engine.begin() as connection:
        first, second = make_agents(connection, 2)
        connection.execute(update(Agent).values(welcomed_at=func.now()))
        posting, silent = make_run(connection, first), make_run(connection, second)
    assert execute(quiet, posting).posts == 1
    with services.engine.begin() as connection:  # it was opened after that post
        connection.execute(update(Run).where(Run.id == silent).values(created_at=func.now()))
    outcome = execute(quiet, silent)
    assert (outcome.state, outcome.posts) == ("completed", 0)
    assert "the community had one" in outcome.reason
    assert len(sandbox.state.seen) == 1, "and no call was paid for"
    with services.engine.begin() as connection:
        connection.execute(update(Post).values(created_at=func.now() - timedelta(minutes=2)))
        later = make_run(connection, second)
    assert execute(quiet, later).posts == 1
    quiet.close()


def test_a_resumed_run_counts_its_attempts_on(services, sandbox):
    run_id = one_run(services)
    with services.engine.begin() as connection:
        held = leases.claim(connection, run_id, timedelta(seconds=-1), "a worker that dies")
        connection.execute(
            insert(Call).values(
                id=call_id(run_id, "welcome", 1),
                run_id=run_id,
                agent_id=held.agent_id,
                step="welcome",
                attempt=1,
                request_type="welcome",
                model="m",
                status="unknown",
                tokens_reserved=9,
            )
        )
    with services.engine.begin() as connection:
        rescue(connection, patience=timedelta(0), call_deadline=timedelta(hours=1))
    assert execute(services, run_id).state == "completed"
    welcomes = read(services, Call.attempt, Call.status, Call.step)
    assert sorted(row[:2] for row in welcomes if row[2] == "welcome") == [(1, "unknown"), (2, "ok")]
    ids = [row[0] for row in read(services, Call.id)]
    assert len(ids) == len(set(ids))


def test_empty_answer_is_charged(services, sandbox):
    sandbox.fault("empty", count=2)
    execute(services, one_run(services))
    for used, cost in read(services, Call.tokens_used, Call.cost_micros):
        assert used > 0
        assert cost > 0


def test_run_past_its_cycle_is_skipped_without_a_call(services, sandbox):
    past = func.now() - timedelta(seconds=1)
    run_id = one_run(services, expires_at=past, cycle_at=NOON, origin=RunOrigin.CYCLE)
    outcome = execute(services, run_id)
    assert (outcome.state, outcome.reason) == ("skipped", EXPIRED)
    assert sandbox.state.seen == []


def test_paused_agent_makes_no_call(services, sandbox):
    run_id = one_run(services)
    with services.engine.begin() as connection:
        connection.execute(update(Agent).values(state="paused"))
    assert execute(services, run_id).reason == "agent paused"
    assert sandbox.state.seen == []


@pytest.mark.plan(7)
def test_resumed_run_keeps_its_welcome_and_does_not_ask_again(services, sandbox):
    """The worker died after its post was stored and before the run ended."""
    run_id = one_run(services)
    execute(services, run_id)
    with services.engine.begin() as connection:
        connection.execute(
            update(Run).values(
                state="running", finished_at=None, lease_until=func.now() - timedelta(seconds=1)
            )
        )
        rescue(connection, patience=timedelta(seconds=60), call_deadline=timedelta(minutes=5))
    made = len(sandbox.state.seen)
    assert execute(services, run_id).state == "completed"
    assert len(sandbox.state.seen) == made
    assert len(read(services, Post.id)) == 1


def test_worker_that_lost_its_lease_records_its_spend_and_stores_nothing(services, sandbox):
    run_id = one_run(services)
    complete = services.gateway.complete

    def lose_the_lease_meanwhile(prompt):
        answer = complete(prompt)
        with services.engine.begin() as connection:
            connection.execute(update(Run).values(attempt=Run.attempt + 1))
        return answer

    services.gateway.complete = lose_the_lease_meanwhile
    assert execute(services, run_id) is None
    assert read(services, Post.id) == []
    ((status, used),) = read(services, Call.status, Call.tokens_used)
    assert status == "ok"
    assert used > 0


def test_two_first_runs_at_once_store_one_welcome_and_one_post(services):
    """A cycle's run and an ad-hoc one of a new agent: both write a welcome, neither is thrown away."""
    with services.engine.begin() as connection:
        (agent,) = make_agents(connection, 1)
        runs = [make_run(connection, agent) for _ in range(2)]
    barrier = threading.Barrier(2)
    complete = services.gateway.complete

    def together(prompt):
        barrier.wait(10)
        return complete(prompt)

    services.gateway.complete = together
    threads = [threading.Thread(target=execute, args=(services, run_id)) for run_id in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(read(services, Post.kind)) == [("regular",), ("welcome",)]
    assert {row[0] for row in read(services, Post.run_id)} == set(runs)


def test_error_of_our_own_ends_the_run_with_its_name(services):
    def break_down(_):
        raise ZeroDivisionError("a bug")

    services.gateway.complete = break_down
    with pytest.raises(ZeroDivisionError):
        execute(services, one_run(services))
    ((state, reason),) = read(services, Run.state, Run.reason)
    assert (state, reason) == ("failed", "internal error: ZeroDivisionError('a bug')")


def test_worker_told_to_end_gives_its_run_back_between_two_calls(services, sandbox):
    run_id = one_run(services)
    services.stopping.set()
    with pytest.raises(Stopping):
        execute(services, run_id, is_adhoc=True)
    with pytest.raises(Stopping):
        execute(services, run_id)
    assert read(services, Run.state, Run.losses) == [("queued", 0)]
    assert sandbox.state.seen == []
