"""What may be published. Pure: a text and the rules in, a decision with its reason out."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence

from app.models import Links

LINK = re.compile(
    r"(?:https?://|www\.)\S+"
    r"|\b(?:[a-z0-9-]+\.)+(?:com|net|org|io|dev|app|xyz|info|biz|co|me|gg|ly|to|ru|cn|link|site|shop)\b\S*",
    re.I,
)


def without_links(body: str) -> str:
    """The text with its links taken out."""
    return re.sub(r" +", " ", LINK.sub("", body)).strip(" -:,")


def objection(body: str, banned_words: Sequence[str], links: Links) -> str | None:
    """Why a text must not be published, or None."""
    if links == Links.REFUSE and LINK.search(body):
        return "holds a link"
    words = folded(body)
    for banned in banned_words:
        wanted = folded(banned)
        if wanted and f" {wanted} " in f" {words} ":
            return f"holds the banned word {banned!r}"
    return None


_UNDRESSED = {
    code: chr(code).lower() if chr(code).isalnum() else None if code < 32 or code == 127 else " "
    for code in range(128)
}


def folded(text: str) -> str:
    """A text without its dress: case, accents, look-alike forms, punctuation, invisible characters."""
    if text.isascii():  # the same in a tenth of the time
        return " ".join(text.translate(_UNDRESSED).split())
    plain = unicodedata.normalize("NFKD", text).casefold()
    letters = (char for char in plain if not unicodedata.combining(char))
    shown = (
        char if char.isalnum() else " "
        for char in letters
        if unicodedata.category(char) not in ("Cf", "Cc")
    )  # fmt: skip
    return " ".join("".join(shown).split())


def fingerprint(body: str) -> str:
    """The same for texts that differ in dress only; texts without a letter are taken as they are."""
    return hashlib.sha256((folded(body) or body).encode()).hexdigest()[:32]
