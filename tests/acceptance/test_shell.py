"""Runs from a Python shell, as docs/shell.md shows them and as Celery users know them, beside a fleet."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx2
import pytest

from app.cli.parts import free_port
from tests.support.program import PACELINE, ROOT, clean_env, paceline, processes_of, start_alone, wait_for

pytestmark = [pytest.mark.acceptance, pytest.mark.long]

PAGE = (ROOT / "docs" / "shell.md").read_text()
EXAMPLES = "\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S))


@pytest.fixture(scope="module")
def fleet():
    """A folder whose path has a space, and in it a fleet that mostly waits for us."""
    with tempfile.TemporaryDirectory(prefix="pl ") as name:
        folder, flower = Path(name), free_port()
        env = {
            "PACELINE_FLOWER__PORT": str(flower),
            "PACELINE_CYCLE__PERIOD_S": "36000",
            "PACELINE_CYCLE__SLICE_S": "300",
            "PACELINE_LIMITS__RATE": "20",
            "PACELINE_FLOWER__BASIC_AUTH": "tester:a long password",
        }
        with start_alone() as has_started, (folder / "up.txt").open("w+") as log:
            up = subprocess.Popen(
                [*PACELINE, "up", "--workers", "1", "--no-web"],
                cwd=folder,
                env=clean_env(**env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            try:
                wait_for(lambda: "agents done" in (folder / "up.txt").read_text(), 90, "a worker")
                has_started()
                yield folder, f"http://127.0.0.1:{flower}"
            finally:
                up.terminate()
                up.wait(120)
        assert processes_of(folder) == []


def in_a_shell(folder: Path, code: str) -> list[str]:
    """The lines that a plain Python prints; it knows no gateway, as no shell needs to."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=clean_env(PYTHONPATH=str(ROOT)),
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout.splitlines()


HEAD = """
import time
from celery import chain, chord, group
from workers.tasks import run_agent
from workers.process import services
"""


def test_the_examples_of_the_page_do_what_it_says(fleet):
    folder, _ = fleet
    said = in_a_shell(folder, EXAMPLES)
    assert said[0].startswith("completed ['"), said
    assert int(said[1].removesuffix(" posts")) >= 8, said
    assert said[2:4] == ["anouk", "anouk"]
    assert said[4:7] == ["PENDING completed", "completed", "REVOKED"]
    assert re.fullmatch(r"\$0\.\d+", said[7]), said
    assert re.fullmatch(r"\w+ \S+ \d+ \d+", said[8]), said
    rest = said[8:]
    assert any(line.startswith("SUCCESS 20") for line in rest)
    assert rest[-2:] == ["completed True True", "0 4"]


def test_a_redis_that_loses_its_data_loses_no_run_and_no_canvas(fleet):
    folder, _ = fleet
    paceline("pause", cwd=folder)
    code = (
        HEAD
        + """
one = run_agent.delay("ada")
parts = chord([run_agent.s("alma"), run_agent.s("anouk")])(run_agent.s("arlo"))
row = chain(run_agent.s("bela"), run_agent.s("bibi")).delay()
services().redis.flushall()
time.sleep(3)
print(one.state, parts.state, row.parent.state, row.state)
lost = run_agent.delay("boris")
services().redis.flushall()
import subprocess
subprocess.run([sys.executable, "-m", "app.cli", "resume"], check=True, capture_output=True)
print([r.get(timeout=120).agent for r in (one, parts, row, lost)])
"""
    )
    said = in_a_shell(folder, "import sys\n" + code)
    assert said[1] == "['ada', 'arlo', 'bibi', 'boris']", said
    assert said[0].split()[1] == "PENDING", "the body waits for its header"
    assert said[0].split()[3] == "PENDING", "the second waits for the first"


def test_what_follows_a_run_that_was_ended_elsewhere_says_why_it_never_began(fleet):
    folder, _ = fleet
    paceline("pause", cwd=folder)
    code = (
        HEAD
        + """
row = chain(run_agent.s("ada"), run_agent.s("alma"), run_agent.s("anouk")).delay()
parts = chord([run_agent.s("arlo"), run_agent.s("bela")])(run_agent.s("bibi"))
one, other = parts.parent.results
time.sleep(2)
import subprocess
subprocess.run([sys.executable, "-m", "app.cli", "runs", "cancel", row.parent.parent.id, one.id],
               check=True, capture_output=True)
print(row.parent.parent.state, one.state)
subprocess.run([sys.executable, "-m", "app.cli", "resume"], check=True, capture_output=True)
for result in (row, parts):
    error = result.get(timeout=120, propagate=False)
    print(result.state, error)
"""
    )
    said = in_a_shell(folder, "import sys\n" + code)
    assert said[0] == "REVOKED REVOKED"
    assert re.fullmatch(r"FAILURE run \S+ of anouk failed: not begun: .*ada.*cancelled.*", said[1]), said
    assert re.fullmatch(r"FAILURE run \S+ of bibi failed: not begun: .*arlo.*cancelled.*", said[2]), said


def test_a_turn_here_and_now_goes_through_the_same_admission_and_ledger(fleet):
    folder, _ = fleet
    code = (
        HEAD
        + """
run = run_agent("carla")
print(run.state, run.worker, len(run.calls) > 0, run.cost_micros > 0)
print(run_agent.apply(("cleo",)).get().state)
import subprocess
from app.errors import NotFound, NotYet
subprocess.run([sys.executable, "-m", "app.cli", "pause"], check=True, capture_output=True)
try:
    run_agent("colm")
except NotYet as wait:
    print(wait)
try:
    run_agent("nobody")
except NotFound as unknown:
    print(unknown)
subprocess.run([sys.executable, "-m", "app.cli", "resume"], check=True, capture_output=True)
"""
    )
    env = {"PACELINE_GATEWAY__BASE_URL": (folder / ".paceline" / "sandbox.url").read_text().strip()}
    done = subprocess.run(
        [sys.executable, "-c", "import sys\n" + code],
        cwd=folder,
        check=False,
        capture_output=True,
        env=clean_env(PYTHONPATH=str(ROOT), **env),
        text=True,
        timeout=120,
    )
    said = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert said[:2] == ["completed a shell True True", "completed"]
    assert re.match(r"run \S+ of colm waits: paused\. Workers go on with it", said[2]), said
    assert said[3].startswith("unknown agent 'nobody': ")


THREADS = "PACELINE_WORKER__THREADS"
VERBS = {
    "pool_grow": THREADS,
    "pool_shrink": THREADS,
    "autoscale": THREADS,
    "pool_restart": "stop the worker",
    "rate_limit": "limits set --rate",
    "time_limit": "TOTAL_TIMEOUT_S",
    "terminate": "control revoke ID",
    "revoke_by_stamped_headers": "no stamps",
}


def test_verbs_that_would_do_nothing_say_what_does(fleet):
    folder, _ = fleet
    code = (
        HEAD
        + f"""
import json
from workers.celery import app
verbs = {list(VERBS)!r}
print(json.dumps({{v: app.control.broadcast(v, reply=True, timeout=2, limit=2) for v in verbs}}))
inspect = app.control.inspect(timeout=2)
print(json.dumps([sorted(inspect.ping()), inspect.active(), inspect.reserved(), inspect.scheduled(),
                  inspect.stats(), inspect.active_queues()], default=str))
print(app.send_task("agents.run", ["ada"]).get(timeout=180).state)
"""
    )
    said = in_a_shell(folder, code)
    for verb, replies in json.loads(said[0]).items():
        assert len(replies) == 2, verb
        for reply in replies:
            (answer,) = reply.values()
            assert VERBS[verb] in answer["error"], answer
    names, active, reserved, scheduled, stats, queues = json.loads(said[1])
    assert {name.split("@")[0] for name in names} == {"worker1", "express", "celerybeat"}
    assert all(
        one.get("name") != "agents.run"  # jobs of beat's come and go
        for found in (reserved, scheduled)
        for work in found.values()
        for one in work
    )
    assert len(active) == 2
    assert {one["pool"]["max-concurrency"] for one in stats.values()} == {8, 16}
    taken = {q["name"] for q in next(v for k, v in queues.items() if k.startswith("worker1"))}
    assert taken == {"adhoc", "maintenance", "cycle"}
    assert all(q["name"] == q["routing_key"] for found in queues.values() for q in found)
    assert said[2] == "completed"
    call = [sys.executable, "-m", "celery", "-A", "workers", "call", "agents.run", "--args"]
    env = clean_env(PYTHONPATH=str(ROOT))
    run = subprocess.run(
        [*call, '["alma"]'], cwd=folder, env=env, capture_output=True, text=True, check=True, timeout=180
    )
    assert in_a_shell(
        folder, HEAD + f"print(run_agent.AsyncResult({run.stdout.strip()!r}).get(timeout=180).agent)"
    ) == ["alma"]
    unknown = subprocess.run(
        [*call, '["nobody"]'], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=180
    )
    assert unknown.returncode != 0
    assert "unknown agent 'nobody'" in unknown.stderr


def test_flower_shows_agent_outcome_and_the_runs_page_and_no_upkeep(fleet):
    folder, flower = fleet
    (run_id,) = in_a_shell(folder, HEAD + "r = run_agent.delay('dario'); r.get(timeout=180); print(r.id)")
    with httpx2.Client(base_url=flower, trust_env=False, auth=("tester", "a long password")) as client:
        info = f"/api/task/info/{run_id}"
        wait_for(lambda: client.get(info).status_code == 200, 20, "the event")
        wait_for(lambda: client.get(f"/api/task/info/{run_id}").json()["state"] == "SUCCESS", 20, "the end")
        page = client.get(f"/task/{run_id}").text
        assert {task["name"] for task in client.get("/api/tasks?limit=1000").json().values()} == {
            "agents.run"
        }
        waits = in_a_shell(folder, HEAD + "print(run_agent.apply_async(('delia',), countdown=600).id)")[0]
        revoked = client.post(f"/api/task/revoke/{waits}")
        assert revoked.status_code == 200, revoked.text
    assert "dario, asked for" in page
    assert "dario: completed, 1 post" in page
    assert f"/runs/{run_id}" in page
    assert in_a_shell(folder, HEAD + f"print(run_agent.AsyncResult({waits!r}).state)") == ["REVOKED"]
