"""From the gateway's answer to what a person hears, with every part between: admission, the scheduler, pages,
the alert at its receiver, and back to work.
"""

import json
import threading
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from sqlalchemy import func, select, update

from app.admission.limits import read_limits
from app.admission.scripts import FLEET
from app.agents.activities import expected_calls
from app.clock import utcnow
from app.models import Agent, Call, Run
from app.runs import cycles, leases, rescue
from app.runs.execute import execute
from app.runs.scheduling import allowance
from app.web import watcher
from app.wiring import build
from tests.conftest import make_settings
from tests.support.factories import make_agents
from tests.support.program import wait_for
from tests.support.web import Browser, serving

AGENTS = 40
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@contextmanager
def receiver():
    """A real HTTP receiver of alerts; yields its address and the titles that came."""
    titles = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            titles.append(json.loads(body)["title"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"json://127.0.0.1:{server.server_port}", titles
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@pytest.fixture
def fleet(engine, redis, embedded, sandbox, home, monkeypatch):
    """A fleet of 40 with its dashboard: services, a browser, and the titles of alerts that arrived."""
    monkeypatch.setattr(watcher, "EVERY_S", 0.2)
    with receiver() as (url, titles):
        alerts = {"urls": [url], "long_incident_min": 0.01}
        services = build(make_settings(embedded, sandbox.url, home, alerts=alerts))
        with services.engine.begin() as connection:
            make_agents(connection, AGENTS)
            connection.execute(update(Agent).values(welcomed_at=func.now(), phase=0))
        with serving(services) as base:
            browser = Browser(services, base)
            yield services, browser, titles
            browser.close()
        services.close()


def open_slice(services):
    """What the scheduler does; the runs that it opened."""
    allowed = allowance(services.admission.state(), services.settings, utcnow())
    with services.engine.begin() as connection:
        opened = cycles.open_slice(
            connection, now=utcnow(), cycle=services.settings.cycle, capacity=allowed.runs
        )
    return [run.id for run in opened.runs]


def new_cycle(services):
    """As if the cycle had just begun: nobody has had a turn in it."""
    with services.engine.begin() as connection:
        connection.execute(update(Run).values(cycle_at=Run.cycle_at - timedelta(hours=1)))


def count(services, *where):
    with services.engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(Call).where(*where)).scalar_one()


def heard(titles, text):
    return [title for title in titles if text in title]


@pytest.mark.plan(16, 17, 19)
def test_402_stops_scheduler_and_calls_is_told_everywhere_and_ends_by_itself(fleet, sandbox, redis):
    services, browser, titles = fleet
    first, *others = open_slice(services)
    assert len(others) == AGENTS - 1
    sandbox.fault("status", status=402, body='{"type": "payment_required"}', count=1)
    assert execute(services, first).state == "skipped"
    ends = [execute(services, run_id) for run_id in others]
    assert {end.state for end in ends} == {"skipped"}
    assert len(sandbox.state.seen) == 1, "one call found out for all"
    new_cycle(services)
    assert open_slice(services) == []
    page = browser.get("/").text
    assert "credits are used up" in page
    assert "paceline resume" in page
    wait_for(lambda: heard(titles, "credits are used up"), 20, "the alert at its receiver")
    redis.hset(FLEET[0], "open", 1)  # the wait before the next probe is over
    (probe,) = open_slice(services)
    assert execute(services, probe).state == "completed"
    assert len(open_slice(services)) == AGENTS - 1
    assert "credits are used up" not in browser.get("/").text
    wait_for(lambda: heard(titles, "over: "), 20, "that it is over, at the receiver")
    assert len(heard(titles, "credits are used up")) == 2, "each once"


@pytest.mark.plan(15, 17, 25, 48)
def test_429_pauses_everybody_is_told_when_it_lasts_and_the_scheduler_slows_down(fleet, sandbox):
    services, browser, titles = fleet
    first, second, *_ = open_slice(services)
    sandbox.fault("status", status=429, headers={"Retry-After": "90"}, body="{}", count=1)
    end = execute(services, first)
    assert (end.state, end.reason) == ("snoozed", "rate_limited")
    assert execute(services, second).state == "snoozed"
    assert len(sandbox.state.seen) == 1, "nobody else called"
    new_cycle(services)
    assert open_slice(services) == []
    assert "429" in browser.get("/").text
    with services.engine.begin() as connection:  # and it lasts for a minute
        connection.execute(update(Call).values(created_at=func.now() - timedelta(minutes=1)))
    wait_for(lambda: heard(titles, "keeps answering 429"), 20, "the alert at its receiver")
    with services.engine.connect() as connection:
        limits = read_limits(connection, services.settings.limits)
    services.admission.put_in_force(limits, close_breaker=True)  # somebody resumes
    state = services.admission.state()
    full = services.settings.limits.rate
    assert full * 0.6 < state.effective_rate < full
    calls_per_run = expected_calls(services.settings.activity, services.settings.cycle.period_s)
    served = cycles.runs_per_slice(state.effective_rate, services.settings.cycle, calls_per_run)
    assert allowance(state, services.settings, utcnow()).runs == served
    assert served < cycles.runs_per_slice(full, services.settings.cycle, calls_per_run)
    third = open_slice(services)[0]
    assert execute(services, third).state == "completed"
    assert count(services, Call.error_code == "rate_limited") == 1


def test_a_short_429_is_told_to_nobody(fleet, sandbox):
    services, _, titles = fleet
    services.settings.alerts.long_incident_min = 5.0
    first, second, *_ = open_slice(services)
    sandbox.fault("status", status=429, body="{}", count=1)
    assert execute(services, first).state == "completed"
    sandbox.fault("status", status=402, body="{}", count=1)
    assert execute(services, second).state == "skipped"
    wait_for(lambda: heard(titles, "credits are used up"), 20, "the later alert")
    assert heard(titles, "429") == []


def test_a_run_that_brings_down_three_workers_is_told(fleet):
    services, browser, titles = fleet
    first, *_ = open_slice(services)
    for _ in range(rescue.LOSSES_MAX):
        with services.engine.begin() as connection:
            leases.claim(connection, first, timedelta(0), "a worker that dies")
            handle = connection.execute(
                select(Agent.handle).join(Run, Run.agent_id == Agent.id).where(Run.id == first)
            ).scalar_one()
        with services.engine.begin() as connection:
            rescue.rescue(connection, patience=timedelta(0), call_deadline=timedelta(hours=1))
    wait_for(lambda: heard(titles, "an agent is quarantined"), 20, "the alert at its receiver")
    assert "quarantined" in browser.get(f"/agents/{handle}").text
