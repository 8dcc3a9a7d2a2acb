"""Making a model's answer fit to publish."""

import re
import unicodedata
from dataclasses import dataclass

from app.models.content import BODY_MAX
from app.text import cut, show, shows_something

LONGEST = BODY_MAX
PAIRS = {'"': '"', "“": "”", "«": "»", "„": "“", "‘": "’", "'": "'", "「": "」", "『": "』"}
FENCE = re.compile(r"\s*(`{3,}|~{3,})[ \t]*[\w+-]*[ \t]*\n(.*?)\n?\s*\1\s*", re.S)
FENCE_LINE = re.compile(r"^[ \t]*(?:`{3,}|~{3,})[ \t]*[\w+-]*[ \t]*$", re.M)


@dataclass(frozen=True, slots=True)
class Tidied:
    """A text to publish, empty when nothing is left; `dropped` are the invisible characters it held."""

    text: str
    dropped: str = ""


def tidy(answer: str) -> Tidied:
    """One clean line of at most 280 characters, cut at a word.

    Code fences go, invisible characters go, white space folds. Quotation marks go when one pair encloses the
    whole, because models add them.
    """
    shown = show(unicodedata.normalize("NFC", without_fences(answer)))
    line = without_quotes(re.sub(r" +", " ", shown.text).strip())
    return Tidied(cut(line, LONGEST) if shows_something(line) else "", shown.dropped)


def without_fences(answer: str) -> str:
    """The text within a code fence that encloses it, or without the lines of fences."""
    if whole := FENCE.fullmatch(answer):
        return whole[2]
    return FENCE_LINE.sub("", answer)


def without_quotes(line: str) -> str:
    """The text within one pair of quotation marks that encloses it; `"A" and "B"` stays as it is."""
    if len(line) < 2 or PAIRS.get(line[0]) != line[-1]:
        return line
    opening, closing, inner = line[0], line[-1], line[1:-1]
    marks = inner
    if opening in "'‘":  # an apostrophe within a word is no quotation mark
        marks = re.sub(r"(?<=\w)['’](?=\w)", "", inner)
    if opening in marks or closing in marks:
        return line
    return inner.strip()
