"""A whole cycle of 100, 500 and 1,000 agents: each slice opened at its time, each run executed."""

import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from app.clock import cycle_start, utcnow
from app.models import Call, Post, Run
from app.runs import cycles
from app.runs.books import audit
from app.runs.execute import execute
from app.wiring import build
from tests.conftest import make_settings
from tests.support.factories import make_agents

pytestmark = pytest.mark.long


@pytest.fixture
def roomy(engine, redis, embedded, sandbox, home):
    """With the cap out of the way, and a cycle that does not end meanwhile."""
    settings = make_settings(
        embedded,
        sandbox.url,
        home,
        limits={"rate": 5_000, "burst": 5_000},
        cycle={"period_s": 86_400, "slice_s": 8_640},
    )
    built = build(settings)
    yield built
    built.close()


@pytest.mark.plan(18, 20, 37)
@pytest.mark.parametrize("agents", [100, 500, 1_000])
def test_every_agent_of_a_fleet_has_its_turn_in_its_slice_and_once(roomy, sandbox, agents):
    services = roomy
    period = timedelta(seconds=services.settings.cycle.period_s)
    began = cycle_start(utcnow(), period)
    with services.engine.begin() as connection:
        for n in range(0, agents, 100):
            make_agents(connection, n + 100, "Tests")
    per_slice = []
    with ThreadPoolExecutor(16) as pool:
        for n in range(10):
            with services.engine.begin() as connection:
                opened = cycles.open_slice(
                    connection,
                    now=began + period * n / 10 + timedelta(seconds=1),
                    cycle=services.settings.cycle,
                    capacity=agents,
                )
            per_slice.append(len(opened.runs))
            outcomes = list(pool.map(lambda run: execute(services, run.id), opened.runs))
            assert Counter(one.state for one in outcomes if one) == {"completed": len(opened.runs)}
    assert sum(per_slice) == agents
    assert max(per_slice) <= agents / 10 + 5 * math.sqrt(agents / 10), "about a tenth in each slice"
    with services.engine.connect() as connection:
        runs = select(func.count(), func.count(Run.agent_id.distinct())).where(Run.state == "completed")
        assert connection.execute(runs).one() == (agents, agents)
        posts = select(func.count(), func.count(Post.agent_id.distinct()))
        assert connection.execute(posts).one() == (agents, agents), "each welcomed, and nobody twice"
        calls = connection.execute(select(func.count()).select_from(Call)).scalar_one()
    assert calls >= agents
    assert calls == len(sandbox.state.seen), "each is in the ledger"
    assert audit(services, None).total == 0
