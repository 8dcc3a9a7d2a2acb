"""Letters that look like others. Pure."""

import unicodedata
from functools import lru_cache

_NAMED = {
    "ø": "o",
    "ł": "l",
    "đ": "d",
    "ħ": "h",
    "ŧ": "t",
    "\u0131": "i",
    "ƀ": "b",
    "ɓ": "b",
    "ɗ": "d",
    "ŀ": "l",
    "\u03c9": "w",
}
"""Latin letters with a stroke, which no normal form takes off, and a Greek one that the table leaves out."""


@lru_cache(maxsize=4_096)
def latin(char: str) -> str:
    """The Latin letters or digits that a character is taken for by its looks; itself when there are none."""
    if char.lower() in _NAMED:
        return _NAMED[char.lower()]
    name = unicodedata.name(char, "")
    for kind in (
        "LATIN LETTER SMALL CAPITAL ",
        "NEGATIVE SQUARED LATIN CAPITAL LETTER ",
        "NEGATIVE CIRCLED LATIN CAPITAL LETTER ",
        "REGIONAL INDICATOR SYMBOL LETTER ",
    ):
        if name.startswith(kind) and len(name) == len(kind) + 1:
            return name[-1].lower()
    # Its table takes a tenth of a second to load, and most texts hold no such letter.
    from confusable_homoglyphs import confusables  # noqa: PLC0415

    looks = confusables.is_confusable(char, preferred_aliases=["LATIN"], greedy=True)
    for found in looks or ():
        for other in found["homoglyphs"]:
            if other["c"].isascii() and other["c"].isalnum():
                return str(other["c"])
    return char


def skeleton(text: str) -> str:
    """A text in the Latin letters that it looks like."""
    if text.isascii():
        return text
    plain = unicodedata.normalize("NFKC", text)
    return "".join(char if char.isascii() else latin(char) for char in plain)
