"""Apply each change to a copy of the project and run the tests that have to notice: `make mutants`.

Prints a line for each, and at the end those that nobody noticed; writes docs/mutants.json. Ends 1 when there
are any. `--only TEXT` takes those whose promise or file has the text.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

from tests.mutants.listed import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
LONGEST_S = 900


def main() -> int:
    """Run them all, two at a time."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("--only", default="", help="those whose promise or file has this text")
    parser.add_argument("--again", type=Path, help="leave out what this report knows as noticed, and keep it")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    chosen = [m for m in MUTANTS if given.only in m.promise or given.only in m.path]
    before = json.loads(given.again.read_text())["each"] if given.again else []
    known = {one["promise"]: one for one in before if one["came"] == "noticed"}
    chosen = [m for m in chosen if m.promise not in known]
    with ThreadPoolExecutor(given.at_once) as pool:
        found = list(pool.map(try_one, chosen))
    survived = [one for one in found if one["came"] != "noticed"]
    if given.out:
        listed = {one["promise"]: one for one in (*known.values(), *found)}
        each = [listed[m.promise] for m in MUTANTS if m.promise in listed]
        told = {"changes": len(each), "survived": len(survived), "each": each}
        given.out.write_text(json.dumps(told, indent=1) + "\n")
    print(f"{len(found)} changes, {len(found) - len(survived)} noticed")  # noqa: T201
    for one in survived:
        print(f"NOT NOTICED: {one['promise']} ({one['path']}): {one['came']}")  # noqa: T201
    return 1 if survived else 0


def try_one(mutant: Mutant) -> dict[str, object]:
    """What came of one change: `noticed` with the test that did, or not."""
    began = monotonic()
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        copy = Path(folder) / "p"
        copy_project(copy)
        apply(mutant, copy)
        code, said = run_tests(copy, mutant.tests)
    failed = [
        line.split("::", 1)[1].split(" ")[0]
        for line in said.splitlines()
        if line.startswith(("FAILED ", "ERROR ")) and "::" in line
    ]
    came = {0: "survived", 1: "noticed"}.get(code, f"pytest ended {code}")
    if code == 1 and not failed:
        came = "no test failed"
    seconds = round(monotonic() - began)
    print(f"{came:9} {seconds:4} s  {mutant.promise}  {', '.join(failed[:1])}", flush=True)  # noqa: T201
    return {"promise": mutant.promise, "path": mutant.path, "came": came, "by": failed[:1], "s": seconds}


def copy_project(to: Path) -> None:
    """What git knows, and what it would know."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def apply(mutant: Mutant, root: Path) -> None:
    """Make the change; raises when the text is not there exactly once."""
    file = root / mutant.path
    text = file.read_text()
    if text.count(mutant.before) != 1:
        raise ValueError(f"{mutant.path} has {mutant.before!r} {text.count(mutant.before)} times")
    file.write_text(text.replace(mutant.before, mutant.after))


def run_tests(root: Path, tests: tuple[str, ...]) -> tuple[int, str]:
    """Run tests of a copy up to the first failure, in a group of processes of their own."""
    there = [name for name in tests if (root / name).exists()]
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *there],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return 124, ""
    return process.returncode, said


if __name__ == "__main__":
    sys.exit(main())
