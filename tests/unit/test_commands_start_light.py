"""What a command imports is what makes it slow to start, so that is counted; time depends on the machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli.lazy import Commands
from app.cli.main import COMMANDS, _begin

PROGRAM = """
import io, json, sys
from contextlib import redirect_stdout, suppress
sys.argv = ["paceline", *{arguments!r}]
said = io.StringIO()
from app.cli.main import main
with redirect_stdout(said), suppress(SystemExit):
    main()
print(json.dumps([sorted(sys.modules), said.getvalue()]))
"""


def run(*arguments):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(arguments=arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    modules, said = json.loads(done.stdout)
    return set(modules), said


@pytest.mark.parametrize("arguments", [("--help",), ("--version",)])
def test_help_and_version_import_no_command(arguments):
    modules, said = run(*arguments)
    assert said
    assert not modules & {"sqlalchemy", "redis", "pydantic", "structlog", "celery", "openai", "alembic"}
    assert {name for name in modules if name.startswith("app.cli.")} <= {"app.cli.main", "app.cli.lazy"}
    bare = subprocess.run(
        [sys.executable, "-c", "import sys, typer.main; print(len(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(modules) < int(bare.stdout) + 80


def test_completing_a_command_imports_none():
    program = Path(sys.executable).with_name("paceline")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(program)],
        capture_output=True,
        text=True,
        check=False,
        env={"_PACELINE_COMPLETE": "complete_bash", "COMP_WORDS": "paceline ag", "COMP_CWORD": "1"},
    )
    assert "agents" in done.stdout
    assert "sqlalchemy" not in done.stderr


@pytest.mark.parametrize("name", ["status", "agents", "usage", "doctor"])
def test_a_command_imports_what_it_needs_and_not_celery_the_client_or_what_sends_alerts(name):
    modules, _ = run(name, "--help")
    assert "sqlalchemy" in modules
    assert not modules & {"celery", "kombu", "openai", "flower", "apprise", "alembic", "zxcvbn", "fastapi"}


def test_the_list_of_commands_says_what_each_says_of_itself():
    commands = Commands(COMMANDS, _begin)
    for name in commands:
        assert commands[name].help.replace("\n", " ").startswith(commands.about(name)[:40]), name
