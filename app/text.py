"""Text that shows everything it says: without invisible characters, cut between graphemes.

Unicode classes come from the `regex` package, which is newer than the interpreter's own tables: characters
that the interpreter does not know yet (a new emoji) are not taken for unassigned.
"""

from dataclasses import dataclass

import regex

ELLIPSIS = "…"

_ELEMENT = r"(?:\p{Extended_Pictographic}(?:[\uFE0E\uFE0F]|\p{Emoji_Modifier})?)"
_EMOJI = (
    "(?:"
    # England, Scotland and Wales are the only flags that are spelt with tag characters.
    r"\U0001F3F4(?:\U000E0067\U000E0062\U000E0065\U000E006E\U000E0067"
    r"|\U000E0067\U000E0062\U000E0073\U000E0063\U000E0074"
    r"|\U000E0067\U000E0062\U000E0077\U000E006C\U000E0073)\U000E007F"
    r"|\p{Regional_Indicator}{2}"
    r"|[0-9#*]\uFE0F\u20E3"
    rf"|{_ELEMENT}(?:\u200D{_ELEMENT}){{0,8}}"
    ")"
)
"""A well-formed emoji sequence (UTS 51). ZWJ, variation selectors and tags mean something only within one."""

_JOINT = (
    "(?:"
    r"(?<=\p{ccc=9})[\u200C\u200D](?=\p{L})"  # after a virama, in the scripts of India and beyond
    r"|(?<=[\p{Arabic}--\p{Cf}]\p{Mn}{0,3})\u200C(?=[\p{Arabic}--\p{Cf}])"  # within a Persian word
    r"|(?<=\p{Mongolian})[\u180B-\u180F](?=\p{Mongolian}|\P{L}|\Z)"
    ")"
)
"""Joiners that belong to the spelling of a word (RFC 5892, appendix A)."""

_HIDDEN = (
    r"[\p{Default_Ignorable_Code_Point}\p{Cc}\p{Cs}\p{Cn}\p{Co}\uFFF9-\uFFFB"
    r"\u2800\U0001D159\U00013441\U00013442]"
)
"""Characters that show nothing: formatting, control, unassigned and private characters, and the blanks that
pass for letters (Braille blank, null notehead, blanks among hieroglyphs).
"""
_SCAN = regex.compile(rf"(?P<emoji>{_EMOJI}|{_JOINT})|(?P<space>\s)|(?P<hidden>{_HIDDEN})", regex.V1)
_SHOWS = regex.compile(r"[\p{L}\p{N}\p{S}\p{P}]")
_GRAPHEME = regex.compile(r"\X")


@dataclass(frozen=True, slots=True)
class Shown:
    """A text as everybody sees it, and the characters that were dropped from it, in order."""

    text: str
    dropped: str = ""


def show(text: str) -> Shown:
    """Drop what is invisible; any white space becomes a space. Emoji sequences stay whole."""
    if text.isascii() and text.isprintable():
        return Shown(text)
    dropped: list[str] = []

    def keep(found: "regex.Match[str]") -> str:
        match found.lastgroup:
            case "emoji":
                return str(found[0])
            case "space":
                return " "
        dropped.append(found[0])
        return ""

    # Twice: where something was dropped, its neighbours may combine into another sequence.
    once = _SCAN.sub(keep, text)
    return Shown(_SCAN.sub(keep, once) if dropped else once, "".join(dropped))


def shows_something(text: str) -> bool:
    """Whether a reader sees a letter, a digit, a sign or a symbol in it."""
    return _SHOWS.search(text) is not None


def name_characters(dropped: str, most: int = 12) -> str:
    """Dropped characters for a person: `U+E0041`; tag characters also as the text that they hide."""
    names = [f"U+{ord(char):04X}" for char in dropped[:most]]
    more = f" and {len(dropped) - most} more" if len(dropped) > most else ""
    said = "".join(chr(ord(c) - 0xE0000) for c in dropped if 0xE0020 <= ord(c) <= 0xE007E)
    hidden = f", which spell {said[:120]!r}" if said else ""
    return " ".join(names) + more + hidden


def cut(text: str, longest: int) -> str:
    """At most so many code points, ending at a word where one ends in the last third, never within a
    grapheme (a flag, a family, a letter with its accents).
    """
    if len(text) <= longest:
        return text
    room, end = longest - len(ELLIPSIS), 0
    for grapheme in _GRAPHEME.finditer(text):
        if grapheme.end() > room:
            break
        end = grapheme.end()
    head = text[:end]
    at_word = head.rfind(" ")
    if at_word > longest * 2 // 3:
        head = head[:at_word]
    return head.rstrip(" ,;:-") + ELLIPSIS


_CONTROL = regex.compile(r"\p{Cc}+")


def storable(text: str, longest: int) -> str:
    """At most so many characters, without what a database refuses or a terminal obeys: lone surrogates and
    control characters, which become spaces.
    """
    shown = text[:longest].encode("utf-8", "replace").decode()
    return shown if shown.isprintable() else _CONTROL.sub(" ", shown)
