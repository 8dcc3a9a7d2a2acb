"""Sentences of code and docs, and those that do not open with their subject."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

INVERTED = re.compile(r"(Which|Whom|What|Who|Whose|Whoever|Whatever|Of|Not|That)\b")
SHARE_MAX = 0.02


def clauses(text: str) -> Iterator[str]:
    """Clauses of three words and more; a colon or a semicolon ends one, too."""
    for part in re.split(r"(?<=[.:;!?])\s+|\n\s*\n|\n\s*[*-] ", text):
        words = part.strip(" *`\"'#>-(").split()
        if len(words) >= 3:
            yield " ".join(words)


def prose_of_code(path: Path) -> Iterator[str]:
    """Docstrings, also those of attributes, and comments."""
    source = path.read_text()
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                yield str(statement.value.value)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not re.match(r"#(!|\s*(noqa|type:))", token.string):
            yield token.string.lstrip("# ")


def prose_of_page(path: Path) -> Iterator[str]:
    """A page of the docs, without code; each cell of a table is a text."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    yield text.replace("|", " \n\n ")


def inverted(texts: Iterator[str]) -> tuple[list[str], int]:
    """Return the clauses that open with What, Who, Of, Not and the like, and the number of all."""
    found = [clause for text in texts for clause in clauses(text)]
    return [clause for clause in found if INVERTED.match(clause)], len(found)
