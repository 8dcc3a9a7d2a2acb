"""Opening slices: one run per agent and cycle, spread, bounded, fair, and harmless to repeat."""

import math
import threading
from collections import Counter
from datetime import timedelta
from itertools import pairwise

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from app.models import Agent, Run, RunState
from app.runs.cycles import open_slice, runs_per_slice
from app.settings import CycleSettings
from tests.support.factories import NOON, make_agents, make_run

CYCLE = CycleSettings()
SLICE = timedelta(seconds=30)
PLENTY = 10_000


def open_at(connection, number: int, capacity: int = PLENTY):
    return open_slice(connection, now=NOON + SLICE * number, cycle=CYCLE, capacity=capacity)


@pytest.mark.plan(20, 37, 50)
@pytest.mark.parametrize(("agents", "most"), [(100, 25), (500, 80), (1_000, 140)])
def test_agents_are_spread_over_ten_slices(connection, agents, most):
    make_agents(connection, agents)
    opened = [len(open_at(connection, number).runs) for number in range(10)]
    assert sum(opened) == agents
    assert max(opened) <= most  # a tenth each, give or take what a hash does
    offsets = {
        (row.due_at - NOON).total_seconds() for row in connection.execute(select(Run.due_at).distinct())
    }
    assert offsets == set(range(0, 300, 30))


def test_opening_a_slice_again_makes_nothing_new(connection):
    make_agents(connection, 50)
    first = open_at(connection, 4)
    assert len(first.runs) > 0
    assert open_at(connection, 4).runs == ()


@pytest.mark.plan(4, 38)
def test_an_agent_gets_one_run_per_cycle(connection):
    (agent_id,) = make_agents(connection, 1)
    open_at(connection, 9)
    with pytest.raises(IntegrityError):
        make_run(connection, agent_id, cycle_at=NOON, origin="cycle")


def test_a_missed_slice_is_caught_up_within_the_cycle(connection):
    make_agents(connection, 100)
    opened = len(open_at(connection, 6).runs)
    assert opened > 50
    assert opened + sum(len(open_at(connection, number).runs) for number in (7, 8, 9)) == 100


def test_no_more_runs_than_the_cap_can_serve(connection):
    make_agents(connection, 100)
    opened = open_at(connection, 9, capacity=20)
    assert (len(opened.runs), opened.deferred) == (20, 80)
    assert open_at(connection, 9, capacity=20).runs == ()  # the slice is full, whoever asks


def test_queue_stays_bounded_when_nobody_works(connection):
    make_agents(connection, 300)
    for number in range(40):
        open_at(connection, number, capacity=10)
    waiting = connection.execute(select(func.count()).where(Run.state == RunState.QUEUED)).scalar_one()
    assert waiting <= 20


def test_runs_that_people_ask_for_do_not_fill_the_cycles_queue(connection):
    agents = make_agents(connection, 100)
    for agent_id in agents[:40]:
        make_run(connection, agent_id)
    assert len(open_at(connection, 9, capacity=10).runs) == 10


def test_least_recently_served_come_first(connection):
    ids = make_agents(connection, 30)
    for age, agent_id in enumerate(ids):
        connection.execute(
            update(Agent).where(Agent.id == agent_id).values(last_run_at=NOON - timedelta(hours=age))
        )
    opened = open_at(connection, 9, capacity=10)
    handles = {run.handle for run in opened.runs}
    assert handles == {f"a{number}" for number in range(20, 30)}


@pytest.mark.parametrize(("agents", "capacity"), [(60, 2), (50, 2), (90, 2)])
@pytest.mark.plan(37)
def test_overload_slows_everybody_down_fairly(connection, agents, capacity):
    """Demand over capacity is 3, 2.5 and 4.5: nobody waits longer than that, rounded up, plus one."""
    make_agents(connection, agents)
    connection.execute(update(Agent).values(created_at=NOON - timedelta(days=1)))
    served: dict[object, list[int]] = {}
    for cycle in range(16):
        for number in range(10):
            now = NOON + SLICE * (10 * cycle + number)
            opened = open_slice(connection, now=now, cycle=CYCLE, capacity=capacity)
            for run in opened.runs:
                served.setdefault(run.handle, []).append(cycle)
            ids = [run.id for run in opened.runs]
            done = update(Run).where(Run.id.in_(ids))
            connection.execute(done.values(state="completed", finished_at=now))
            handles = [run.handle for run in opened.runs]
            connection.execute(update(Agent).where(Agent.handle.in_(handles)).values(last_run_at=now))
    assert len(served) == agents
    most = math.ceil(agents / (10 * capacity)) + 1
    for cycles in served.values():
        assert cycles[0] <= most
        assert max(later - sooner for sooner, later in pairwise(cycles)) <= most
        assert 16 - cycles[-1] <= most + 1


def test_paused_agents_get_no_run(connection):
    ids = make_agents(connection, 10)
    connection.execute(update(Agent).where(Agent.id.in_(ids[:4])).values(state="paused"))
    assert len(open_at(connection, 9).runs) == 6


@pytest.mark.plan(5)
def test_zero_agents_are_no_error(connection):
    assert open_at(connection, 0).runs == ()


@pytest.mark.plan(4)
def test_beats_at_the_same_moment_open_a_slice_once(engine):
    with engine.begin() as connection:
        make_agents(connection, 200)
    opened: list[str] = []

    def beat() -> None:
        with engine.begin() as connection:
            result = open_slice(connection, now=NOON + SLICE * 9, cycle=CYCLE, capacity=150)
        opened.extend(run.handle for run in result.runs)

    threads = [threading.Thread(target=beat) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 150
    assert max(Counter(opened).values()) == 1


def test_an_agent_that_has_its_run_of_the_cycle_gets_no_other_and_holds_back_nobody(engine):
    """A beat of another release may have made it."""
    with engine.begin() as connection:
        first, *_ = make_agents(connection, 3)
        make_run(connection, first, cycle_at=NOON, due_at=NOON, origin="cycle")
    with engine.begin() as connection:
        result = open_slice(connection, now=NOON + SLICE * 9, cycle=CYCLE, capacity=150)
    assert sorted(run.handle for run in result.runs) == ["a1", "a2"]


def test_capacity_follows_from_cap_and_slice():
    assert runs_per_slice(4, CYCLE, 1.8) == 84
    assert runs_per_slice(0.001, CYCLE, 1.8) == 1
