"""The verdict of the storm can fail: each number moves when its fault is planted."""

from dataclasses import fields, replace
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import func, insert, text

from app.clock import monotonic, sleep
from app.integration.deliver import Receivers
from app.models import Agent, Call, Comment, Post, RunState
from app.refusals import EXPIRED
from app.runs import leases
from app.runs.execute import execute
from app.usage.calls import call_id
from app.wiring import build
from tests.chaos.application import Application, WayOut
from tests.chaos.fleet import CAPACITY, RATE
from tests.chaos.verdict import (
    Recovery,
    Verdict,
    count_doubled,
    count_in_flight,
    count_never_taken,
    truth_of,
    violations,
)
from tests.conftest import make_settings
from tests.support.factories import NOON, make_agents, make_run

GOOD = Verdict(
    faults=30,
    not_possible=2,
    runs=100,
    calls=200,
    lost=0,
    never_taken=3,
    doubled=0,
    unrecorded=0,
    violations=0,
    violations_strict=1,
    books_differ=0,
    over_quota=0,
    over_quota_as_reserved=0,
    gets=9,
    gets_untrue=0,
    forgotten=0,
    calls_unknown=4,
    paid_twice=1,
    recoveries=2,
    slowest_recovery_s=12.0,
    states={},
    differences={},
    way_out=WayOut(
        rows=9,
        not_there=0,
        still_there=0,
        waiting=0,
        dead=0,
        events=9,
        events_lost=0,
        out_of_order=0,
        forged=0,
    ),
)


IN_CYCLE = {"cycle_at": NOON, "origin": "cycle", "expires_at": NOON + timedelta(minutes=5)}


@pytest.fixture
def ada(connection):
    (agent,) = make_agents(connection, 1)
    return agent


def a_call(connection, agent, run, status="ok"):
    connection.execute(
        insert(Call).values(
            id=call_id(run, "post", 1),
            run_id=run,
            agent_id=agent,
            step="post",
            attempt=1,
            request_type="post",
            model="m",
            status=status,
            tokens_reserved=1,
            cost_reserved=1,
        )
    )


def a_post(connection, agent, run, body, **values):
    given = {"kind": "regular", "state": "published", "fingerprint": body, **values}
    place = connection.execute(Agent.__table__.select()).first().community_id
    row = {"id": uuid4(), "agent_id": agent, "run_id": run, "community_id": place, "body": body}
    connection.execute(insert(Post).values(**row, **given))
    return row["id"]


@pytest.mark.parametrize(
    "fault",
    [
        {name: 1}
        for name in (
            "lost",
            "doubled",
            "unrecorded",
            "violations",
            "books_differ",
            "over_quota",
            "gets_untrue",
        )
    ]
    + [{"never_taken": 51}, {"violations_strict": 21}],
)
def test_each_fault_makes_the_verdict_bad(fault):
    assert GOOD.is_good
    assert not replace(GOOD, **fault).is_good


@pytest.mark.parametrize("fault", [f.name for f in fields(WayOut) if f.name not in ("rows", "events")])
def test_each_fault_of_the_way_out_makes_it_bad(fault):
    assert not replace(GOOD, way_out=replace(GOOD.way_out, **{fault: 1})).is_good


def test_every_number_is_written_down():
    assert {field.name for field in fields(Verdict)} < set(GOOD.as_json())


def test_a_healthy_fleet_has_nothing_twice_lost_or_under_way(connection, ada):
    run = make_run(connection, ada, **IN_CYCLE)
    a_call(connection, ada, run)
    a_post(connection, ada, run, "one")
    assert count_doubled(connection) == 0
    assert count_in_flight(connection) == 0
    assert count_never_taken(connection) == 0


def test_two_posts_of_one_cycle_are_seen_though_the_keys_that_forbid_them_are_gone(connection, ada):
    connection.execute(text("alter table paceline.runs drop constraint uq_runs_agent_id_cycle_at"))
    for body in ("one", "two"):
        run = make_run(connection, ada, **IN_CYCLE)
        a_call(connection, ada, run)
        a_post(connection, ada, run, body)
    assert count_doubled(connection) == 1


def test_two_welcomes_are_seen(connection, ada):
    connection.execute(text("drop index paceline.uq_posts_welcome"))
    for body in ("one", "two"):
        run = make_run(connection, ada)
        a_call(connection, ada, run)
        a_post(connection, ada, run, body, kind="welcome")
    assert count_doubled(connection) == 1


def test_the_same_text_twice_and_a_text_from_nowhere_are_seen(connection, ada):
    runs = [make_run(connection, ada) for _ in range(2)]
    for run in runs:
        a_call(connection, ada, run)
    post = a_post(connection, ada, runs[0], "again")
    connection.execute(
        insert(Comment).values(
            id=uuid4(),
            agent_id=ada,
            run_id=runs[1],
            post_id=post,
            slot=0,
            body="again",
            state="published",
            fingerprint="again",
        )
    )
    assert count_doubled(connection) == 1
    a_post(connection, ada, make_run(connection, ada), "from nowhere")
    assert count_doubled(connection) == 2


def test_a_call_that_never_ends_and_a_run_that_nobody_took_are_seen(connection, ada):
    run = make_run(connection, ada)
    a_call(connection, ada, run, "in_flight")
    assert count_in_flight(connection) == 1
    ended = {"state": RunState.SKIPPED, "finished_at": func.now()}
    make_run(connection, ada, **ended, reason=EXPIRED)
    assert count_never_taken(connection) == 1
    make_run(connection, ada, **ended, reason=EXPIRED, attempt=1)
    assert count_never_taken(connection) == 1, "that one was taken"


def test_a_burst_is_counted_by_the_room_that_the_docs_ask_for():
    step = 1_000_000 // RATE
    steady = [n * step for n in range(100)]
    assert violations(steady) == violations(steady, 2) == 0
    late = sorted([*steady, 50 * step, 50 * step, 50 * step])
    assert violations(late, 2) > 0
    assert violations(late, CAPACITY) == 0
    assert violations(sorted([*steady, *[50 * step] * 20])) > 0


def test_a_run_of_a_dead_worker_counts_as_recovered_when_another_has_it(services):
    class Fleet:
        engine = services.engine

    with services.engine.begin() as connection:
        (agent,) = make_agents(connection, 1)
        run = make_run(connection, agent)
        leases.claim(connection, run, timedelta(seconds=0), "worker1@chaos")
    recovery = Recovery()
    recovery.mourn(Fleet, ["worker1"])
    recovery.look(Fleet)
    assert (recovery.count, list(recovery.waiting)) == (0, [run])
    recovery.waiting[run] = (1, monotonic() - 50)
    with services.engine.begin() as connection:
        connection.execute(text("update paceline.runs set attempt = 2"))
    recovery.look(Fleet)
    assert recovery.count == 1
    assert recovery.slowest_s >= 50


def test_what_get_says_is_compared_with_the_row():
    assert truth_of("completed", None) == "completed"
    assert truth_of("failed", None) == "RunFailed"
    assert truth_of("skipped", "root") == "TaskRevokedError"


@pytest.fixture
def connected(engine, redis, embedded, sandbox, home):
    """The storm's application, and a fleet whose agents wrote something."""
    application = Application(engine, f"{home}/servers/postgres/data/.s.PGSQL.5432")
    settings = make_settings(
        embedded,
        sandbox.url,
        home,
        activity={"comment_probability": 1.0, "visit_every_s": 0},
        app={"private_networks": True, "database_url": application.env()["PACELINE_APP__DATABASE_URL"]},
    )
    services = build(settings)
    receivers = Receivers(services.engine, services.settings)
    with services.engine.begin() as connection:
        runs = [make_run(connection, one) for one in make_agents(connection, 4)]
    for run_id in runs:
        assert execute(services, run_id).state == "completed"
    until = monotonic() + 30
    while not application.is_quiet() and monotonic() < until:
        application.heal()
        receivers.deliver_app()
        receivers.begin_webhooks()
        sleep(0.1)
    yield application
    receivers.close()
    services.close()
    application.close()


def test_what_the_application_lost_or_got_out_of_order_is_counted(connected):
    good = connected.judge()
    assert good.is_good, good
    assert min(good.rows, good.events) > 4
    with connected.there.begin() as connection:
        connection.execute(text("delete from public.comments"))
    assert connected.judge().not_there > 0
    ids = connected.receiver.ids
    last = ids.pop()
    assert connected.judge().events_lost == 1
    ids.insert(0, last)  # a comment or a vote, told before its post
    assert connected.judge().out_of_order == 1
