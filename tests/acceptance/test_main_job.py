"""The main job, as a person meets it: one command, real servers, 100 agents under the cap.

One fleet runs for the whole file: embedded servers, `celery -A workers` worker and beat processes,
Flower, dashboard; the sandbox is a process of its own, so that its tally can be read afterwards.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from app.cli.parts import free_port
from app.embedded import running, servers
from tests.support.program import (
    PACELINE,
    clean_env,
    get,
    paceline,
    processes_of,
    sandbox_process,
    start_alone,
    wait_for,
)

pytestmark = pytest.mark.acceptance

SECONDS = 80  # a machine that is busy with other tests needs 45 for the questions below


@dataclass
class Fleet:
    """What was seen while the fleet ran, and what was left behind."""

    notes: str
    summary: dict[str, Any]
    shell: "subprocess.CompletedProcess[str]"
    dispatched: "subprocess.CompletedProcess[str]"
    status: "subprocess.CompletedProcess[str]"
    doctor: "subprocess.CompletedProcess[str]"
    flower_tasks: dict[str, Any]
    flower_workers: dict[str, Any]
    flower_refusals: list[int]
    page: str
    ran_from_page: str
    requests: list[dict[str, Any]]
    rows: dict[str, list[tuple[Any, ...]]]
    left_running: list[str]
    logs: str
    secrets: list[str]


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with (
        tempfile.TemporaryDirectory(prefix="pl-") as folder,
        sandbox_process("--rate", "4", "--capacity", "2", "--latency", "1.5", cwd=Path(folder)) as gateway,
    ):
        yield run_fleet(Path(folder), gateway)


def run_fleet(folder: Path, gateway: str) -> Fleet:
    web, flower = free_port(), free_port()
    key = "sk-never-to-be-seen-" + os.urandom(4).hex()
    env = {
        "PACELINE_GATEWAY__API_KEY": key,
        "PACELINE_CYCLE__PERIOD_S": "50",
        "PACELINE_GATEWAY__BASE_URL": f"{gateway}/v1",
        "PACELINE_WEB__PORT": str(web),
        "PACELINE_FLOWER__PORT": str(flower),
    }
    home = folder / ".paceline"
    with (
        start_alone() as has_started,
        subprocess.Popen(
            [*PACELINE, "up", "--for", str(SECONDS), "--json"],
            cwd=folder,
            env=clean_env(**env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as program,
    ):
        wait_for(lambda: running(home).database_url, 30, "PostgreSQL")
        wait_for(lambda: get(f"http://127.0.0.1:{web}/health/ready"), 60, "the dashboard")
        wait_for(lambda: len(workers_seen(home, flower)) == 3, 60, "Flower with two workers and the express")
        has_started()
        shell = ask_in_a_shell(folder, env)
        dispatched = paceline("dispatch", "cleo", "--wait", "--json", cwd=folder, **env)
        status = paceline("status", "--json", cwd=folder, **env)
        doctor = paceline("doctor", "--json", cwd=folder, **env)
        page, ran, invited = use_the_dashboard(folder, env, f"http://127.0.0.1:{web}")
        tasks = get(
            f"http://127.0.0.1:{flower}/api/tasks", params={"taskname": "agents.run"}, auth=flower_auth(home)
        ).json()
        refusals = flower_refusals(home, f"http://127.0.0.1:{flower}")
        workers = workers_seen(home, flower)
        out, err = program.communicate(timeout=200)
    assert program.returncode == 0, err
    left = [words for words in processes_of(folder) if "sandbox" not in words]
    with servers(home, valkey=False) as kept, psycopg.connect(kept.database_url) as connection:
        rows = {
            "runs": connection.execute(
                "select r.id::text, a.handle, r.cycle_at, r.origin, r.state, r.reason, r.asked_for,"
                " r.due_at, r.finished_at from paceline.runs r"
                " left join paceline.agents a on a.id = r.agent_id"
            ).fetchall(),
            "calls": connection.execute(
                "select id::text, status, http_status, tokens_input, tokens_output from"
                " paceline.ai_request_log"
            ).fetchall(),
            "bodies": connection.execute(
                "select body from paceline.posts union all select body from paceline.comments"
            ).fetchall(),
            "posts": connection.execute(
                "select run_id::text, agent_id::text, kind from paceline.posts"
            ).fetchall(),
            "comments": connection.execute("select 1 from paceline.comments").fetchall(),
        }
    lines = get(f"{gateway}/sandbox/requests").text.splitlines()
    password = (home / "valkey" / "identity").read_text().split()[1]
    of_postgres = [file.read_text() for file in (home / "postgres").glob("password.*")]
    secrets = [
        key,
        password,
        *of_postgres,
        flower_auth(home)[1],
        invited,
        *re.findall(r"/invitation#(\S+)", err),
    ]
    logs = "".join(log.read_text() for log in (home / "logs").iterdir())
    return Fleet(
        err,
        json.loads(out),
        shell,
        dispatched,
        status,
        doctor,
        tasks,
        workers,
        refusals,
        page,
        ran,
        [json.loads(line) for line in lines],
        rows,
        left,
        logs,
        secrets,
    )


def flower_auth(home: Path) -> tuple[str, str]:
    file = home / "flower.password"
    return ("viewer", file.read_text().strip() if file.exists() else "")


def workers_seen(home: Path, port: int) -> dict[str, Any]:
    url = f"http://127.0.0.1:{port}/api/workers"
    answer = get(url, params={"status": "true"}, auth=flower_auth(home))
    return answer.json() if answer is not None and answer.status_code == 200 else {}


def flower_refusals(home: Path, base: str) -> list[int]:
    """Looking without a password, and acting with the one that only looks."""
    act = f"{base}/api/task/async-apply/agents.run"
    with httpx2.Client(trust_env=False, timeout=10) as client:
        acted = client.post(act, json={"args": ["ada"]}, auth=flower_auth(home))
        return [
            client.get(f"{base}/api/workers").status_code,
            client.get(base).status_code,
            acted.status_code,
        ]


def use_the_dashboard(folder: Path, env: dict[str, str], base: str) -> tuple[str, str, str]:
    """Come by invitation, look at the first page, start an agent; returns both pages and the used code."""
    link = paceline("accounts", "invite", "--role", "operator", cwd=folder, **env).stdout.strip()
    here = {"Origin": base}
    with httpx2.Client(base_url=base, trust_env=False, timeout=30, follow_redirects=True) as client:
        link, _, code = link.partition("#")
        new = {"code": code, "name": "olga", "password": "correct horse battery"}
        page = client.post(link, data=new, headers=here)
        form = client.get("/acts/agents-run?agents=dario").text
        token = re.search(r'name="csrf" value="(\w+)"', form).group(1)
        fields = {"csrf": token, "agents": "dario", "reason": "to see it run"}
        return page.text, client.post("/acts/agents-run", data=fields, headers=here).text, code


def ask_in_a_shell(folder: Path, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """A plain Python, as a developer types it; only the project on its path."""
    code = (
        "from workers.tasks import run_agent\n"
        "print(run_agent.delay('ada').id)\n"
        "try: run_agent.delay('no_such_agent')\n"
        "except Exception as error: print(type(error).__name__)\n"
        "from workers.console import namespace\n"
        "names, banner = namespace()\n"
        "report = names['dispatch']('bruno', wait=True)\n"
        "print(report.state, len(report.posts), len(report.calls) > 0)\n"
        "print(names['usage']()[0].usage.requests > 0, names['limits']()[0].rate)\n"
        "print(names['explain']('ada').agent, all(name in banner for name in names))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=clean_env(**env),
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


@pytest.mark.plan(17, 34, 38)
def test_every_run_ends_in_a_terminal_state(fleet):
    states = {row[4] for row in fleet.rows["runs"]}
    assert states <= {"completed", "failed", "skipped", "quarantined"}
    assert fleet.summary["open_runs"] == 0
    assert len(fleet.rows["runs"]) > 60


@pytest.mark.plan(15, 35)
def test_the_gateway_never_says_429(fleet):
    assert {request["status"] for request in fleet.requests} == {200}
    assert fleet.summary["calls"]["rate_limited"] == 0


@pytest.mark.plan(42, 34, 49)
def test_ledger_is_the_gateways_own_tally_by_request_id(fleet):
    ledger = sorted((row[0], row[2], row[3], row[4]) for row in fleet.rows["calls"])
    tally = sorted(
        (seen["request_id"], seen["status"], seen["tokens_input"], seen["tokens_output"])
        for seen in fleet.requests
    )
    assert ledger == tally
    assert len({row[0] for row in ledger}) == len(ledger)


@pytest.mark.plan(14)
def test_posts_and_comments_are_short(fleet):
    assert len(fleet.rows["posts"]) > 60
    assert len(fleet.rows["comments"]) > 10
    assert all(1 <= len(body) <= 280 for (body,) in fleet.rows["bodies"])


@pytest.mark.plan(7, 8)
def test_an_agent_welcomes_once_and_a_run_posts_once(fleet):
    welcomed = [row[1] for row in fleet.rows["posts"] if row[2] == "welcome"]
    assert len(welcomed) == len(set(welcomed))
    runs = [row[0] for row in fleet.rows["posts"]]
    assert len(runs) == len(set(runs))


@pytest.mark.plan(20)
def test_slices_are_five_seconds_apart(fleet):
    offsets = {row[7].timestamp() % 50 for row in fleet.rows["runs"] if row[3] == "cycle"}
    assert len(offsets) >= 6
    assert all(offset % 5 == 0 for offset in offsets)


@pytest.mark.plan(18)
def test_agents_act_well_within_their_cycle_at_a_latency_of_one_and_a_half_seconds(fleet):
    """The job that was replaced went through all agents in one task, and died at 54 seconds."""
    runs = [row for row in fleet.rows["runs"] if row[3] == "cycle"]
    assert len(runs) > 30
    assert max(row[8] - row[2] for row in runs).total_seconds() < 100
    assert len({(row[1], row[2]) for row in runs}) == len(runs), "a run is one agent's, once a cycle"


def test_delay_in_a_plain_shell_starts_an_agent(fleet):
    assert fleet.shell.returncode == 0, fleet.shell.stderr
    ada, unknown, *_ = fleet.shell.stdout.split()
    by_id = {row[0]: row for row in fleet.rows["runs"]}
    assert by_id[ada][1:6] == ("ada", None, "adhoc", "completed", None)
    assert unknown == "NotFound", "a handle that is not there is an error at once"


def test_shell_has_everything_at_hand(fleet):
    said = fleet.shell.stdout.splitlines()[2:]
    assert said == ["completed 1 True", "True 4.0", "ada True"]


def test_dispatch_waits_and_shows_the_run_with_its_post_and_spend(fleet):
    assert fleet.dispatched.returncode == 0, fleet.dispatched.stderr
    report = json.loads(fleet.dispatched.stdout)
    assert (report["agent"], report["state"]) == ("cleo", "completed")
    assert len(report["posts"]) == 1
    assert all(call["status"] == "ok" for call in report["calls"])


def test_flower_shows_workers_and_every_run_with_its_agent_and_outcome(fleet):
    assert {name.split("@")[0] for name in fleet.flower_workers} == {"worker1", "worker2", "express"}
    assert all(fleet.flower_workers.values())
    tasks = fleet.flower_tasks
    assert len(tasks) > 10
    assert all(task["args"].startswith("('") for task in tasks.values())
    ended = [task for task in tasks.values() if task["state"] == "SUCCESS"]
    assert any("completed" in str(task["result"]) for task in ended)
    assert set(tasks) <= {row[0] for row in fleet.rows["runs"]}  # a task's id is its run's


def test_flower_asks_for_a_password_and_lets_nobody_act_with_the_one_to_look(fleet):
    assert all(status in (401, 403) for status in fleet.flower_refusals), fleet.flower_refusals


def test_first_administrator_comes_by_the_link_that_up_prints(fleet):
    link = re.search(r"sign in +(http://127\.0\.0\.1:\d+/invitation#\S{43})$", fleet.notes, re.M)
    assert link, fleet.notes


def test_agent_is_started_from_its_page(fleet):
    assert any(
        row[1] == "dario" and row[3] == "adhoc" and row[4] == "completed" for row in fleet.rows["runs"]
    )
    assert "Run agents now: done, 1." in fleet.ran_from_page


def test_dashboard_shows_posts(fleet):
    assert "calls per second" in fleet.page
    assert re.search(r'agents/\w+">@\w+</a> <span>\S', fleet.page)


def test_status_and_doctor_find_the_running_fleet(fleet):
    status = json.loads(fleet.status.stdout)
    assert (status["version"], status["agents"]) == (1, 100)
    assert fleet.doctor.returncode == 0, fleet.doctor.stdout
    assert json.loads(fleet.doctor.stdout)["ok"]


def test_nothing_is_left_running(fleet):
    assert fleet.left_running == []
    assert fleet.summary["killed"] == []
    assert fleet.summary["restarts"] == {}


def test_no_log_of_the_whole_run_holds_a_secret(fleet):
    assert len(fleet.secrets) == 7
    for secret in fleet.secrets:
        assert len(secret) >= 10
        assert secret not in fleet.logs
    for secret in fleet.secrets[:-1]:  # the last one is the first sign-in, which `up` shows
        assert secret not in fleet.notes + json.dumps(fleet.summary)


def test_every_call_is_a_line_of_the_log_that_names_its_run_agent_and_request(fleet):
    lines = [json.loads(line) for line in fleet.logs.splitlines() if '"event": "call.ended"' in line]
    assert {line["request_id"] for line in lines} == {row[0] for row in fleet.rows["calls"]}
    agents = {row[0]: row[1] for row in fleet.rows["runs"]}
    assert all(agents[line["run_id"]] == line["agent"] for line in lines)
