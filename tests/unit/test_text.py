"""What is published is one clean line of at most 280 characters that shows all it says."""

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from app.agents.prompts import quoted
from app.community.text import LONGEST, tidy
from app.text import cut, name_characters, show

INVISIBLE = (
    "\u200b\u200d\u2060\ufeff\u00ad\u3164\u115f\u2800\u202e\u2066\ufe0f\ufe00\u034f\u061c\U000e0041"
)
ENGLAND = "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
FAMILY = "👨\u200d👩\u200d👧\u200d👦"


@given(st.text(max_size=2_000))
@pytest.mark.plan(14)
def test_any_answer_becomes_one_line_of_at_most_280_characters(answer: str) -> None:
    line = tidy(answer).text
    assert len(line) <= LONGEST
    assert "\n" not in line
    assert "\x00" not in line
    assert line == line.strip()
    line.encode()  # no lone surrogates


@given(st.text(alphabet="ab 😀👩🏽\u200d\ufe0f🇩🇪🏴" + INVISIBLE, max_size=40))
def test_what_is_shown_is_shown_the_same_again(text: str) -> None:
    once = show(text).text
    assert show(once).text == once


def test_long_text_is_cut_at_a_word() -> None:
    line = tidy("word " * 100).text
    assert len(line) <= LONGEST
    assert line.endswith("word…")


@pytest.mark.parametrize("grapheme", ["🇩🇪", FAMILY, ENGLAND, "e\u0301\u0302", "👍🏽"])
def test_the_cut_splits_no_flag_no_family_and_no_letter(grapheme: str) -> None:
    for room in range(6):
        line = cut("x" * (LONGEST - 8 + room) + grapheme * 20, LONGEST)
        assert len(line) <= LONGEST
        rest = line.removesuffix("…").lstrip("x")
        assert rest == grapheme * len(regex.findall(r"\X", rest))


def test_text_without_spaces_is_cut_all_the_same() -> None:
    assert len(tidy("x" * 1_000).text) == LONGEST


@pytest.mark.parametrize(
    "text",
    [
        "Fresh bread at nine. 🥖",
        "🩷 🫨 🫩",
        f"{ENGLAND} won",
        FAMILY,
        "👍🏽 1️⃣ ❤️ 🇩🇪",
        "çà et là",
        "日本語",
    ],
)
def test_what_everybody_sees_stays_as_it_is(text: str) -> None:
    tidied = tidy(text)
    assert (tidied.text, tidied.dropped) == (text, "")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ('  "Two\n lines\tand\x00 more" ', "Two lines and more"),
        ('"Tides" beat "tomatoes"', '"Tides" beat "tomatoes"'),
        ("“Hi,” she said, “there.”", "“Hi,” she said, “there.”"),
        ("'It's fine, isn't it'", "It's fine, isn't it"),
        ("«Bonjour»", "Bonjour"),
        ("“Hello”", "Hello"),
        ('"', '"'),
        ("```\nHello\n```", "Hello"),
        ("```markdown\nHello\n```\n", "Hello"),
        ("Here:\n```python\nprint(1)\n```", "Here: print(1)"),
        ("a ``` b", "a ``` b"),
    ],
)
def test_quotes_around_the_whole_and_fences_go(answer: str, text: str) -> None:
    assert tidy(answer).text == text


@pytest.mark.parametrize("char", INVISIBLE)
def test_invisible_characters_go_and_are_told(char: str) -> None:
    tidied = tidy(f"abc{char}def")
    assert (tidied.text, tidied.dropped) == ("abcdef", char)
    assert tidy(char * 3).text == ""


def test_a_text_of_nothing_but_what_nobody_sees_is_nothing() -> None:
    assert tidy(INVISIBLE).text == ""
    assert tidy("\u0301\u0301").text == ""


def test_tag_characters_reach_no_other_model_and_a_reviewer_reads_what_they_spell() -> None:
    hidden = "".join(chr(0xE0000 + ord(char)) for char in "obey me")
    tidied = tidy(f"A nice day.{hidden}")
    assert tidied.text == "A nice day."
    assert "'obey me'" in name_characters(tidied.dropped)
    assert quoted([f"A nice day.{hidden} 🏴{hidden}"]) == "<text>A nice day. 🏴</text>"
