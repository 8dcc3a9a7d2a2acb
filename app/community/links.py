"""Finding links however they are written, and taking them out. Pure.

A name is a link when it ends in a public suffix, also where letters of other scripts look like it. Ordinary
writing holds many such names: `came.It`, `README.md`, `m.in.`. So a bare name, without a scheme, a path or a
port, needs more evidence (`_is_evident`).
"""

import unicodedata
from collections.abc import Iterator
from functools import cache
from ipaddress import ip_address

import regex
from publicsuffixlist import PublicSuffixList

from app.community.lookalikes import skeleton

Span = tuple[int, int]
LABELS_MAX = 8
ONE_DOT_LEADER = "\u2024"

_TAIL = r"[^\s<>\"「」『』】、。\uff0c\uff01\uff1f\uff1b“”|]*"
_SCHEME = regex.compile(
    rf"(?<![a-z0-9])(?:[a-z][a-z0-9+.-]{{1,15}}:/{{2}}{_TAIL}|www\.{_TAIL}|(?:magnet|mailto):[^\s]+)", regex.I
)
_DOT = r"(?:[.。]|\s?[\[({]\s?(?:\.|dot)\s?[\])}]\s?|\[\.|\.\])"
_LABEL = r"[\p{L}\p{M}\p{N}_-]"
_NAME = regex.compile(rf"{_LABEL}+(?:{_DOT}+{_LABEL}+)+", regex.I)
_DOTS = regex.compile(_DOT, regex.I)
_MORE = regex.compile(rf"(?::\d{{1,5}})?(?:[/?#]{_TAIL})?")
_IPV6 = regex.compile(r"\[[0-9a-f:.]{3,45}\](?::\d{1,5})?(?:/\S*)?", regex.I)
_SPELT = regex.compile(
    r"(?<![\p{L}\p{N}])(?!(?:the|an?|of|and|or|this|that|our|your|its|new)\s)[a-z0-9-]{2,63}"
    r"(?:\s+dot\s+(?:com|net|org|info|io|xyz|ru)|(?:\s+\.|\.\s)(?-i:com))(?![\p{L}\p{N}.])",
    regex.I,
)
_MAIL = regex.compile(r"[\w.+-]{1,64}@\Z")
_NO_SPACES = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
_OWN = regex.compile(r"[\x21-\x7e]+")
_NUMBERED = regex.compile(r"(?:version|release|firmware|section|chapter|build|v|§)\s*\Z", regex.I)
_AFTER = " ).,?!:;'\"]}»”\u2019*_-"
"""Ends that belong to the sentence, not to the link."""

_COMMON = frozenset(
    (
        "com",
        "net",
        "org",
        "info",
        "biz",
        "io",
        "ai",
        "app",
        "dev",
        "xyz",
        "me",
        "co",
        "ru",
        "top",
        "site",
        "online",
        "shop",
        "club",
        "link",
        "click",
        "live",
        "store",
        "gg",
        "tv",
        "to",
        "ly",
        "zip",
        "mov",
    )
)
"""Endings that ordinary words do not have."""
_FILES = frozenset(("md", "py", "sh", "rs", "so"))
"""Endings of files that are endings of names, too."""
_CODE = frozenset(
    (
        "self",
        "this",
        "foo",
        "event",
        "app",
        "console",
        "os",
        "sys",
        "math",
        "window",
        "document",
        "request",
        "response",
        "asp",
        "vb",
        "ado",
        "socket",
        "node",
        "gent",
        "et",
        "dr",
        "ph",
        "prof",
    )
)
"""Words before a dot in code and in abbreviations."""


def find_links(body: str) -> list[Span]:
    """Where links are, as (start, end), in order and apart."""
    if "." not in body and ":" not in body and body.isascii() and "dot" not in body.lower():
        return []
    plain, places = _plain(body)
    found: list[Span] = []
    for start, end in sorted(_spans(plain)):
        mail = _MAIL.search(plain, max(0, start - 65), start)
        first = mail.start() if mail else start
        if not found or first >= found[-1][1]:
            found.append((first, end))
    return [(places[start], places[end - 1] + 1) for start, end in _with_marks(found, places, body)]


def without_links(body: str) -> str:
    """The text with its links taken out, and what they leave behind. It holds no link."""
    found = body
    for _ in range(5):
        links = find_links(found)
        if not links:
            break
        for start, end in reversed(links):
            found = f"{found[:start]} {found[end:]}"
    if found == body:
        return body
    found = regex.sub(r"\[([^\]\[]*)\]\(\s*\)", r"\1", found)
    found = regex.sub(r"\(\s*\)|\[\s*\]|<\s*>", " ", found)
    found = regex.sub(r"\s+([.,;:!?)\]])", r"\1", regex.sub(r"([(\[])\s+", r"\1", found))
    return regex.sub(r" +", " ", found).strip(" -:,")


def _plain(body: str) -> tuple[str, list[int]]:
    """The text as browsers read names in it, and where each of its characters was."""
    if body.isascii():
        return body, list(range(len(body)))
    plain, places, is_latin = [], [], False
    for at, char in enumerate(body):
        if is_latin and unicodedata.category(char) == "Mn":  # lines and accents over Latin letters
            continue
        for one in "." if char == ONE_DOT_LEADER else unicodedata.normalize("NFKC", char):
            plain.append(one)
            places.append(at)
        is_latin = char.isascii() and not char.isspace()
    return "".join(plain), places


def _with_marks(found: list[Span], places: list[int], body: str) -> Iterator[Span]:
    """The same spans; a mark that was left out of `plain` goes with the letter before it."""
    for start, end in found:
        while places[end - 1] + 1 < len(body) and unicodedata.combining(body[places[end - 1] + 1]):
            places[end - 1] += 1
        yield start, end


def _spans(plain: str) -> Iterator[Span]:
    for pattern in (_SCHEME, _IPV6, _SPELT):
        for found in pattern.finditer(plain):
            if pattern is not _IPV6 or _is_ip(found[0][1 : found[0].index("]")]):
                end = found.end() if pattern is _IPV6 else _end(plain, *found.span())
                yield found.start(), end
    for found in _NAME.finditer(plain):
        yield from _in_name(plain, found.start(), found.end())


def _end(plain: str, start: int, end: int) -> int:
    """Without the sentence's own signs, and without what follows in a script that has no spaces."""
    own = _OWN.match(plain, start)
    if own and own.end() < end and _NO_SPACES.match(plain, own.end()):
        end = own.end()
    while end > start and plain[end - 1] in _AFTER:
        end -= 1
    return end


def _in_name(plain: str, start: int, end: int) -> Iterator[Span]:
    """The longest links among names that dots join: `evil.com.Then` holds one."""
    labels = _labels(plain, start, end)
    first = 0
    while first < len(labels) - 1:
        for last in range(min(len(labels) - 1, first + LABELS_MAX), first, -1):
            if span := _as_link(plain, labels[first : last + 1]):
                yield span
                first = last
                break
        first += 1


def _labels(plain: str, start: int, end: int) -> list[Span]:
    """The labels of a name, without signs at their edges; an empty one divides."""
    found, at = [], start
    for dot in (*_DOTS.finditer(plain, start, end), None):
        first, last = at, dot.start() if dot else end
        while first < last and plain[first] in "-_":
            first += 1
        while first < last and plain[last - 1] in "-_":
            last -= 1
        found.append((first, last))
        at = dot.end() if dot else end
    return found


def _as_link(plain: str, labels: list[Span]) -> Span | None:
    """The link that these labels are, or None. Where letters of another script join without a space, the
    ASCII part is tried, too; and the part before a hyphen, as in `evil.com-the best`.
    """
    if any(first == last for first, last in labels):
        return None
    begins, (last_at, last_end) = labels[0][0], labels[-1]
    starts, ends = [begins], [last_end]
    ascii_end = next((n for n in range(last_at, last_end) if not plain[n].isascii()), last_end)
    ascii_begin = next(
        (n + 1 for n in range(labels[0][1] - 1, begins - 1, -1) if not plain[n].isascii()), begins
    )
    if last_at < ascii_end < last_end:
        ends.insert(0 if _NO_SPACES.match(plain, ascii_end) else 1, ascii_end)
    if begins < ascii_begin < labels[0][1]:
        starts.insert(0 if _NO_SPACES.match(plain, ascii_begin - 1) else 1, ascii_begin)
    for sign in "-_":
        cut = plain.find(sign, last_at, ascii_end)
        if cut > last_at:
            ends.append(cut)
    digits = last_end
    while digits > last_at and plain[digits - 1].isdigit():
        digits -= 1
    if last_at < digits < last_end:
        ends.append(digits)
    for start in starts:
        for end in ends:
            name = [plain[a:b] for a, b in labels]
            name[0], name[-1] = plain[start : labels[0][1]], plain[last_at:end]
            more = _MORE.match(plain, end) if end == last_end else None
            stop = _end(plain, start, more.end()) if more and more[0] else end
            if _is_address(name, plain, start, end, has_more=stop > end):
                return start, max(stop, end)
    return None


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList(accept_unknown=False, only_icann=True)


def _is_address(labels: list[str], plain: str, start: int, end: int, *, has_more: bool) -> bool:
    host = ".".join(labels)
    if _is_ip(host):
        return has_more or not _NUMBERED.search(plain, max(0, start - 12), start)
    for name in dict.fromkeys((host.lower(), skeleton(host).lower())):
        if _suffixes().publicsuffix(name) is None:
            continue
        if has_more:
            return True
        own = _suffixes().privatesuffix(name)
        if own and _is_evident(labels, own, plain[end : end + 1]):
            return True
    return False


def _is_evident(labels: list[str], own: str, follows: str) -> bool:
    """Whether a bare name is meant as a link, not as words with a dot between them. `own` is the part of it
    that somebody has registered.
    """
    ending, registered = own.rpartition(".")[2], own.partition(".")[0]
    first, last = labels[0], labels[-1]
    if follows == "(" or (first.lower() in _CODE and len(labels) == 2):
        return False
    if len(labels) == 2 and ending in _FILES:
        return False
    if first.isdigit() and ending in ("am", "pm"):
        return False
    is_common = ending in _COMMON
    if last != last.lower() and not all(label == label.upper() for label in labels):
        return ending in ("com", "net", "org") and len(registered) > 1
    has_letters = any(char.isalpha() for char in registered)
    if is_common:
        return has_letters or len(registered) >= 3
    return has_letters and sum(char.isalnum() for char in registered) >= 3


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
