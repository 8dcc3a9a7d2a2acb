"""Names that prose uses: what is quoted in docs, docstrings and comments must exist in the code."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = ("app", "workers", "tests", "bench", "alembic")
OTHERS = (
    "app/**/*.lua",
    "app/web/**/*.html",
    "app/web/static/*",
    "deploy/**/*",
    "pyproject.toml",
    "Makefile",
    "docker-compose.yml",
    "requirements.lock",
    "README.md",
)
"""Files whose every word counts as known."""
FOREIGN = frozenset({"disable_events", "pg_test_fsync"})
"""Names of other programs that no code of ours mentions."""
NAME = re.compile(r"[A-Za-z_][\w.]*(?:\(\))?")
PLACE = re.compile(r"\b(?:app|workers|tests|bench|deploy|docs)/[\w/.-]+\.\w+")


def python_files() -> list[Path]:
    """All modules of the project."""
    return [path for folder in CODE for path in sorted(ROOT.glob(f"{folder}/**/*.py"))]


def _docstrings(tree: ast.AST) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value


@cache
def known() -> frozenset[str]:
    """Every word that code uses; prose about code does not count."""
    found: set[str] = set(FOREIGN)
    for path in python_files():
        tree = ast.parse(path.read_text())
        prose = {id(node) for node in _docstrings(tree)}
        found.add(path.stem)
        for node in ast.walk(tree):
            match node:
                case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                    found.add(name)
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AsyncFunctionDef(name=name):
                    found.add(name)
                case ast.keyword(arg=str(name)):
                    found.add(name)
                case ast.alias(name=name):
                    found.update(name.split("."))
                case ast.Constant(value=str(text)) if id(node) not in prose:
                    found.update(re.findall(r"\w+", text))
    for pattern in OTHERS:
        for path in filter(Path.is_file, ROOT.glob(pattern)):
            found.update(re.findall(r"\w+", path.read_text(errors="ignore")))
    for path in ROOT.rglob("*"):
        if path.is_dir() and not any(part.startswith(".") for part in path.relative_to(ROOT).parts):
            found.add(path.name)
    found.update(part for path in ROOT.iterdir() for part in path.name.split("."))
    return frozenset(found)


def prose() -> Iterator[tuple[str, str]]:
    """Every text for people with where it is: pages of documentation, docstrings, comments."""
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))):
        yield str(path.relative_to(ROOT)), path.read_text()
    for path in python_files():
        where, source = str(path.relative_to(ROOT)), path.read_text()
        for node in _docstrings(ast.parse(source)):
            if isinstance(node.value, str):
                yield where, node.value
        for line in source.splitlines():
            if "# " in line:
                yield where, line[line.index("# ") :]


def unknown_names() -> list[str]:
    """Names and places that prose uses and nothing has."""
    found = []
    for where, text in prose():
        for quoted in re.findall(r"`([^`\n]+)`", text):
            if not NAME.fullmatch(quoted) or not re.search(r"[_.(]", quoted):
                continue
            parts = [part for part in quoted.rstrip("()").split(".") if part]
            if not quoted.startswith("PACELINE_") and not set(parts) <= known():
                found.append(f"{where}: `{quoted}`")
        found += [f"{where}: {place}" for place in PLACE.findall(text) if not (ROOT / place).exists()]
    return found
