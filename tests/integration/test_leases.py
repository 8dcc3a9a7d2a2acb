"""A run is held by one worker at a time; who lost it can write nothing."""

import threading
from datetime import timedelta

from sqlalchemy import func, select, update

from app.models import Run, RunState
from app.runs import leases
from tests.support.factories import make_agents, make_run

LEASE = timedelta(seconds=120)


def claim(connection, run_id):
    return leases.claim(connection, run_id, LEASE)


def let_lease_run_out(connection, run_id) -> None:
    connection.execute(
        update(Run).where(Run.id == run_id).values(lease_until=func.now() - timedelta(seconds=1))
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
    second = claim(connection, run_id)
    assert second.attempt == 2
    assert not leases.renew(connection, first, LEASE)
    assert not leases.end(connection, first, RunState.FAILED, "late")
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
