"""Links and banned words are found however they are written; ordinary sentences are left alone."""

import pytest

from app.community.moderation import objection, without_links
from app.models import Links

LINKED = [
    "https://evil.example/x?y=1", "http://1.2.3.4", "ftp://files.example/a", "www.evil.com", "evil.ai/x",
    "evil.zip", "203.0.113.7/x", "203.0.113.7:8080", "[2001:db8::1]/x", "evil。com",
    "evil．com", "evil｡com",
    "EVIL.COM", "sub.evil.co.uk",
    "еvil.com", "evil.соm", "eᴠil.com", "ｅｖｉｌ.ｃｏｍ", "пример.рф", "münchen.de",
    "xn--mnchen-3ya.de",
    "evil[.]com", "evil(.)com", "evil[dot]com", "evil (dot) com", "hxxps://evil.com",
    "t.me/evil", "me@evil.com", "evil.com:8080/x", "evil.com?x=1", "tg://join", "bit.ly/x",
]  # fmt: skip
PLAIN = [
    "Bread rises at 24.5 degrees, e.g. at home.", "U.S. and U.K. voters met at 5 p.m. today.",
    "I paid $3.50.",
    "Node.js 20.11.1 works", "It works. Then it broke.", "Well... maybe", "He said: hello:world",
    "v1.2.3 is out",
    "Am 3.5. um 9.30 Uhr", "a/b testing and and/or", "1.000.000 Euro",
    "C'est fini.Bravo", "10:30-11:45",
    "Ratio 3:1, see fig. 4", "so... yes", "J.R.R. Tolkien", "3.14159",
]  # fmt: skip


@pytest.mark.parametrize("link", LINKED)
def test_a_link_is_found_however_it_is_written(link):
    text = f"Read {link} now"
    assert objection(text, (), Links.REFUSE) == "holds a link"
    assert without_links(text) in ("Read now", "Read  now")


@pytest.mark.parametrize("text", PLAIN)
def test_an_ordinary_sentence_is_left_alone(text):
    assert objection(text, (), Links.REFUSE) is None
    assert without_links(text) == text


@pytest.mark.parametrize(
    "text",
    ["a badword", "BADWORD!", "b4dword", "b@dw0rd", "bad-word", "bad_word", "b.a.d.w.o.r.d", "b a d w o r d",
     "bаdwоrd", "bádword", "ｂａｄｗｏｒｄ", "bad\u200bword", "(badword)", "b4d-w0rd", "BAD-WORD?"],
)  # fmt: skip
def test_a_banned_word_is_found_under_its_form(text):
    assert objection(text, ("badword",), Links.ALLOW)


@pytest.mark.parametrize(
    "text", ["badwords", "a bad day, word!", "embadworded", "bad. Word of the day"]
)
def test_other_words_are_not_taken_for_it(text):
    assert objection(text, ("badword",), Links.ALLOW) is None


@pytest.mark.parametrize(
    ("banned", "text", "is_held"),
    [("1984", "in 1984 we", True), ("1984", "in 1985 we", False), ("bad word", "a bad-word", True),
     ("bad word", "a bad word", True), ("ass", "a$$", True), ("ass", "class", False),
     ("hell", "he11 no", True), ("hell", "hello", False), ("коин", "наш Коин", True)],
)  # fmt: skip
def test_phrases_numbers_and_other_scripts(banned, text, is_held):
    assert (objection(text, (banned,), Links.ALLOW) is not None) == is_held
