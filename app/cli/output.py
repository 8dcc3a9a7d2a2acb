"""How the command line speaks: data on standard output, notes on standard error."""

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import Progress

JSON_VERSION = 1

notes = Console(stderr=True, highlight=False, soft_wrap=True)
data = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 1_000)
"""A reader that is no terminal has no width: nothing is cut for it."""


def print_json(value: Any) -> None:
    """One JSON document with a version, for machines."""
    document = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    sys.stdout.write(json.dumps({"version": JSON_VERSION, **document}, default=_plain) + "\n")


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar for long work on a terminal, nothing elsewhere; yields what to tell how much is done."""
    with Progress(console=notes, transient=True, disable=not notes.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def _plain(value: object) -> object:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, UUID | Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"cannot print {type(value).__name__} as JSON")


def shorten(text: str, width: int) -> str:
    """At most `width` characters of a line."""
    return text if len(text) <= width else text[: width - 1] + "…"


def finite(value: float | None) -> float | None:
    """For options: `nan` passes every bound."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter("give a number")
    return value
