"""Usage as CSV, for spreadsheets: one shape, whoever asks for it."""

import csv
from collections.abc import Iterable
from dataclasses import asdict, fields
from typing import TextIO

from app.usage.reports import Group, Usage


def write_csv(file: TextIO, by: Group, rows: Iterable[tuple[str, Usage]]) -> None:
    """A line for each, after one with the names of the columns."""
    writer = csv.writer(file)
    writer.writerow([by, *(field.name for field in fields(Usage))])
    writer.writerows([harmless(name), *asdict(usage).values()] for name, usage in rows)


FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""With what a formula begins; spreadsheets take the full-width signs for the others."""


def harmless(cell: object) -> object:
    """A cell that no spreadsheet takes for a formula."""
    is_formula = isinstance(cell, str) and cell.startswith(FORMULAS)
    return f"'{cell}" if is_formula else cell
