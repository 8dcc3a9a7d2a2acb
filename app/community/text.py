"""Making a model's answer fit to publish."""

import re
import unicodedata
from dataclasses import dataclass

import regex

from app.models.content import BODY_MAX
from app.text import ELLIPSIS, cut, show, shows_something

LONGEST = BODY_MAX
READ = 8_000
"""So much of an answer is looked at: more than any that fits, and little enough for every rule here."""
PAIRS = {
    '"': '"',
    "'": "'",
    "\u201c": "\u201d",
    "\u201d": "\u201d",
    "\u201e": "\u201c\u201d",
    "\u2018": "\u2019",
    "\u201a": "\u2018\u2019",
    "«": "»",
    "»": "«",
    "‹": "›",
    "›": "‹",
    "「": "」",
    "『": "』",
}
"""Quotation marks, and what closes them in the languages that open with them."""
FENCE = re.compile(r"(?:`{3,}|~{3,})[ \t]?[\w+#.-]*")
STACKED = regex.compile(r"(\p{M}{4})\p{M}+")
ELIDED = re.compile(r"['\u2018](?:twas|tis|til|em|cause|bout|round|n)\b", re.I)
"""Words that begin with an apostrophe."""


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
    shown = show(unicodedata.normalize("NFC", without_fences(answer[:READ])))
    line = without_quotes(re.sub(r" +", " ", STACKED.sub(r"\1", shown.text)).strip())
    text = cut(line, LONGEST)
    return Tidied(text if shows_something(text.rstrip(ELLIPSIS)) else "", shown.dropped)


def without_fences(answer: str) -> str:
    """The text without the marks of code fences, each on a line of its own or around the whole."""
    text = answer.strip()
    kept = [line for line in text.split("\n") if not FENCE.fullmatch(line.strip())]
    text = "\n".join(kept).strip()
    for mark in ("```", "~~~"):
        if text.startswith(mark) and text.endswith(mark) and len(text) > 2 * len(mark):
            text = text[len(mark) : -len(mark)].strip()
    return text


def without_quotes(line: str) -> str:
    """The text within one pair of quotation marks that encloses it; `"A" and "B"` stays as it is."""
    if len(line) < 2 or line[-1] not in PAIRS.get(line[0], "") or ELIDED.match(line):
        return line
    opening, closing, inner = line[0], line[-1], line[1:-1]
    marks = inner
    if {opening, closing} & set("'\u2018\u2019"):  # an apostrophe within a word is no quotation mark
        marks = re.sub(r"(?<=\w)['\u2019](?=\w)", "", inner)
    if opening in marks or closing in marks:
        return line
    return inner.strip()
