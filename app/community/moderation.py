"""What may be published. Pure: a text and the rules in, a decision with its reason out."""

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from ipaddress import ip_address

from confusable_homoglyphs import confusables
from publicsuffixlist import PublicSuffixList

from app.models import Links
from app.text import show

_SCHEME = re.compile(r"(?<![\w])(?:[a-z][a-z0-9+.-]{1,15}://|www\.)\S+", re.I)
_DOT = r"(?:[.。．｡]|\s?[\[({](?:\.|dot)[\])}]\s?)"
_HOST = re.compile(
    rf"(?<![\w.])(?:[^\W_][\w-]{{0,62}}{_DOT})+(?:[^\W\d_][\w-]{{1,62}})(?::\d{{1,5}})?(?:[/?#]\S*)?"
    rf"|(?<![\w.])\d{{1,3}}(?:{_DOT}\d{{1,3}}){{3}}(?::\d{{1,5}})?(?:[/?#]\S*)?(?![\w])"
    r"|\[[0-9a-f:.]{3,45}\](?::\d{1,5})?(?:/\S*)?",
    re.I,
)
_MAIL = re.compile(r"[\w.+-]{1,64}@\Z")


def without_links(body: str) -> str:
    """The text with its links taken out."""
    found = body
    for start, end in reversed(list(_links(body))):
        found = found[:start] + found[end:]
    return re.sub(r" +", " ", found).strip(" -:,") if found != body else body


def _links(body: str) -> Iterator[tuple[int, int]]:
    """Where links are, as (start, end), in order. A name is a link when its ending is in the public suffix
    list, also where letters of other scripts look like it.
    """
    if "." not in body and ":" not in body and body.isascii() and "dot" not in body.lower():
        return
    end = 0
    spans = [found.span() for found in _SCHEME.finditer(body)]
    spans += [found.span() for found in _HOST.finditer(body) if _is_address(found[0])]
    for start, stop in sorted(spans):
        mail = _MAIL.search(body, max(0, start - 65), start)
        first = mail.start() if mail else start
        if first >= end:
            yield first, stop
            end = stop


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList(accept_unknown=False)


def _is_address(found: str) -> bool:
    host = re.split(r"[/?#]", found)[0]
    if host.startswith("["):
        return _is_ip(host[1 : host.index("]")])
    host = re.sub(_DOT, ".", host.rpartition(":")[0] if ":" in host else host, flags=re.I)
    if _is_ip(host):
        return True
    names = {host.lower(), skeleton(host).lower()}
    return any(_suffixes().privatesuffix(name) is not None for name in names)


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=4_096)
def _latin(char: str) -> str:
    """The Latin letters or digits that a character is taken for by its looks; itself when there are none."""
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
    return "".join(char if char.isascii() else _latin(char) for char in plain)


def objection(body: str, banned_words: Sequence[str], links: Links) -> str | None:
    """Why a text must not be published, or None."""
    if links == Links.REFUSE and next(_links(body), None):
        return "holds a link"
    if banned_words:
        readings = _readings(body)
        for banned in banned_words:
            wanted = folded(banned)
            if wanted and any(_holds(reading, wanted) for reading in readings):
                return f"holds the banned word {banned!r}"
    return None


_SIGNS = str.maketrans(
    {"0": "o", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a", "$": "s", "€": "e"}
)
_SIGN = re.compile(r"[034571@$€!|](?=[\w@$€])|(?<=[\w@$€])[034571$€](?=\W|$)")
_WORD_WITH_LETTERS = re.compile(r"\S*[^\W\d_]\S*")


def _readings(text: str) -> list[str]:
    """A text in each way a reader may take it: as written, with look-alikes as Latin letters, and with digits
    and signs within words as the letters that they stand for. A number stays a number.
    """
    forms = dict.fromkeys((text, skeleton(text)))
    for form in tuple(forms):
        for one in ("i", "l"):
            table = _SIGNS | dict.fromkeys(map(ord, "1!|"), one)
            forms[_spelt(form, table)] = None
    return list(forms)


def _spelt(text: str, table: dict[int, str]) -> str:
    def letters(word: "re.Match[str]") -> str:
        return _SIGN.sub(lambda sign: sign[0].translate(table), word[0])

    return _WORD_WITH_LETTERS.sub(letters, text)


def _holds(text: str, wanted: str) -> bool:
    """Whether a text holds a word or a phrase, also as `bad-word` or `b a d w o r d`."""
    if f" {wanted} " in f" {folded(text)} ":
        return True
    compact = wanted.replace(" ", "")
    if any(folded(word).replace(" ", "") == compact for word in text.split()):
        return True
    if len(compact) < 3:
        return False
    singles = "".join(
        word if len(word) == 1 else " " for word in folded(text).split()
    )  # letters that stand alone, in runs
    return compact in singles


_UNDRESSED = {
    code: chr(code).lower() if chr(code).isalnum() else None if code < 32 or code == 127 else " "
    for code in range(128)
}


def folded(text: str) -> str:
    """A text without its form: case, accents, compatibility forms, punctuation, invisible characters."""
    if text.isascii():  # the same in a tenth of the time
        return " ".join(text.translate(_UNDRESSED).split())
    plain = unicodedata.normalize("NFKD", show(text).text).casefold()
    letters = (char for char in plain if not unicodedata.combining(char))
    shown = (
        char if char.isalnum() else " "
        for char in letters
        if unicodedata.category(char) not in ("Cf", "Cc")
    )  # fmt: skip
    return " ".join("".join(shown).split())


def fingerprint(body: str) -> str:
    """The same for texts that differ in form only; texts without a letter are taken as they are."""
    return hashlib.sha256((folded(body) or body).encode()).hexdigest()[:32]
