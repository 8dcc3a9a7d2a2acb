"""A newcomer types what the README shows: every command of it, as it is there, against a running fleet."""

import http.server
import json
import re
import shlex
import signal
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from app.cli.parts import free_port
from app.db import make_engine
from app.embedded import running
from tests.support.program import (
    PACELINE,
    ROOT,
    clean_env,
    get,
    paceline,
    processes_of,
    start_alone,
    wait_for,
)

pytestmark = pytest.mark.acceptance

README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^(?:\w+=\S+ )*\.venv/bin/paceline (.+?)(?:\s{2,}#.*)?$", README, re.M)
ELSEWHERE = {
    "agents take-over --dry-run": "needs the database of another application",
    'webhooks add https://example.org/hook --events "post.*,comment.*"': "sends to another machine",
}


class Takes(http.server.BaseHTTPRequestHandler):
    """A channel for alerts that takes everything."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def channel():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Takes)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"json://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture(scope="module")
def newcomer(channel):
    """A folder with the examples in it, and `paceline up` in it as `make up` runs it."""
    with tempfile.TemporaryDirectory(prefix="pl-") as name:
        folder = Path(name)
        (folder / "examples").symlink_to(ROOT / "examples")
        env = {
            "PACELINE_WEB__PORT": str(free_port()),
            "PACELINE_FLOWER__PORT": str(free_port()),
            "PACELINE_ALERTS__URLS": json.dumps([channel]),
        }
        ready = f"http://127.0.0.1:{env['PACELINE_WEB__PORT']}/health/ready"
        with start_alone() as has_started, (folder / "up.txt").open("w+") as log:
            program = subprocess.Popen(
                [*PACELINE, "up"], cwd=folder, env=clean_env(**env), stdin=subprocess.DEVNULL, stderr=log
            )
            try:
                wait_for(lambda: get(ready), 60, "the dashboard")
                wait_for(lambda: "posts" in (folder / "up.txt").read_text(), 30, "a line of progress")
                has_started()
                yield folder, env
            finally:
                program.send_signal(signal.SIGINT)
                program.wait(120)
        assert program.returncode == 0
        assert not processes_of(folder)


def test_readme_shows_what_up_prints(newcomer):
    folder, _ = newcomer
    shown = re.search(r"```\n(starting postgres.*?)```", README, re.S).group(1)
    printed = (folder / "up.txt").read_text()

    def words(text):
        """Without what differs from one start to another."""
        lines = [
            re.sub(r"\d[\d:./]*|invitation#\S+|\.paceline\S*|/\S+", "N", line) for line in text.splitlines()
        ]
        return [re.sub(r"N+", "N", line).strip() for line in lines]

    progress = re.compile(r"^N  cycle")
    expected = [line for line in words(shown) if not progress.match(line)]
    assert [line for line in words(printed) if not progress.match(line)][: len(expected)] == expected
    assert any(progress.match(line) for line in words(shown))


def test_every_command_of_the_readme_works(newcomer):
    """In the order of the page; what changes something is what the next one meets."""
    folder, env = newcomer
    assert len(COMMANDS) > 20
    assert set(ELSEWHERE) <= set(COMMANDS)
    # what comes first there: agents have written something
    listing = ("content", "list", "--json")
    wait_for(lambda: json.loads(paceline(*listing, cwd=folder, **env).stdout)["content"], 60, "a text")
    content_id = next(
        item["id"]
        for item in json.loads(paceline(*listing, cwd=folder, **env).stdout)["content"]
        if item["state"] == "published"
    )
    engine = make_engine(running(folder / ".paceline").database_url)
    with engine.begin() as connection:  # an application to write into
        connection.execute(text((ROOT / "examples" / "app-simple.sql").read_text()))
    engine.dispose()
    for command in COMMANDS:
        if command in ELSEWHERE:
            continue
        words = shlex.split(command.replace(" ID ", f" {content_id} "))
        if words == ["shell"]:
            ended = subprocess.run(
                [*PACELINE, "shell"],
                cwd=folder,
                env=clean_env(**env),
                text=True,
                capture_output=True,
                input='print(dispatch("bruno", wait=True).state)\nprint(len(usage()))\n',
                timeout=180,
                check=False,
            )
            assert "completed" in ended.stdout, ended
        else:
            ended = paceline(*words, cwd=folder, **env)
        assert ended.returncode == 0, (command, ended.stdout, ended.stderr)


def test_python_of_the_readme_starts_an_agent(newcomer):
    folder, env = newcomer
    paceline("resume", cwd=folder, **env)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    command = [*PACELINE[:1], "-c", code]
    ended = subprocess.run(
        command, cwd=folder, env=clean_env(**env), capture_output=True, text=True, timeout=180, check=False
    )
    assert re.match(r"completed \['.*'\] \d+\n$", ended.stdout), ended.stdout + ended.stderr


def test_every_target_and_file_that_the_readme_names_exists():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`?make ([a-z-]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.M), target
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).exists(), path
