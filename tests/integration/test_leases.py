"""A run is held by one worker at a time; who lost it can write nothing."""

import threading
import time
from datetime import timedelta

from sqlalchemy import func, insert, select, update

from app.clock import utcnow
from app.models import Agent, AuditEntry, Call, Run, RunOrigin, RunState
from app.refusals import EXPIRED
from app.runs import leases, rescue
from app.runs.heartbeat import Heartbeat
from app.usage.calls import call_id
from tests.support.factories import NOON, make_agents, make_run
from tests.support.ledger import tokens_by_agent

LEASE = timedelta(seconds=120)


def claim(connection, run_id):
    return leases.claim(connection, run_id, LEASE)


def let_lease_run_out(connection, run_id) -> None:
    connection.execute(
        update(Run).where(Run.id == run_id).values(lease_until=func.now() - timedelta(seconds=1))
    )


def rescue_now(connection, patience_s=60):
    return rescue.rescue(
        connection, patience=timedelta(seconds=patience_s), call_deadline=timedelta(minutes=5)
    )


def test_second_delivery_finds_the_run_taken(connection):
    run_id = make_run(connection, make_agents(connection, 1)[0])
    assert claim(connection, run_id).attempt == 1
    assert claim(connection, run_id) is None


def test_ended_run_is_not_claimed_again(connection):
    run_id = make_run(connection, make_agents(connection, 1)[0])
    assert leases.end(connection, claim(connection, run_id), RunState.COMPLETED, None)
    assert claim(connection, run_id) is None


def test_worker_that_lost_its_lease_cannot_write(connection):
    run_id = make_run(connection, make_agents(connection, 1)[0])
    first = claim(connection, run_id)
    let_lease_run_out(connection, run_id)
    assert claim(connection, run_id) is None, "only the rescue takes a run away"
    assert rescue_now(connection).resumed == [run_id]
    second = claim(connection, run_id)
    assert second.attempt == 2
    assert not leases.renew(connection, first, LEASE)
    assert not leases.end(connection, first, RunState.FAILED, "late")
    assert not leases.snooze(connection, first, timedelta(minutes=1), None)
    assert not leases.release(connection, first)
    until = select(Run.lease_until).where(Run.id == run_id)
    held_until = connection.execute(until).scalar_one()
    leases.renew_all(connection, [first], 2 * LEASE)
    assert connection.execute(until).scalar_one() == held_until
    leases.renew_all(connection, [second], 2 * LEASE)
    assert connection.execute(until).scalar_one() > held_until
    assert leases.end(connection, second, RunState.COMPLETED, None)
    state = connection.execute(select(Run.state, Run.reason).where(Run.id == run_id)).one()
    assert tuple(state) == ("completed", None)


def test_twenty_workers_at_once_one_claims(engine):
    with engine.begin() as connection:
        run_id = make_run(connection, make_agents(connection, 1)[0])
    won = []

    def work() -> None:
        with engine.begin() as connection:
            if held := claim(connection, run_id):
                won.append(held)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [held.attempt for held in won] == [1]


def test_what_waits_is_skipped_with_its_reason_and_what_runs_is_not(connection):
    waiting, working = (make_run(connection, agent) for agent in make_agents(connection, 2))
    claim(connection, working)
    assert leases.skip_waiting(connection, "stopped") == 1
    row = connection.execute(select(Run.state, Run.reason).where(Run.id == waiting)).one()
    assert tuple(row) == ("skipped", "stopped")
    assert leases.count_open(connection) == 1


def test_run_that_loses_its_worker_three_times_is_quarantined_with_its_agent(connection):
    poison, well = make_agents(connection, 2)
    poisonous, other = make_run(connection, poison), make_run(connection, well)
    for _ in range(2):
        claim(connection, poisonous)
        let_lease_run_out(connection, poisonous)
        assert rescue_now(connection).resumed == [poisonous]
    claim(connection, poisonous)
    let_lease_run_out(connection, poisonous)
    assert len(rescue_now(connection).quarantined) == 1
    states = select(Run.state, Run.reason, Agent.state).join(Agent).order_by(Agent.state)
    assert [tuple(row) for row in connection.execute(states)] == [
        ("queued", None, "active"),
        ("quarantined", "its worker went silent 3 times", "quarantined"),
    ]
    subjects = connection.execute(select(AuditEntry.action)).scalars().all()
    assert subjects == ["agents.quarantine"]
    assert claim(connection, other) is not None


def test_queued_run_that_nobody_takes_is_published_again_once_per_patience(connection):
    run_id = make_run(connection, make_agents(connection, 1)[0])
    assert rescue_now(connection).unheard == []
    long_ago = func.now() - timedelta(seconds=61)
    connection.execute(update(Run).where(Run.id == run_id).values(published_at=long_ago))
    assert rescue_now(connection).unheard == [run_id]
    assert rescue_now(connection).unheard == []


def test_run_that_waits_past_its_cycle_is_skipped_and_says_so(connection):
    (agent,) = make_agents(connection, 1)
    run_id = make_run(connection, agent, cycle_at=NOON, origin=RunOrigin.CYCLE)
    past = func.now() - timedelta(seconds=1)
    connection.execute(update(Run).where(Run.id == run_id).values(expires_at=past))
    assert rescue_now(connection).expired == 1
    row = connection.execute(select(Run.state, Run.reason).where(Run.id == run_id)).one()
    assert tuple(row) == ("skipped", EXPIRED)


def test_a_call_of_a_dead_worker_is_given_up_and_counts_what_was_reserved(connection):
    (agent,) = make_agents(connection, 1)
    run_id = make_run(connection, agent)
    row = {
        "run_id": run_id,
        "agent_id": agent,
        "step": "post",
        "request_type": "post",
        "model": "m",
        "status": "in_flight",
        "tokens_reserved": 700,
        "cost_reserved": 90,
    }
    long_ago = func.now() - timedelta(minutes=6)
    dead, alive = call_id(run_id, "post", 1), call_id(run_id, "post", 2)
    connection.execute(insert(Call).values(id=dead, attempt=1, created_at=long_ago, **row))
    connection.execute(insert(Call).values(id=alive, attempt=2, **row))
    assert rescue_now(connection).calls_unknown == 1
    found = dict(connection.execute(select(Call.id, Call.status)).all())
    assert found == {dead: "unknown", alive: "in_flight"}
    since = utcnow() - timedelta(hours=1)
    assert tokens_by_agent(connection, since) == {agent: 1_400}
    assert rescue_now(connection).calls_unknown == 0


def test_released_run_goes_to_another_worker_without_a_loss(connection):
    run_id = make_run(connection, make_agents(connection, 1)[0])
    assert leases.release(connection, claim(connection, run_id))
    again = claim(connection, run_id)
    assert again.attempt == 2
    assert connection.execute(select(Run.losses)).scalar_one() == 0


def test_heartbeat_keeps_a_long_run_and_lets_go_of_an_ended_one(engine):
    lease = timedelta(seconds=0.6)
    with engine.begin() as connection:
        run_id = make_run(connection, make_agents(connection, 1)[0])
        held = leases.claim(connection, run_id, lease)
    heartbeat = Heartbeat(engine, lease)
    with heartbeat.holding(held):
        time.sleep(1.5)
        with engine.begin() as connection:
            assert rescue_now(connection).resumed == []
    time.sleep(0.8)
    with engine.begin() as connection:
        assert rescue_now(connection).resumed == [run_id]
    heartbeat.close()


def test_twenty_rescuers_at_once_resume_a_run_once(engine):
    with engine.begin() as connection:
        run_id = make_run(connection, make_agents(connection, 1)[0])
        claim(connection, run_id)
        let_lease_run_out(connection, run_id)
    resumed = []

    def work() -> None:
        with engine.begin() as connection:
            resumed.extend(rescue_now(connection).resumed)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert resumed == [run_id]
