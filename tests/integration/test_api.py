"""The JSON API: the same facts as the pages, described by a document that anything can be sent against."""

from collections import Counter

import httpx2
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from app.models import Role
from app.runs.execute import execute
from app.web.access import COOKIE
from app.wiring import build
from tests.conftest import make_settings
from tests.support.factories import make_agents, make_run
from tests.support.web import Browser, api_token, serving


@pytest.fixture
def base(services):
    with services.engine.begin() as connection:
        agents = make_agents(connection, 3)
        run_id = make_run(connection, agents[0])
    execute(services, run_id)
    with serving(services) as address:
        yield address


@pytest.fixture
def api(services, base):
    headers = {"Authorization": f"Bearer {api_token(services)}"}
    with httpx2.Client(base_url=f"{base}/api/v1", headers=headers, trust_env=False, timeout=60) as client:
        yield client


def test_facts_are_those_of_the_pages(api):
    overview = api.get("/overview").json()
    assert overview["progress"]["agents"] == 3
    assert overview["periods"][0]["usage"]["requests"] >= 1
    assert [agent["handle"] for agent in api.get("/agents?limit=2").json()["agents"]] == ["a0", "a1"]
    assert api.get("/agents?after=a1").json()["agents"][0]["handle"] == "a2"
    assert api.get("/agents/a0/explanation").json()["agent"] == "a0"
    (run,) = api.get("/runs").json()["runs"]
    shown = api.get(f"/runs/{run['id']}").json()
    assert shown["posts"]
    assert shown["calls"][0]["status"] == "ok"
    usage = api.get("/usage?by=type").json()
    assert sum(row["usage"]["requests"] for row in usage["rows"]) == usage["total"]["requests"]
    assert api.get("/limits").json()["limits"]["rate"] == 1000
    assert "unknown agent 'nobody'" in api.get("/agents/nobody").json()["detail"]
    assert api.get("/agents/nobody").status_code == 404
    for path in ("/content", "/incidents", "/receivers", "/alerts", "/audit", "/health"):
        assert isinstance(api.get(path).json(), list)


def test_description_is_served_from_here_and_names_every_act(services, base):
    browser = Browser(services, base, Role.VIEWER)
    document = browser.get("/api/v1/openapi.json").json()
    assert "/api/v1/acts/pause" in document["paths"]
    assert "rate" in document["components"]["schemas"]["SetLimits"]["properties"]
    assert not [path for path in document["paths"] if not path.startswith("/api/v1")]
    assert "openapi.json" in browser.get("/api").text
    assert browser.client.cookies.get(COOKIE)
    browser.close()


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_nothing_that_is_sent_brings_the_server_down(services, base, mode):
    """What the document allows, and what it does not: an answer, never a 5xx."""
    import schemathesis  # noqa: PLC0415 (a second of CPU that no other test needs)

    mode = schemathesis.GenerationMode(mode)
    headers = {"Authorization": f"Bearer {api_token(services)}"}
    document = httpx2.get(f"{base}/api/v1/openapi.json", headers=headers, trust_env=False).json()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=base)
    statuses = Counter()

    def send(operation):
        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=8,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def check(case):
            answer = case.call(headers=headers)
            statuses[answer.status_code] += 1
            assert answer.status_code < 500, (case.method, case.path, case.query, case.body, answer.text)

        check()

    for result in schema.get_all_operations():
        operation = result.ok()
        try:
            send(operation)
        except Unsatisfiable:  # there is no wrong way to ask for what takes nothing
            assert mode.is_negative, operation.path
    assert sum(statuses.values()) > 150, statuses
    assert statuses[200] > 20 or mode.is_negative, statuses


def test_server_that_is_away_is_a_503_that_says_so(embedded, engine, redis, sandbox, home):
    """Here: both servers at addresses where nothing listens."""
    settings_ = make_settings(
        embedded,
        sandbox.url,
        home,
        DATABASE_URL="postgresql://x@127.0.0.1:9/x",
        REDIS_URL="redis://127.0.0.1:9/0",
    )
    services = build(settings_)
    with serving(services) as base, httpx2.Client(base_url=base, trust_env=False, timeout=60) as client:
        client.cookies.set(COOKIE, "x")
        answer = client.get("/")
        assert answer.status_code == 503
        assert "paceline doctor" in answer.text
        answer = client.get("/api/v1/me", headers={"Authorization": "Bearer pl_x"})
        assert answer.status_code == 503
        assert client.get("/health/ready").status_code == 503
        assert client.get("/health/live").status_code == 200
