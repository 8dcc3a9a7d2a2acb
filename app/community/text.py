"""Making a model's answer fit to publish."""

import re
import unicodedata

LONGEST = 280
ELLIPSIS = "…"


def tidy(answer: str) -> str:
    """One clean line of at most 280 characters, cut at a word; empty when nothing is left.

    Control and invisible formatting characters go, white space folds, quotation marks around the
    whole go, because models add them.
    """
    visible = answer if answer.isascii() and answer.isprintable() else _visible(answer)
    line = re.sub(r" +", " ", visible).strip()
    if len(line) >= 2 and line[0] in "\"'“«" and line[-1] in "\"'”»":
        line = line[1:-1].strip()
    return cut(line)


def _visible(answer: str) -> str:
    return "".join(
        " " if char.isspace() else char
        for char in unicodedata.normalize("NFC", answer)
        if char.isspace()
        or (
            unicodedata.category(char) not in ("Cc", "Cs", "Cn", "Co")
            and char not in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff\u200b"
        )
    )


def cut(line: str) -> str:
    """At most 280 characters, ending at a word where one ends in the last third."""
    if len(line) <= LONGEST:
        return line
    head = line[: LONGEST - len(ELLIPSIS)]
    at_word = head.rfind(" ")
    if at_word > LONGEST * 2 // 3:
        head = head[:at_word]
    return head.rstrip(" ,;:-") + ELLIPSIS
