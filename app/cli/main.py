"""`paceline`: assembles the commands and turns errors into one line and an exit code."""

import importlib
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from app.cli import lazy

COMMANDS = {
    "up": "up:up",
    "doctor": "doctor:doctor",
    "status": "status:status",
    "plan": "plan:plan",
    "usage": "usage:usage",
    "incidents": "incidents:incidents",
    "alerts": "incidents:alerts",
    "audit": "audit:audit_books",
    "agents": "agents:app",
    "accounts": "accounts:app",
    "dispatch": "dispatch:dispatch",
    "runs": "runs:app",
    "workers": "workers:workers",
    "shell": "shell:shell",
    "limits": "limits:app",
    "budget": "budget:app",
    "controls": "controls:app",
    "content": "content:app",
    "style": "style:app",
    "app": "app_link:app",
    "webhooks": "webhooks:app",
    "pause": "limits:pause",
    "resume": "limits:resume",
    "db": "db:app",
    "sandbox": "sandbox:app",
}
"""Where each command is, below app.cli. Only the one that is asked for is imported."""


def _begin() -> None:
    """Prepare every command, when this is the program and not a part of another."""
    if _is_program:
        importlib.import_module("app.cli.begin").begin()


_is_program = False


app = typer.Typer(
    name="paceline",
    cls=lazy.group(COMMANDS, _begin),
    help="Run a fleet of AI agents on one shared LLM gateway: paced, paid for, recorded.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("paceline"))
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the console script."""
    global _is_program
    _is_program = True
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        sys.stderr.close()
        sys.exit(141)
    except Exception as error:
        said = importlib.import_module("app.cli.begin").explain(error)
        if said is None:
            raise
        sys.exit(said)
