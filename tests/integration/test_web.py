"""The pages: each answers in a bounded number of queries, says what is so, and runs nobody's text."""

import re
from datetime import timedelta
from urllib.parse import quote

import pytest
from sqlalchemy import event, func, insert, select, update

from app.actions import Desk, Who, fleet
from app.clock import utcnow
from app.models import Agent, Alert, AuditEntry, Call, Community, Incident, Job, Post, Role, Run
from app.runs import jobs
from app.runs.execute import execute
from app.web.charts import Chart, nice_ceiling, short
from app.wiring import build
from tests.conftest import make_settings
from tests.support.factories import make_agents, make_run
from tests.support.ledger import sum_up_all
from tests.support.web import Browser, serving

PAGES = (
    "/",
    "/usage",
    "/usage?by=agent&period=month",
    "/usage?metric=tokens&by=model&period=week",
    "/usage?metric=errors&by=outcome&period=90d",
    "/usage?metric=requests&by=community&period=30d",
    "/agents",
    "/agents?search=agent",
    "/agents?sort=waited&state=active",
    "/agents?sort=cost",
    "/agents?sort=tokens",
    "/agents/a0",
    "/runs",
    "/runs?which=open",
    "/runs?which=came+to+nothing",
    "/runs?before=2026-11-01T00:00:00%2B00:00~00000000-0000-0000-0000-000000000000",
    "/incidents",
    "/application",
    "/alerts",
    "/health",
    "/feed",
    "/feed?state=pending",
    "/feed?before=00000000-0000-0000-0000-000000000000",
    "/limits",
    "/audit",
    "/account",
    "/api",
    "/acts/pause",
    "/acts/limits",
    "/acts/controls",
    "/acts/budget",
    "/acts/agents-pause?agents=a0&agents=a1",
    "/acts/content-hide?ids=x",
)
HOSTILE = """<script>alert(1)</script>"'><img src=x onerror=alert(1)>{{ 7*7 }}"""


@pytest.fixture
def web(engine, redis, embedded, sandbox, home):
    built = build(make_settings(embedded, sandbox.url, home))
    with built.engine.begin() as connection:
        agents = make_agents(connection, 2)
        runs = [make_run(connection, agent) for agent in agents]
    for run_id in runs:
        execute(built, run_id)
    with serving(built) as base:
        browser = Browser(built, base)
        yield browser
        browser.close()


@pytest.mark.plan(29, 51)
def test_every_page_answers_in_few_queries_under_a_strict_policy(web):
    queries = []

    def count(*args):
        queries.append(args[2])

    event.listen(web.services.engine, "before_cursor_execute", count)
    ours = r"<script src=\"[./]*static/live\.js\?v=\w+\" type=\"module\"></script>"
    for path in PAGES:
        queries.clear()
        answer = web.get(path)
        assert answer.status_code == 200, (path, answer.text)
        assert len(queries) <= 9, (path, queries)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert "<script" not in re.sub(ours, "", answer.text), path
        assert " style=" not in answer.text, path
        assert not re.search(r"\son\w+=", answer.text), path
        assert not re.search(r"""(src|action|<link[^>]*href)="https?:""", answer.text), path
    event.remove(web.services.engine, "before_cursor_execute", count)


def test_first_page_needs_no_more_queries_when_all_is_wrong_at_once(web):
    services, queries = web.services, []
    with services.engine.begin() as connection:
        facts = {"opened_at": utcnow(), "last_at": utcnow(), "calls": 3, "agents": 1, "peak_per_minute": 3}
        connection.execute(insert(Incident).values(kind="rate_limited", **facts))
    desk, who = Desk(services.settings, services.engine, services.admission), Who("eve", "a drill")
    fleet.set_limits(desk, {"budget_day_micros": 1}, who)
    fleet.pause(desk, fleet.Pause(minutes=None, reason="x"), who)

    def count(*args):
        queries.append(args[2])

    event.listen(services.engine, "before_cursor_execute", count)
    text = web.get("/").text
    event.remove(services.engine, "before_cursor_execute", count)
    assert len(queries) <= 9, queries  # what happens beyond a budget is asked when one is used up
    assert "until somebody resumes it, by eve: a drill" in text
    assert "budget of the day is used up" in text
    assert "rate limited since" in text
    pill = re.compile(r'id="standing"[^>]*>([A-Z ]+)<')
    assert {pill.search(web.get(page).text)[1] for page in ("/", "/usage", "/health", "/agents")} == {
        "PAUSED"
    }
    fleet.resume(desk, fleet.Resume(reason="x"), who)
    fleet.set_limits(desk, {"budget_day_micros": 0}, who)
    assert pill.search(web.get("/runs").text)[1] == "RUNNING"


def test_what_nobody_thought_of_is_a_page_under_the_same_policy(web, monkeypatch):
    def breaks(*_):
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr("app.web.pages.trouble.list_alerts", breaks)
    answer = web.get("/alerts")
    assert answer.status_code == 500
    assert "Something broke here." in answer.text
    assert "nobody thought" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_tokens_of_the_list_are_those_that_the_quota_counts(web):
    services = web.services
    with services.engine.begin() as connection:
        ids = dict(connection.execute(select(Agent.handle, Agent.id)).all())
        connection.execute(update(Agent).values(daily_tokens=10_000))
    key = next(iter(services.redis.scan_iter("*quota:*")))
    services.redis.hincrby(key, f"h:{ids['a0']}", 1_234)  # reserved for a call under way
    used = services.admission.tokens_of([ids["a0"]])[ids["a0"]]
    assert used > 1_234
    for path in ("/agents", "/agents/a0"):
        assert f"{used:,} of 10,000" in web.get(path).text, path


def test_hostile_text_is_shown_and_does_nothing(web):
    with web.services.engine.begin() as connection:
        connection.execute(update(Agent).values(display_name=HOSTILE, persona=HOSTILE))
        connection.execute(update(Community).values(name=HOSTILE))
        connection.execute(update(Post).values(body=HOSTILE, state="refused", note=HOSTILE))
        connection.execute(update(Run).values(reason=HOSTILE, worker=HOSTILE))
        connection.execute(update(Call).values(model=HOSTILE, error_code=HOSTILE, step=HOSTILE))
        failed = {"origin": "adhoc", "state": "failed", "due_at": utcnow(), "finished_at": utcnow()}
        connection.execute(insert(Run).values(asked_for=HOSTILE, **failed))
        texts = dict.fromkeys(("actor", "action", "subject", "reason"), HOSTILE)
        connection.execute(insert(AuditEntry).values(before={HOSTILE: HOSTILE}, after={}, **texts))
        names = ("key", "severity", "title", "body", "last_error")
        connection.execute(insert(Alert).values(dict.fromkeys(names, HOSTILE)))
        jobs.done(connection, HOSTILE, HOSTILE)
        run_id = connection.execute(select(Call.run_id).limit(1)).scalar_one()
    given = ("/acts/agents-run?agents=", "/login?next=", "/agents?search=", "/acts/pause?minutes=")
    hostile = [path + quote(HOSTILE) for path in given]
    for path in (*PAGES, *hostile, f"/runs/{run_id}", "/usage?by=model"):
        text = web.get(path).text
        assert "<script>" not in text, path
        assert "onerror=alert(1)>" not in text, path
        assert "49" not in re.findall(r"onerror=alert\(1\)&gt;(\w*)", text)
    for path in ("/feed", "/audit", "/agents", "/alerts", "/runs", f"/runs/{run_id}", "/usage?by=model"):
        assert "&lt;script&gt;" in web.get(path).text, path
    assert web.get("/usage.csv?by=community").text.count('"<script>') == 1


@pytest.mark.plan(29, 44, 45, 46)
def test_numbers_of_the_pages_are_those_of_the_ledger(web):
    with web.services.engine.connect() as connection:
        query = select(func.count(), func.sum(Call.tokens_input), func.sum(Call.tokens_output))
        requests, tokens_in, tokens_out = connection.execute(query).one()
    assert requests >= 2
    row = re.search(r">today</th>(.*?)</tr>", web.get("/").text).group(1)
    cells = re.findall(r">([^<>]*)</td>", row)
    assert (cells[0], cells[6], cells[7]) == (str(requests), str(tokens_in), str(tokens_out))
    for rolled in (False, True):
        if rolled:
            with web.services.engine.begin() as connection:
                sum_up_all(connection, web.services.settings.zone)
        for path in ("/usage", "/usage?by=model", "/usage?by=outcome&metric=errors&period=30d"):
            text = web.get(path).text
            head = re.findall(r'<th scope="col">([^<]*)</th>', text[text.index("</h2>") :])
            row = re.search(r">together</th>(.*?)</tr>", text, re.S).group(1)
            found = dict(zip(head[1:], re.findall(r"<td[^>]*>([^<]*)", row), strict=False))
            assert found["requests"] == str(requests)
            assert (found["tokens in"], found["out"]) == (f"{tokens_in:,}", f"{tokens_out:,}")
            assert "100.0 %" in row or "errors" in path
    assert ">a0</a>" in web.get("/usage").text
    assert "completed" in web.get("/agents/a0").text
    lines = web.get("/usage.csv").text.splitlines()
    assert lines[0].endswith(",cost_micros,unpriced,cost_unknown_micros"), "sums, and nothing else"
    assert sum(int(line.split(",")[1]) for line in lines[1:]) == requests


@pytest.mark.plan(5)
def test_pages_are_there_before_the_first_agent(services):
    with serving(services) as base:
        browser = Browser(services, base)
        for path in PAGES:
            if "/a0" not in path:
                assert browser.get(path).status_code == 200, path
        browser.close()


def test_unknown_things_and_bad_choices_say_what_to_do(web):
    for path in ("/agents/nobody", "/runs/00000000-0000-0000-0000-000000000000", "/nothing"):
        answer = web.get(path)
        assert answer.status_code == 404
        assert "There is no such" in answer.text
    for path in (
        "/usage?by=nonsense",
        "/usage?period=nonsense",
        "/feed?before=yesterday",
        "/audit?before=x",
        "/runs?before=x",
        "/runs/x",
        "/audit?before=0001-01-01T00:00:00%2B14:00",
    ):
        answer = web.get(path)
        assert answer.status_code in (422, 200), path
        assert "<html" in answer.text
        assert answer.status_code == 422 or "0001" in path


def test_search_for_a_handle_goes_to_its_explanation(web):
    answer = web.get("/agents?search=@A0")
    assert (answer.status_code, answer.headers["location"]) == (303, "/agents/a0")
    assert "Why has it not run?" in web.get("/agents/a0").text


def test_silent_scheduler_is_on_the_first_page(web):
    with web.services.engine.begin() as connection:
        jobs.done(connection, jobs.OPEN_SLICE, "slice 1")
        connection.execute(update(Job).values(done_at=func.now() - timedelta(hours=4)))
    assert "No slice was opened for 4 h" in web.get("/").text
    assert "scheduler is silent" in web.get("/health").text


def test_reason_of_a_pause_and_open_incidents_are_on_the_first_page(web):
    answer = web.post("/acts/pause", minutes="30", reason="the gateway is being moved")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?done=pause&of=1")
    text = web.get("/?done=pause&of=1").text
    assert "Pause the fleet: done, 1." in text
    assert "by admin: the gateway is being moved" in text
    assert "acts/resume" in text
    with web.services.engine.begin() as connection:
        facts = {"opened_at": utcnow(), "last_at": utcnow(), "calls": 7, "agents": 3, "peak_per_minute": 7}
        connection.execute(insert(Incident).values(kind="rate_limited", **facts))
    assert "7 calls of 3 agents refused" in web.get("/").text


def test_runs_are_listed_in_order_and_page_by_page(web):
    with web.services.engine.begin() as connection:
        agent_id = connection.execute(select(Agent.id).limit(1)).scalar_one()
        at = utcnow().replace(microsecond=0)
        for n in range(120):
            values = {"due_at": at - timedelta(minutes=n // 3), "agent_id": agent_id}
            if n % 3:  # one agent has one run per cycle
                values |= {"origin": "cycle", "cycle_at": at - timedelta(minutes=n)}
            make_run(connection, **values)
        total = connection.execute(select(func.count()).select_from(Run)).scalar_one()
    seen, path = [], "/runs"
    while path:
        text = web.get(path).text
        seen += re.findall(r'href="[./]*runs/([0-9a-f-]{36})"', text)
        older = re.search(r'href="[./]*(runs\?[^"]*before=[^"]*)"', text)
        path = older and "/" + older.group(1).replace("&amp;", "&")
    assert len(seen) == len(set(seen)) == total


def test_every_entry_of_the_audit_log_can_be_seen(web):
    """All entries of one act have the same time."""
    with web.services.engine.begin() as connection:
        make_agents(connection, 130)
    handles = [f"a{n}" for n in range(130)]
    web.post("/acts/agents-pause", agents=handles, reason="all at once")
    seen, path = [], "/audit"
    while path:
        text = web.get(path).text
        seen += re.findall(r"agents\.pause</td><td class=\"text\">(a\d+)</td>", text)
        older = re.search(r'href="[./]*(audit\?before=[^"]*)"', text)
        path = older and "/" + older.group(1)
    assert sorted(seen) == sorted(handles)


def test_agents_that_used_most_are_found_among_those_that_are_searched(web):
    with web.services.engine.begin() as connection:
        make_agents(connection, 150)
        last = connection.execute(select(Agent.id).where(Agent.handle == "a99")).scalar_one()
        connection.execute(update(Call).values(agent_id=last, run_id=make_run(connection, last)))
    for query in ("sort=tokens", "sort=tokens&state=active", "sort=cost&search=agent"):
        rows = re.findall(r'<a href="[./]*agents/(\w+)">\1</a>', web.get(f"/agents?{query}").text)
        assert rows == ["a99"], query
    assert "No agent of these has used anything today" in web.get("/agents?sort=cost&search=agent+12").text


def test_charts_have_axes_titles_and_gaps():
    chart = Chart("Requests <b>", "requests", ["01h", "02h", "03h"], {"requests": [3, None, 0]})
    assert chart.svg.count('<rect class="bar c0"') == 2
    assert chart.svg.count('<rect class="gap"') == 1
    assert "Requests &lt;b&gt;" in chart.svg
    assert "01h: 3 requests" in chart.svg
    assert chart.rows == [("01h", ["3"]), ("02h", ["unknown"]), ("03h", ["0"])]
    ceilings = [nice_ceiling(value) for value in (0, 0.3, 7, 10, 11, 4_200)]
    assert ceilings == [0, 0.5, 10, 10, 20, 5_000]
    assert [short(value) for value in (0, 1_500, 20_000_000, 0.25)] == ["0", "1.5k", "20M", "0.25"]


def test_roles_see_only_what_they_may_do(web):
    viewer = Browser(web.services, web.base, Role.VIEWER)
    operator = Browser(web.services, web.base, Role.OPERATOR)
    assert "acts/" not in viewer.get("/").text
    assert "acts/pause" in operator.get("/").text
    assert "acts/limits" not in operator.get("/limits").text
    assert "acts/limits" in web.get("/limits").text
    assert "Everybody" not in operator.get("/account").text
    for browser in (viewer, operator):
        browser.close()
