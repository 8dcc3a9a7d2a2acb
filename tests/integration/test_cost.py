"""What a run and a slice cost, counted in statements and round trips, not in time: who makes them dearer or
cheaper has to say so here, and in docs/scaling.md.
"""

import cProfile
import pstats
from contextlib import contextmanager
from datetime import timedelta

import pytest
from openai import OpenAI
from sqlalchemy import Connection, event, func, select

from app.clock import utcnow
from app.models import Call, Run
from app.runs import cycles
from app.runs.execute import execute
from app.statements import Statement
from app.wiring import build
from tests.conftest import make_settings
from tests.support.factories import make_agents, make_run


@contextmanager
def counted(services):
    """Statements and transactions of PostgreSQL, and what Redis is asked, in the block."""
    found = {"statements": 0, "commits": 0, "redis": 0}

    def on_statement(*_):
        found["statements"] += 1

    def on_commit(_):
        found["commits"] += 1

    execute_prepared = Statement.execute

    def execute_counted(statement, connection, **values):
        found["statements"] += 1
        found["commits"] += not isinstance(connection, Connection)  # then it commits by itself
        return execute_prepared(statement, connection, **values)

    pool = services.redis.connection_pool
    original = pool.get_connection

    def get_connection(*args, **kwargs):
        found["redis"] += 1
        return original(*args, **kwargs)

    event.listen(services.engine, "before_cursor_execute", on_statement)
    event.listen(services.engine, "commit", on_commit)
    pool.get_connection = get_connection
    Statement.execute = execute_counted
    try:
        yield found
    finally:
        Statement.execute = execute_prepared
        pool.get_connection = original
        event.remove(services.engine, "before_cursor_execute", on_statement)
        event.remove(services.engine, "commit", on_commit)


@pytest.fixture
def posting(engine, redis, embedded, sandbox, home):
    """Agents that only post: one call per run, so that its cost can be told from the run's."""
    activity = {"comment_slots": 0, "reaction_slots": 0, "visit_every_s": 0}
    built = build(make_settings(embedded, sandbox.url, home, activity=activity))
    with built.engine.begin() as connection:
        agents = make_agents(connection, 4)
        runs = [make_run(connection, agent) for agent in agents]
    execute(built, runs[0])  # warms up admission, and the feed
    yield built, runs[1:]
    built.close()


def test_run_with_one_call(posting):
    services, (run_id, *_) = posting
    with counted(services) as cost:
        assert execute(services, run_id).state == "completed"
    with services.engine.connect() as connection:
        query = select(func.count()).select_from(Call).where(Call.run_id == run_id)
        assert connection.execute(query).scalar_one() == 1
    assert cost == {"statements": 4, "commits": 4, "redis": 2}


def test_turn_takes_no_more_work_than_the_bare_client(posting, sandbox):
    """Functions that Python calls, Celery's part left out: where a run's CPU goes, without a clock. Measured:
    0.84 of what `chat.completions.create` takes for the same call (and 1.06 in instructions, bench.pipeline).
    """
    services, run_ids = posting
    client = OpenAI(base_url=sandbox.url, api_key="none", max_retries=0)
    messages = [{"role": "user", "content": "Write one new post. " * 20}]

    def create():
        client.chat.completions.create(model="m", messages=messages, max_tokens=1024)

    create()  # connections, and what is built at first use
    bare = functions_called(create)
    # the least of three: now and then one finds a connection that has not prepared its statements yet
    turn = min(functions_called(lambda run_id=run_id: execute(services, run_id)) for run_id in run_ids)
    assert turn <= 0.95 * bare, (turn, bare)
    client.close()


def functions_called(work) -> int:
    """How many functions Python called in this thread."""
    profile = cProfile.Profile()
    profile.runcall(work)
    return pstats.Stats(profile).total_calls


def test_call_more_costs_what_a_call_costs(engine, redis, embedded, sandbox, home):
    activity = {"comment_slots": 2, "comment_probability": 1.0, "reaction_slots": 0, "visit_every_s": 0}
    services = build(make_settings(embedded, sandbox.url, home, activity=activity))
    with services.engine.begin() as connection:
        runs = [make_run(connection, agent) for agent in make_agents(connection, 4)]
    for run_id in runs[:3]:
        execute(services, run_id)
    with counted(services) as cost:
        outcome = execute(services, runs[3])
    assert outcome.comments == 2
    assert cost == {"statements": 4 + 2 * 2, "commits": 4 + 2 * 2, "redis": 2 * 3}
    services.close()


@pytest.mark.parametrize("agents", [10, 300])
def test_slice_costs_the_same_whatever_the_number_of_agents(services, agents):
    with services.engine.begin() as connection:
        make_agents(connection, agents)
    cycle = services.settings.cycle.model_copy(update={"slice_s": services.settings.cycle.period_s})
    with counted(services) as cost, services.engine.begin() as connection:
        opened = cycles.open_slice(connection, now=utcnow(), cycle=cycle, capacity=1_000)
    assert len(opened.runs) == agents
    assert cost["statements"] == 7, cost
    with services.engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(Run)).scalar_one() == agents
        assert opened.cycle_at <= utcnow() < opened.cycle_at + timedelta(seconds=cycle.period_s)
