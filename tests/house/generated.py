"""Files written from the code: .env.example and the pages of docs/ named below. `make docs` writes them."""

import json
import textwrap
from collections.abc import Callable
from pathlib import Path

import typer
from pydantic import SecretStr
from typer.main import get_command

from app.cli.main import app
from app.kinds import KINDS
from app.settings import variables
from tests.house import plan, promises

ROOT = Path(__file__).parents[2]

EXIT_CODES = """\
| code | meaning |
| --- | --- |
| 0 | done |
| 1 | failed: the last line on standard error says why and what to do |
| 2 | wrong usage, a setting that is missing, unknown or impossible, or a `plan` that the cap cannot serve |
| 3 | works, but not as it should: a warning of `doctor`, migrations pending, an act in force only later |
| 4 | no such agent or file |
| 75 | a server does not answer; trying again later may help |
| 130 | interrupted |
| 141 | whoever read the output went away, as `head` does |
"""


def env_example() -> str:
    """Every setting, commented out, with its default."""
    lines = [
        "# Every setting of Paceline with its default; nothing here is needed to start.",
        "# Copy to .env and take away the # where you want another value. Written by `make docs`.",
    ]
    for name, description, default in variables():
        lines += ["", *textwrap.wrap(description, 98, initial_indent="# ", subsequent_indent="# ")]
        lines.append(f"#{name}={_plain(default)}")
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """The same as a table."""
    rows = [f"| `{name}` | {_shown(default)} | {about} |" for name, about, default in variables()]
    head = [
        "# Settings",
        "",
        "Read once, when a process starts, from the environment, from `.env`, and from files of these",
        "names in `/run/secrets` or systemd's credentials directory, in this order. A `PACELINE_` name",
        "that is not in this table is refused. Written by `make docs`.",
        "",
        "| name | default | what |",
        "| --- | --- | --- |",
    ]
    return "\n".join([*head, *rows]) + "\n"


def cli_page() -> str:
    """Every command with its own help."""
    parts = [
        "# The command line\n\nData goes to standard output, everything else to standard error. `--json` "
        "prints one\ndocument with a `version`. Written by `make docs`.\n\n## Exit codes\n\n" + EXIT_CODES
    ]
    parts += list(_commands(get_command(app), ["paceline"]))
    return "\n".join(parts)


def _commands(command, path):
    context = command.context_class(command, info_name=" ".join(path), terminal_width=100)
    if len(path) > 1 and not getattr(command, "commands", None):
        text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        yield f"## {' '.join(path)}\n\n```\n{text.strip()}\n```\n"
    for name, child in (getattr(command, "commands", None) or {}).items():
        yield from _commands(child, [*path, name])


def answers_page() -> str:
    """The table of app/kinds.py."""
    head = [
        "# Gateway answers",
        "",
        "Whom each kind of answer stops, what becomes of the request, what is billed, and what ends it.",
        "The names stand in the ledger (`error_code`), in incidents, alerts, pages and metrics. An error is",
        "told by its status and by the fields that name it (`error.code`, `type`, `status`,",
        "`details[].reason`), never by words within its message. An error within a 200 is read as that",
        "error.",
        "",
        '"Billed" is what counts where the answer sends no usage: the reservation, or nothing. Usage and',
        "cost that an answer does send are always recorded. Written by `make docs` from `app/kinds.py`.",
        "",
        "| name | what it means | stops | calls in all | billed | runs that must see it | ends with |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = [
        f"| `{kind.code}` | {kind.title} | {kind.reach} | {kind.attempts} | "
        f"{'the reservation' if kind.is_billable else 'nothing'} | "
        f"{kind.runs_to_confirm if kind.effect != 'failed' else ''} | {kind.ends} |"
        for kind in KINDS
    ]
    mends = [f"* `{kind.code}`: {kind.mend}" for kind in KINDS if kind.mend]
    return "\n".join([*head, *rows, "", "## What you do", "", *mends]) + "\n"


def _plain(default: object) -> str:
    if default is None or isinstance(default, SecretStr):
        return ""
    if isinstance(default, tuple | dict):
        return json.dumps(default)
    return f"{default:g}" if isinstance(default, float) else str(default)


def _shown(default: object) -> str:
    return f"`{_plain(default)}`" if _plain(default) else ""


FILES: dict[str, Callable[[], str]] = {
    ".env.example": env_example,
    "docs/settings.md": settings_page,
    "docs/cli.md": cli_page,
    "docs/gateway-answers.md": answers_page,
    "docs/plan-coverage.md": plan.page,
    "docs/promises.md": promises.page,
}


if __name__ == "__main__":
    for path, make in FILES.items():
        (ROOT / path).write_text(make())
        typer.echo(f"wrote {path}")
