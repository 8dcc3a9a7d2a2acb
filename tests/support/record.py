"""Keeps the last result of the tests that are too long for every change, for `make test-long`."""

import json
import os
from importlib.metadata import version
from pathlib import Path

import pytest

from app.clock import utcnow


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", type=Path, help="write what each test came to into this JSON file")


def pytest_terminal_summary(terminalreporter, exitstatus: int, config: pytest.Config) -> None:
    """Write {"paceline", "at", "cores", "tests": {id: {"outcome", "seconds"}}}; tests of other runs stay."""
    if not (path := config.getoption("record")):
        return
    known = json.loads(path.read_text())["tests"] if path.exists() else {}
    ran = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            if report.when == "call" or outcome != "passed":
                ran[report.nodeid] = {"outcome": outcome, "seconds": round(report.duration, 1)}
    told = {
        "paceline": version("paceline"),
        "at": utcnow().isoformat(timespec="minutes"),
        "cores": os.cpu_count(),
        "tests": dict(sorted((known | ran).items())),
    }
    path.write_text(json.dumps(told, indent=1) + "\n")
