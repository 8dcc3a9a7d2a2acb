"""Reading a roster file: CSV or JSON in, entries and problems out. Touches no database.

A roster is somebody's spreadsheet, so every problem is collected with its line and reason; one bad
line never hides the next.
"""

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

COLUMNS = ("handle", "display_name", "community", "persona")
OPTIONAL = ("style_source", "x_handle")
"""Users on X, without which an agent does as well: whose style it takes on, and its own account."""
LONGEST = {"handle": 32, "display_name": 80, "community": 80, "persona": 2_000}
X_USER = re.compile(r"[a-z0-9_]{1,15}")
HANDLE = re.compile(r"[a-z0-9][a-z0-9_]*")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Entry:
    """One agent as the file describes it; `line` is where (for JSON: its place in the list)."""

    line: int
    handle: str
    display_name: str
    community: str
    persona: str
    style_source: str | None = None
    x_handle: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a line cannot be imported."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Roster:
    """Contents of a file."""

    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]
    ignored_columns: tuple[str, ...] = ()


def read_roster(
    content: bytes, *, is_json: bool, delimiter: str | None = None, encoding: str | None = None
) -> Roster:
    """Parse and check a roster. Spreadsheets write UTF-8 or UTF-16, and separate by comma, semicolon or tab,
    as their country does: what is unambiguous is taken, the rest is asked for by name.
    """
    try:
        text = _decode(content, encoding)
        rows, ignored = _json_rows(text) if is_json else _csv_rows(text, delimiter)
    except _Unreadable as error:
        return Roster((), (error.problem,))
    return _check(rows, ignored)


def _decode(content: bytes, encoding: str | None) -> str:
    if encoding is None:
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            encoding = "utf-16"
        elif content[:400:2].count(0) > len(content[:400:2]) // 2:
            encoding = "utf-16-be"
        elif content[1:400:2].count(0) > len(content[1:400:2]) // 2:
            encoding = "utf-16-le"
    try:
        return content.decode(encoding or "utf-8-sig")
    except LookupError:
        raise _Unreadable(1, f"there is no encoding {encoding!r}: utf-8, utf-16, cp1252") from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        byte = content[error.start]
        name = encoding or "UTF-8"
        raise _Unreadable(
            line,
            f'not {name} (byte 0x{byte:02x}): save the file as "CSV UTF-8", or name its encoding, for a '
            "Windows Excel --encoding cp1252",
        ) from None


class _Unreadable(Exception):
    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.problem = Problem(line, reason)


Rows = list[tuple[int, dict[str, Any] | str]]
"""Line and fields, or line and why its fields could not be told apart."""


DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


def _delimiter(text: str) -> tuple[str, str, int]:
    """Return the separator of columns, the text after an Excel `sep=` line, and how many lines that took."""
    first, _, rest = text.partition("\n")
    if said := re.fullmatch(r"sep=(.)\r?", first):
        return said[1], rest, 1
    wanted = set(COLUMNS)
    fitting = [
        one
        for one in DELIMITERS
        if wanted <= {name.strip().strip('"').lower() for name in first.strip().split(one)}
    ]
    return fitting[0] if len(fitting) == 1 else ",", text, 0


def _csv_rows(text: str, delimiter: str | None) -> tuple[Rows, tuple[str, ...]]:
    csv.field_size_limit(max(len(text), 1))  # a huge field is one line's problem, not the file's
    found, text, skipped = _delimiter(text)
    if delimiter is not None and len(delimiter) != 1:
        raise _Unreadable(1, f"a delimiter is one character, not {delimiter!r}")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter or found)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
    except csv.Error as error:
        raise _Unreadable(1, f"not CSV: {error}") from None
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        others = [
            (sign, name)
            for sign, name in DELIMITERS.items()
            if sign != (delimiter or found) and sign in "".join(header)
        ]
        if others:
            sign, name = others[0]
            raise _Unreadable(
                1, f"separated by {name}: save as CSV UTF-8 with commas, or --delimiter {sign!r}"
            )
        raise _Unreadable(
            1, f"missing column {', '.join(missing)}: the first line must be {','.join(COLUMNS)}"
        )
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise _Unreadable(1, f"column {', '.join(twice)} appears twice")
    records = [(line + skipped, fields) for line, fields in _records(reader, header)]
    return records, tuple(n for n in header if n and n not in COLUMNS + OPTIONAL)


def _records(reader: Any, header: list[str]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield line, f"not CSV: {error}"
            continue
        if row is None:
            return
        if not any(field.strip() for field in row):
            continue
        if len(row) != len(header):
            yield line, f"{len(row)} fields where the first line names {len(header)}"
        else:
            yield line, dict(zip(header, row, strict=True))


def _json_rows(text: str) -> tuple[Rows, tuple[str, ...]]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _Unreadable(getattr(error, "lineno", 1), f"not JSON: {error}") from None
    if isinstance(data, dict):
        data = data.get("agents")
    if not isinstance(data, list):
        raise _Unreadable(1, 'expected a list of agents, or {"agents": [...]}')
    rows: Rows = []
    ignored: dict[str, None] = {}
    for place, item in enumerate(data, start=1):
        if not isinstance(item, dict):
            rows.append((place, "not an object"))
            continue
        rows.append((place, item))
        ignored.update(dict.fromkeys(name for name in item if name not in COLUMNS + OPTIONAL))
    return rows, tuple(ignored)


def _check(rows: Rows, ignored: tuple[str, ...]) -> Roster:
    entries: list[Entry] = []
    problems: list[Problem] = []
    first_line: dict[str, int] = {}
    for line, row in rows:
        if isinstance(row, str):
            problems.append(Problem(line, row))
            continue
        values = {name: row.get(name) for name in COLUMNS}
        reasons = [reason for name in COLUMNS if (reason := _field_problem(name, values[name]))]
        users = {name: _x_user(row.get(name)) for name in OPTIONAL}
        reasons += [
            f"{name} {row[name]!r} is no user name on X"
            for name, user in users.items()
            if user is not None and not X_USER.fullmatch(user)
        ]
        if not reasons:
            fields = {name: str(values[name]).strip() for name in COLUMNS}
            handle = fields["handle"] = fields["handle"].removeprefix("@").lower()
            if handle in first_line:
                reasons = [f"handle {handle} is already on line {first_line[handle]}"]
            else:
                first_line[handle] = line
                entries.append(
                    Entry(line=line, **fields, style_source=users["style_source"], x_handle=users["x_handle"])
                )
        problems += [Problem(line, reason) for reason in reasons]
    if not rows:
        problems.append(Problem(1, "no agents in the file"))
    return Roster(tuple(entries), tuple(problems), ignored)


def _x_user(value: object) -> str | None:
    """A user name as it is kept: lower case, without @; None when there is none."""
    name = str(value or "").strip().removeprefix("@").lower()
    return name or None


def _field_problem(name: str, value: object) -> str | None:
    if not isinstance(value, str):
        return f"{name} is missing" if value is None else f"{name} is not a text"
    text = value.strip()
    if not text:
        return f"{name} is empty"
    longest = LONGEST[name]
    if len(text) > longest:
        return f"{name} has {len(text):,} characters, at most {longest:,} are allowed"
    if CONTROL.search(text):
        return f"{name} holds a control character"
    if name == "handle" and not HANDLE.fullmatch(text.removeprefix("@").lower()):
        return f"handle {text!r} may hold only letters a-z, digits and _"
    return None
