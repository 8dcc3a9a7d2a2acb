"""`/metrics`, the alert rules and the dashboard that are made from it, `/api/v1/scale`, and the spans."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
import yaml
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import func, select

from app import tracing
from app.actions import Desk, Who, fleet
from app.models import Call, Role
from app.runs import jobs
from app.runs.execute import execute
from app.settings import GatewaySettings
from app.usage.projection import workers_for
from tests.support.factories import make_agents, make_run
from tests.support.history import give_history
from tests.support.web import api_token, serving

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture
def scraped(services):
    give_history(services, calls=500, days=3)
    with services.engine.begin() as connection:
        make_agents(connection, 3)
    desk = Desk(services.settings, services.engine, services.admission)
    fleet.set_limits(desk, {"budget_day_micros": 5_000_000}, Who("t", "a budget"))
    fleet.pause(desk, fleet.Pause(minutes=30, reason="x"), Who("t", "a drill"))
    headers = {"Authorization": f"Bearer {api_token(services, Role.VIEWER)}"}
    with serving(services) as base, httpx2.Client(base_url=base, trust_env=False, timeout=60) as client:
        assert client.get("/metrics").status_code == 401, "closed"
        client.headers.update(headers)
        yield client


def samples(client):
    text = client.get("/metrics").text
    return [s for family in text_string_to_metric_families(text) for s in family.samples]


def test_metrics_are_those_of_the_ledger_and_have_no_label_per_agent(scraped, services):
    found = samples(scraped)
    assert len(found) < 120, "a bounded number of series, whatever the number of agents"
    assert not [s for s in found if set(s.labels) & {"agent", "agent_id", "handle", "run"}]
    with services.engine.connect() as connection:
        month = func.date_trunc("month", func.now())
        query = select(func.count()).select_from(Call).where(Call.created_at >= month)
        calls = connection.execute(query).scalar_one()
    assert sum(s.value for s in found if s.name == "paceline_calls_total") == calls
    value = {s.name: s.value for s in found if not s.labels}
    assert value["paceline_paused"] == 1
    assert value["paceline_redis_up"] == 1
    assert value["paceline_rate_limit"] == 1000
    by = {(s.name, *s.labels.values()): s.value for s in found}
    assert by[("paceline_agents", "active")] == 15
    assert by[("paceline_budget_dollars", "day")] == 5
    assert ("paceline_job_age_seconds", jobs.OPEN_SLICE) in by


def test_every_metric_of_the_alert_rules_and_the_dashboard_exists(scraped):
    names = {s.name for s in samples(scraped)} | {"paceline_runway_days"}
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    asked = [rule["expr"] for rule in rules["groups"][0]["rules"]]
    board = json.loads((DEPLOY / "grafana" / "paceline.json").read_text())
    asked += [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    for expression in asked:
        assert set(re.findall(r"paceline_\w+", expression)) <= names, expression


def test_no_label_is_one_that_prometheus_gives_itself(scraped):
    labels = {label for sample in samples(scraped) for label in sample.labels}
    assert not labels & {"job", "instance"}, "it would rename ours to exported_job"


def test_every_alert_rule_is_seen_to_fire():
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
    tests = yaml.safe_load((DEPLOY / "prometheus" / "alerts_test.yml").read_text())["tests"]
    fired = {case["alertname"] for case in tests[0]["alert_rule_test"] if case.get("exp_alerts")}
    assert fired == {rule["alert"] for rule in rules}


def test_alert_rules_by_promtool():
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    promtool = shutil.which("promtool", path=beside)
    if promtool is None:
        pytest.skip("no promtool: `make tools`, on Debian")
    for arguments in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        ended = subprocess.run(
            [promtool, *arguments], cwd=DEPLOY / "prometheus", capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_scale_says_how_many_workers_help(scraped):
    scale = scraped.get("/api/v1/scale").json()
    assert scale["workers"] <= scale["workers_at_cap"]
    assert scale["workers_at_cap"] == workers_for(1000, scale["latency_s"], 16)
    assert workers_for(4, 1.5, 16) == 1
    assert workers_for(50, 2.2, 16) == 10


def test_deployment_files_are_readable_and_name_what_exists():
    for path in DEPLOY.rglob("*.y*ml"):
        assert list(yaml.safe_load_all(path.read_text())), path
    text = "".join(path.read_text() for path in DEPLOY.rglob("*") if path.is_file())
    text += (DEPLOY.parent / "docker-compose.yml").read_text()
    for path in set(re.findall(r"/api/v1/\w+", text)):
        assert path == "/api/v1/scale"
    for path in DEPLOY.glob("systemd/*.service"):
        assert "NoNewPrivileges=yes" in path.read_text()
        assert "EnvironmentFile=/etc/paceline/env" in path.read_text(), "no secret in a unit"


def test_units_are_what_systemd_understands(tmp_path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze: install systemd")
    for unit in (DEPLOY / "systemd").iterdir():
        text = re.sub(r"/opt/paceline/\.venv/bin/\w+", "/bin/true", unit.read_text())
        (tmp_path / unit.name.replace("@", "@1")).write_text(text)
    units = sorted(str(path) for path in tmp_path.iterdir())
    ended = subprocess.run(
        [program, "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    ours = [line for line in ended.stderr.splitlines() if "paceline" in line]
    assert not ours, ended.stderr


def test_worker_that_is_stopped_may_finish_the_longest_call():
    files = [DEPLOY.parent / "docker-compose.yml", DEPLOY / "kubernetes" / "paceline.yaml"]
    files += [DEPLOY / "systemd" / f"paceline-{name}.service" for name in ("worker@", "express")]
    setting = r"(?:stop_grace_period|TimeoutStopSec|terminationGracePeriodSeconds)\W+(\d+)"
    for path in files:
        graces = [int(value) for value in re.findall(setting, path.read_text())]
        assert graces, path
        assert min(graces) > GatewaySettings().longest_call_s, path


@pytest.fixture
def spans(monkeypatch):
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def test_run_and_call_are_spans_that_tell_no_content(services, sandbox, spans):
    with services.engine.begin() as connection:
        run_id = make_run(connection, make_agents(connection, 1)[0])
    sandbox.fault("status", status=500, count=1)
    execute(services, run_id)
    found = spans.get_finished_spans()
    (run,) = [span for span in found if span.name == "invoke_agent a0"]
    calls = [span for span in found if span.name.startswith("chat ")]
    assert run.attributes[tracing.STATE] == "completed"
    assert run.attributes[tracing.RUN] == str(run_id)
    assert len(calls) >= 2
    assert all(call.parent.span_id == run.context.span_id for call in calls)
    answered = [call for call in calls if tracing.ERROR not in call.attributes]
    assert answered[0].attributes[tracing.TOKENS_OUTPUT] > 0
    (failed,) = [call for call in calls if tracing.ERROR in call.attributes]
    assert failed.attributes[tracing.HTTP_STATUS] == 500
    with services.engine.connect() as connection:
        ids = {str(call_id) for call_id in connection.execute(select(Call.id)).scalars()}
    assert {call.attributes[tracing.REQUEST] for call in calls} == ids
    told = json.dumps([dict(span.attributes) for span in found])
    assert "You like tests" not in told, "what agents are asked is in no span"


def test_spans_are_off_by_default():
    assert not trace.get_tracer_provider().get_tracer("x").start_span("x").is_recording()
