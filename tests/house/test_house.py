"""Rules of the house as tests, so that nobody has to remember them."""

import ast
import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from app.models import RunState
from app.runs.states import TRANSITIONS
from app.settings import variables
from tests.house import clauses, generated, names, plan, promises
from tests.mutants.listed import MUTANTS

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("app/**/*.py"), *ROOT.glob("workers/*.py"), ROOT / "beat_schedule.py"])
TRACKED = subprocess.run(
    ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
).stdout.split()


def test_dependencies_point_down():
    ended = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout


def test_schedule_imports_settings_only():
    imported = set()
    for node in ast.walk(ast.parse((ROOT / "beat_schedule.py").read_text())):
        if isinstance(node, ast.ImportFrom):
            imported.add(node.module)
        elif isinstance(node, ast.Import):
            imported |= {name.name for name in node.names}
    assert imported <= {"typing", "app.settings"}


def test_every_scheduled_task_exists(embedded, monkeypatch):
    code = (
        "from workers.celery import app; from beat_schedule import BEAT_SCHEDULE as B\n"
        "app.loader.import_default_modules()\n"
        "assert {e['task'] for e in B.values()} <= set(app.tasks), set(app.tasks)"
    )
    env = {"DATABASE_URL": embedded.database_url, "REDIS_URL": embedded.redis_url}
    ended = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr.decode()


def test_migrations_folder_does_not_shadow_the_library():
    assert not (ROOT / "alembic" / "__init__.py").exists()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_is_small_named_and_explained(path):
    text = path.read_text()
    lines = text.count("\n")
    assert lines <= 400, f"{lines} lines: would a visitor know what it is for?"
    assert path.stem not in ("utils", "helpers", "common", "misc", "base", "manager")
    assert path.name == "__init__.py" or ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", generated.FILES, ids=str)
def test_generated_file_is_current(path):
    assert (ROOT / path).read_text() == generated.FILES[path](), "run: make docs"


def test_every_requirement_of_the_plan_has_a_test():
    found = plan.coverage()
    assert set(found) == set(plan.REQUIREMENTS), "a number without a test, or one the plan has not"


def test_lock_names_no_index_and_has_hashes():
    locks = ("requirements.lock", "requirements.image.lock", "requirements.uv.lock")
    lock = "".join((ROOT / name).read_text() for name in locks)
    assert "://" not in lock
    assert "--index" not in lock
    requirements = re.findall(r"^[a-z0-9][^=\n]*==.*?(?=^[a-z0-9]|\Z)", lock, re.M | re.S)
    assert len(requirements) > 50
    assert all("--hash=sha256:" in requirement for requirement in requirements)


def test_image_has_the_same_packages_without_those_of_the_tests():
    whole, image = (
        set(re.findall(r"^[a-z0-9][^=\n]*==.*?(?=^[a-z0-9]|\Z)", (ROOT / name).read_text(), re.M | re.S))
        for name in ("requirements.lock", "requirements.image.lock")
    )
    assert image < whole
    names = {line.partition("==")[0].partition("[")[0] for line in image}
    assert {"celery", "sqlalchemy", "openai", "opentelemetry-sdk"} <= names
    assert not names & {"pytest", "playwright", "mypy", "hypothesis", "schemathesis", "gevent"}


LICENSES = (
    "MIT",
    "BSD",
    "Apache",
    "ISC",
    "PSF",
    "Python Software Foundation",
    "MPL",
    "Mozilla Public",
    "LGPL",
    "Lesser General Public",
    "Unlicense",
    "CC0",
    "0BSD",
    "Zlib",
    "PostgreSQL",
    "HPND",
    "ZPL",
    "Zope",
)
"""What may be used beside, and shipped with, a program under MIT."""


def test_every_dependency_may_be_used():
    """Of all packages of the lock that are installed here."""
    lock = (ROOT / "requirements.lock").read_text()
    unclear = {}
    for name in re.findall(r"^([a-z0-9][a-z0-9._-]*)==", lock, re.M):
        try:
            about = metadata.metadata(name)
        except metadata.PackageNotFoundError:
            continue  # of another platform
        said = [about.get("License-Expression") or "", (about.get("License") or "")[:200]]
        said += [c for c in about.get_all("Classifier") or [] if c.startswith("License ::")]
        if not any(license in text for license in LICENSES for text in said):
            unclear[name] = said
    assert not unclear


def test_every_setting_that_is_named_anywhere_exists():
    known = {name for name, _, _ in variables()}
    files = [ROOT / "README.md", ROOT / "docker-compose.yml", ROOT / "Dockerfile"]
    files += [*ROOT.glob("docs/*.md"), *(path for path in ROOT.glob("deploy/**/*") if path.is_file())]
    for path in files:
        for name in re.findall(r"PACELINE_[A-Z0-9_]*[A-Z0-9]", path.read_text()):
            assert name in known or any(k.startswith(f"{name}__") for k in known), f"{path}: {name}"


def test_states_chart_is_the_table():
    chart = (ROOT / "docs" / "architecture.md").read_text()
    drawn = set(re.findall(r"^    (\w+) --> (\w+)", chart, re.M))
    assert drawn == {(str(a), str(b)) for a, to in TRANSITIONS.items() for b in to}
    assert {a for a, _ in drawn} <= {str(state) for state in RunState}


def test_every_lua_script_says_its_keys_arguments_and_invariant():
    scripts = list(ROOT.glob("app/admission/lua/[a-z]*.lua"))
    assert scripts
    for script in scripts:
        header = script.read_text().split("\nlocal")[0]
        for word in ("KEYS[", "ARGV", "returns", "Invariant"):
            assert word in header, f"{script.name} does not say its {word}"


def test_no_secret_or_private_file_is_tracked():
    if not TRACKED:
        pytest.skip("not a git checkout")
    assert not {".env", ".paceline", ".venv"} & {name.split("/")[0] for name in TRACKED}


def test_readme_test_command_is_what_ci_runs():
    assert "make test" in (ROOT / "README.md").read_text()
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_every_row_of_the_security_table_names_a_test_or_a_file_that_exists():
    """ASVS 5.0.0 has 70 requirements at level 1 and 183 more at level 2."""
    rows = re.findall(
        r"^\| (\d+\.\d+\.\d+) \| (met|not applicable) \| (.+?) \| (?:`(.*)`)? ?\|$",
        (ROOT / "docs" / "security.md").read_text(),
        re.MULTILINE,
    )
    assert len({number for number, *_ in rows}) == len(rows) == 253
    tests = {
        name
        for file in ROOT.glob("tests/**/test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    for number, verdict, how, proof in rows:
        assert how, number
        if verdict == "met":
            assert proof in tests or (ROOT / proof).exists(), (number, proof)


def test_names_that_prose_uses_exist():
    assert names.unknown_names() == []


def test_every_mutant_changes_a_text_that_is_there_once():
    for mutant in MUTANTS:
        assert (ROOT / mutant.path).read_text().count(mutant.before) == 1, mutant.promise
        assert mutant.before != mutant.after, mutant.promise
        assert all((ROOT / name).exists() for name in mutant.tests), mutant.promise


def test_every_row_of_the_readmes_failure_table_has_tests():
    rows = re.findall(
        r"^\| ([^|]+?) \|",
        (ROOT / "README.md").read_text().split("## When something goes wrong")[1].split("## ")[0],
        re.MULTILINE,
    )[2:]
    assert rows == list(promises.FAILURES)
    tests = names.known()
    missing = [name for proofs in promises.FAILURES.values() for name in proofs if name not in tests]
    assert missing == []


def test_every_long_test_passed_when_it_last_ran():
    """`make test-long` writes docs/long-tests.json; a test that is marked `long` and not in it never ran."""
    told = json.loads((ROOT / "docs" / "long-tests.json").read_text())["tests"]
    ran = {name.split("[")[0] for name in told}
    assert {name for name in told if told[name]["outcome"] != "passed"} == set()
    assert set(long_tests()) == ran


def long_tests():
    """Tests that are marked so, alone or with their whole file."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text())
        is_all = any(
            isinstance(node, ast.Assign)
            and ast.unparse(node.targets[0]) == "pytestmark"
            and "mark.long" in ast.unparse(node.value)
            for node in tree.body
        )
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                is_marked = any("mark.long" in ast.unparse(mark) for mark in node.decorator_list)
                if is_all or is_marked:
                    yield f"{path.relative_to(ROOT)}::{node.name}"


def test_sentences_open_with_their_subject():
    """Readers who are not native stumble over "What a round did". They do not over "Result of a round"."""
    code = [ROOT / name for name in TRACKED if re.match(r"(app|workers|bench|alembic)/.*\.py$|beat_", name)]
    pages = [ROOT / name for name in TRACKED if re.match(r"(docs/.*|README|CONTRIBUTING)\.md$", name)]
    for files, read in ((code, clauses.prose_of_code), (pages, clauses.prose_of_page)):
        assert len(files) > 20
        texts = (text for path in files for text in read(path))
        found, count = clauses.inverted(texts)
        assert len(found) / count < clauses.SHARE_MAX, found
