"""Rules for texts that may be published. Pure: a text and the rules in, a decision with its reason out."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import regex

from app.community.links import find_links
from app.community.lookalikes import skeleton
from app.models import Links
from app.text import show


def objection(body: str, banned_words: Sequence[str], links: Links) -> str | None:
    """Why a text must not be published, or None."""
    if links == Links.REFUSE and find_links(body):
        return "holds a link"
    if banned_words:
        readings = _readings(body)
        for banned in banned_words:
            if _is_held(banned, body, readings):
                return f"holds the banned word {banned!r}"
    return None


def _is_held(banned: str, body: str, readings: Sequence[str]) -> bool:
    shown = unicodedata.normalize("NFC", show(banned).text).strip()
    if _SIGNED.search(shown):  # `C++`, an emoji: its signs are what it is
        return _literally(shown).search(unicodedata.normalize("NFC", body)) is not None
    has_marks = _has_marks(shown)
    wanted = folded(shown, marks=has_marks)
    return bool(wanted) and any(_holds(reading, wanted, marks=has_marks) for reading in readings)


@lru_cache(maxsize=1_024)
def _literally(banned: str) -> "regex.Pattern[str]":
    before = r"(?<![\p{L}\p{N}])" if banned[0].isalnum() else ""
    after = r"(?![\p{L}\p{N}+#])" if not _EMOJI.search(banned[-1]) else ""
    after = "" if not any(char.isalnum() for char in banned) else after
    return regex.compile(before + regex.escape(banned) + after, regex.I)


def _has_marks(text: str) -> bool:
    """Whether letters of it carry accents: then they tell words apart, as in `péché` and `pêche`."""
    return any(unicodedata.combining(char) for char in unicodedata.normalize("NFD", text))


_SIGNED = regex.compile(r"[\p{S}#*%&]")
_EMOJI = regex.compile(r"\p{Extended_Pictographic}")
_SIGNS = str.maketrans(
    {"0": "o", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "@": "a", "$": "s", "€": "e"}
)
_SIGN = re.compile(r"[0345718@$€!|](?=[\w@$€])|(?<=[\w@$€])[034571$€](?=\W|$)")
_PIECE = re.compile(r"[^\s-]+")
_JOINED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
"""Scripts that write words without a space between them, or join particles to them."""
_APOSTROPHE = re.compile("(?<=[^\\W\\d_])['\u2019](?=[^\\W\\d_])")


def _readings(text: str) -> list[str]:
    """A text in each way a reader may take it: as written, with look-alikes as Latin letters, and with digits
    and signs within words as the letters that they stand for. A number stays a number.
    """
    text = _APOSTROPHE.sub(" \u200b ", text)  # `He'll` is two words, and no letters that stand alone
    forms = dict.fromkeys((text, skeleton(text)))
    for form in tuple(forms):
        for one in ("i", "l"):
            table = _SIGNS | dict.fromkeys(map(ord, "1!|"), one)
            forms[_spelt(form, table)] = None
    return list(forms)


def _spelt(text: str, table: dict[int, str]) -> str:
    """Signs as letters in what is a word: it has two letters, or one and no digits."""

    def letters(piece: "re.Match[str]") -> str:
        found = piece[0]
        count = sum(char.isalpha() for char in found)
        if count < 2 and (not count or any(char.isdigit() for char in found)):
            return found
        return _SIGN.sub(lambda sign: sign[0].translate(table), found)

    return _PIECE.sub(letters, text)


def _holds(text: str, wanted: str, *, marks: bool) -> bool:
    """Whether a text holds a word or a phrase, also as `bad-word` or `b a d w o r d`."""
    plain = folded(text, marks=marks)
    if f" {wanted} " in f" {plain} ":
        return True
    compact = wanted.replace(" ", "")
    if _JOINED.search(compact):
        return compact in plain.replace(" ", "")
    if any(folded(word, marks=marks).replace(" ", "") == compact for word in text.split()):
        return True
    if len(compact) < 3:
        return False
    singles = "".join(
        word if len(word) == 1 else " " for word in plain.split()
    )  # letters that stand alone, in runs
    return compact in singles


_UNDRESSED = {
    code: chr(code).lower() if chr(code).isalnum() else None if code < 32 or code == 127 else " "
    for code in range(128)
}
_DRESSED = regex.compile(r"[\p{Latin}\p{Greek}\p{Cyrillic}]")
_KASHIDA = "\u0640"
"""Stretches an Arabic word and says nothing."""


def folded(text: str, *, marks: bool = False, signs: bool = False) -> str:
    """A text without its form: case, accents, compatibility forms, punctuation, invisible characters. With
    `marks` accents stay; with `signs` symbols, and what makes a number another one.

    Accents go from Latin, Greek and Cyrillic letters only, and not from n (Spanish counts ñ as a letter of
    its own). The marks of other scripts are vowels.
    """
    if text.isascii() and not signs:  # the same in a tenth of the time
        return " ".join(text.translate(_UNDRESSED).split())
    plain = unicodedata.normalize("NFKD", show(text).text).casefold()
    found: list[str] = []
    base = ""
    for at, char in enumerate(plain):
        category = unicodedata.category(char)
        if category[0] == "M":
            is_accent = _DRESSED.match(base) and not (base == "n" and char == "\u0303")
            if marks or not is_accent:
                found.append(char)
            continue
        base = char
        if category in ("Cf", "Cc") or char == _KASHIDA:
            continue
        is_kept = char.isalnum() or (signs and _tells_apart(plain, at, category))
        found.append(char if is_kept else " ")
    return " ".join(unicodedata.normalize("NFC", "".join(found)).split())


def _tells_apart(text: str, at: int, category: str) -> bool:
    """Whether a sign makes another text: `C++`, `-5`, `2.5`."""
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    if text[at] in "-\u2212":
        return after.isdigit() and not before.isalnum()
    if text[at] in ".,":
        return before.isdigit() and after.isdigit()
    return category[0] == "S" or text[at] in "#%"


def fingerprint(body: str) -> str:
    """The same for texts that differ in form only; texts without a letter are taken as they are."""
    return hashlib.sha256((folded(body, signs=True) or body).encode()).hexdigest()[:32]
