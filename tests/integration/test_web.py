"""The dashboard: every page answers, in a bounded number of queries, and runs nobody's text."""

import re
import threading
from contextlib import contextmanager
from datetime import timedelta

import httpx2
import pytest
import uvicorn
from pydantic import SecretStr
from sqlalchemy import event, func, insert, select, update

from app.clock import sleep
from app.gateway.sandbox.server import listen
from app.models import Agent, AuditEntry, Call, Community, Job, Post
from app.runs import jobs
from app.runs.execute import execute
from app.web.charts import Bar, bar_chart, nice_ceiling, short
from app.web.main import create_app
from tests.conftest import make_settings
from tests.support.factories import make_agents, make_run

from app.wiring import build  # isort: skip

PAGES = (
    "/", "/usage", "/usage?by=agent&period=month", "/usage?by=model&period=week", "/agents",
    "/agents?search=a", "/agents/a0", "/incidents", "/health", "/feed", "/feed?state=pending", "/limits",
    "/feed?before=2026-11-01T00:00:00%2B00:00", "/audit",
)  # fmt: skip
HOSTILE = """<script>alert(1)</script>"'><img src=x onerror=alert(1)>{{ 7*7 }}"""


@contextmanager
def serving(services):
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(create_app(services), log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        sleep(0.01)
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with httpx2.Client(base_url=base, trust_env=False, timeout=20) as client:
        try:
            yield client
        finally:
            server.should_exit = True
            thread.join(10)
            listener.close()


@pytest.fixture
def web(engine, redis, embedded, sandbox, home):
    built = build(make_settings(embedded, sandbox.url, home))
    with built.engine.begin() as connection:
        agents = make_agents(connection, 2)
        runs = [make_run(connection, agent) for agent in agents]
    for run_id in runs:
        execute(built, run_id)
    with serving(built) as client:
        client.services = built
        yield client


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.plan(29, 51)
def test_page_answers_in_few_queries_under_a_strict_policy(web, path):
    queries = []

    def count(*args):
        queries.append(args[2])

    event.listen(web.services.engine, "before_cursor_execute", count)
    answer = web.get(path)
    event.remove(web.services.engine, "before_cursor_execute", count)
    assert answer.status_code == 200, answer.text
    assert len(queries) <= 8, queries
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text
    assert " style=" not in answer.text
    for link in ('href="http', 'src="http'):
        assert link not in answer.text


def test_hostile_text_is_shown_and_does_nothing(web):
    with web.services.engine.begin() as connection:
        connection.execute(update(Agent).values(display_name=HOSTILE))
        connection.execute(update(Community).values(name=HOSTILE))
        connection.execute(update(Post).values(body=HOSTILE, state="refused", note=HOSTILE))
        texts = dict.fromkeys(("actor", "action", "subject", "reason"), HOSTILE)
        connection.execute(insert(AuditEntry).values(before={HOSTILE: HOSTILE}, after={}, **texts))
    for path in (*PAGES, "/usage?by=community"):
        text = web.get(path).text
        assert "<script" not in text
        assert "onerror=alert(1)>" not in text
    for path in ("/feed", "/audit", "/agents"):
        assert "&lt;script&gt;" in web.get(path).text
    assert web.get("/agents", params={"search": HOSTILE}).status_code == 200


@pytest.mark.plan(29, 44, 45, 46)
def test_numbers_of_the_pages_are_those_of_the_ledger(web):
    with web.services.engine.connect() as connection:
        query = select(func.count(), func.sum(Call.tokens_input), func.sum(Call.tokens_output))
        requests, tokens_in, tokens_out = connection.execute(query).one()
    assert requests >= 2
    for path in ("/", "/usage"):
        row = re.search(r">today</th>(.*?)</tr>", web.get(path).text).group(1)
        cells = re.findall(r">([^<>]*)</td>", row)
        assert (cells[0], cells[6], cells[7]) == (str(requests), str(tokens_in), str(tokens_out))
    assert ">a0</a>" in web.get("/usage").text
    assert "completed" in web.get("/agents/a0").text


@pytest.mark.plan(5)
def test_pages_are_there_before_the_first_agent(services):
    with serving(services) as client:
        for path in PAGES:
            if "a0" not in path:
                assert client.get(path).status_code == 200, path


def test_unknown_agent_and_bad_choice_say_what_to_do(web):
    answer = web.get("/agents/nobody")
    assert answer.status_code == 404
    assert "no such agent" in answer.text
    assert web.get("/usage?by=nonsense").status_code == 422
    assert web.get("/usage?period=nonsense").status_code == 200


def test_silent_scheduler_is_on_the_first_page(web):
    with web.services.engine.begin() as connection:
        jobs.done(connection, jobs.OPEN_SLICE, "slice 1")
        connection.execute(update(Job).values(done_at=func.now() - timedelta(hours=4)))
    assert "No slice was opened for 240 min" in web.get("/").text
    assert "scheduler is silent" in web.get("/health").text


@pytest.mark.plan(47)
def test_password_is_asked_for_when_there_is_one(engine, redis, embedded, sandbox, home):
    settings = make_settings(embedded, sandbox.url, home, web={"password": SecretStr("s3cret")})
    with serving(build(settings)) as client:
        for path in (*PAGES, "/static/style.css", "/nothing"):
            assert client.get(path).status_code == 401, path
        assert client.get("/", headers={"Authorization": "Basic ???"}).status_code == 401
        assert client.get("/", auth=("x", "wrong")).status_code == 401
        assert client.get("/", auth=("x", "s3cret")).status_code == 200
        assert client.get("/health/ready").status_code == 200


def test_charts_have_axes_titles_and_gaps():
    chart = bar_chart("Requests <b>", "requests", [Bar("01h", 3), Bar("02h", None), Bar("03h", 0)])
    assert chart.count("<rect") == 2
    assert "Requests &lt;b&gt;" in chart
    assert "01h: 3 requests" in chart
    assert [nice_ceiling(value) for value in (0, 0.3, 7, 10, 11, 4_200)] == [
        0,
        0.5,
        10,
        10,
        20,
        5_000,
    ]
    assert [short(value) for value in (0, 1_500, 20_000_000, 0.25)] == ["0", "1.5k", "20M", "0.25"]
