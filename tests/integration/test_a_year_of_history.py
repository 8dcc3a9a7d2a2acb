"""After a year: no query of a turn, a job or a page reads all of a table that grows, and what is old goes."""

from contextlib import contextmanager
from datetime import timedelta
from threading import get_ident
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import func, make_url, select, text, update

from app import migrations, retention
from app.alerts import watch
from app.clock import utcnow
from app.db import make_engine
from app.models import Agent, Run
from app.runs import cycles, rescue
from app.runs.books import audit
from app.runs.execute import execute
from app.runs.upkeep import reconcile_limits
from app.settings import KeepSettings
from app.usage import ranking
from app.wiring import build
from tests.conftest import make_settings
from tests.support.factories import make_agents, make_run
from tests.support.ledger import sum_up_all
from tests.support.web import Browser, api_token, serving

pytestmark = pytest.mark.long

AGENTS, EACH = 40, 4_000
BLOCKS_MAX = 400
"""A table of this history has 3,000 blocks and more, each index of it 600."""
READS = ("select", "with", "insert", "update", "delete")
FILL = """
insert into paceline.runs
  (id, agent_id, cycle_at, due_at, origin, state, attempt, started_at, finished_at, created_at)
  select gen_random_uuid(), a.id, t, t, 'cycle', 'completed', 1, t, t + interval '4 s', t
  from (select id, row_number() over () as n from paceline.agents) a,
    lateral (select now() - make_interval(secs => 600 + a.n * 0.01 + s * 20000) as t
             from generate_series(1, :each) s) as times;
insert into paceline.posts (id, agent_id, community_id, run_id, kind, body, created_at)
  select gen_random_uuid(), r.agent_id, a.community_id, r.id, 'regular', 'A text.', r.created_at
  from paceline.runs r join paceline.agents a on a.id = r.agent_id;
insert into paceline.comments (id, post_id, agent_id, run_id, slot, body, created_at)
  select gen_random_uuid(), id, agent_id, run_id, 0, 'And an answer to it.', created_at from paceline.posts;
insert into paceline.votes (id, post_id, agent_id, run_id, value, created_at)
  select (lpad(to_hex((extract(epoch from created_at) * 1000)::bigint), 12, '0') || '7000' || '8000' ||
    substr(md5(id::text), 1, 12))::uuid, id, agent_id, run_id, 1, created_at from paceline.posts
"""


@pytest.fixture(scope="module")
def year(embedded):
    """The address of a database with a year behind it; dropped afterwards."""
    admin = make_engine(embedded.database_url).execution_options(isolation_level="AUTOCOMMIT")
    name = f"year_{uuid4().hex[:8]}"
    with admin.connect() as connection:
        connection.execute(text(f"create database {name}"))
    url = make_url(embedded.database_url).set(database=name).render_as_string(hide_password=False)
    engine = make_engine(url)
    migrations.upgrade(engine)
    with engine.begin() as connection:
        make_agents(connection, AGENTS // 2, "Tests")
        make_agents(connection, AGENTS, "Other tests")
        for statement in FILL.split(";"):
            connection.execute(text(statement), {"each": EACH} if ":each" in statement else {})
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("vacuum analyze"))
    engine.dispose()
    yield url
    with admin.connect() as connection:
        connection.execute(text(f"drop database {name} with (force)"))
    admin.dispose()


@pytest.fixture
def services(year, embedded, sandbox, redis, home):
    settings = make_settings(embedded, sandbox.url, home, DATABASE_URL=year)
    built = build(settings)
    yield built
    built.close()


@contextmanager
def bounded(monkeypatch):
    """Fails when a statement of the block reads more than BLOCKS_MAX blocks. Each is explained before it is
    executed, with what it really reads, and that is rolled back.
    """
    execute, dear, explaining = psycopg.Cursor.execute, {}, set()

    def explained(cursor, query, params=None, **given):
        said = query if isinstance(query, str) else ""
        me = get_ident()
        if me not in explaining and said.lstrip().lower().startswith(READS):
            explaining.add(me)
            try:
                with cursor.connection.transaction(force_rollback=True):
                    own = cursor.connection.cursor()
                    execute(own, f"explain (analyze, buffers, format json) {said}", params)
                    plan = own.fetchone()[0][0]["Plan"]
                blocks = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
                rows = 1 + said.count("), (")  # that one statement inserts
                dear[said] = max(blocks // rows, dear.get(said, 0))
            finally:
                explaining.discard(me)
        return execute(cursor, query, params, **given)

    with monkeypatch.context() as patched:
        patched.setattr(psycopg.Cursor, "execute", explained)
        yield
    assert len(dear) > 5, "statements were seen"
    over = {said: blocks for said, blocks in dear.items() if blocks > BLOCKS_MAX}
    over = {said: blocks for said, blocks in over.items() if "pg_total_relation_size" not in said}
    assert over == {}, "\n\n".join(f"{blocks} blocks: {said}" for said, blocks in over.items())


def test_a_turn_reads_no_table_that_grows_as_a_whole(year, services, monkeypatch):
    with services.engine.begin() as connection:
        agents = connection.execute(select(Agent.id).order_by(Agent.handle)).scalars().all()
        runs = [make_run(connection, one, cycle_at=utcnow(), origin="cycle") for one in agents[:6]]
        connection.execute(update(Agent).values(visited_at=func.now() - timedelta(days=1)))
    with bounded(monkeypatch):
        for run_id in runs:
            assert execute(services, run_id).state == "completed"


def test_no_job_reads_a_table_that_grows_as_a_whole(services, monkeypatch):
    with bounded(monkeypatch):
        with services.engine.begin() as connection:
            opened = cycles.open_slice(
                connection, now=utcnow(), cycle=services.settings.cycle, capacity=1_000
            )
            sum_up_all(connection, services.settings.zone)
            patience = timedelta(seconds=60)
            rescue.rescue(connection, patience=patience, call_deadline=patience)
        assert opened is not None
        ranking.rank(services.engine, utcnow(), services.settings.zone)
        reconcile_limits(services)
        watch.watch(services.engine, services.settings, None)
        assert audit(services, None, is_whole=False).total == 0
        retention.forget(
            services.engine, KeepSettings(runs_days=1_000, votes_days=1_000, content_days=1_000), utcnow()
        )


PAGES = (
    "/",
    "/agents",
    "/agents/a1",
    "/runs",
    "/runs?which=came+to+nothing",
    "/feed",
    "/usage",
    "/limits",
    "/incidents",
    "/alerts",
    "/audit",
    "/health",
    "/application",
)
API = ("overview", "scale", "agents/a1/explanation", "content", "runs", "receivers", "health")


def test_no_page_reads_a_table_that_grows_as_a_whole(services, monkeypatch):
    with services.engine.connect() as connection:
        run_id = connection.execute(select(Run.id).limit(1)).scalar_one()
    with serving(services) as base:
        browser = Browser(services, base)
        token = {"Authorization": f"Bearer {api_token(services)}"}
        with bounded(monkeypatch):
            for page in (*PAGES, f"/runs/{run_id}"):
                assert browser.get(page).status_code == 200, page
            for path in API:
                answer = browser.client.get(f"/api/v1/{path}", headers=token)
                assert answer.status_code == 200, path
            assert browser.client.get("/metrics", headers=token).status_code == 200
        browser.close()
