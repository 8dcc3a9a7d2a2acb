"""What is published is one clean line of at most 280 characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.community.text import LONGEST, tidy


@given(st.text(max_size=2_000))
@pytest.mark.plan(14)
def test_any_answer_becomes_one_line_of_at_most_280_characters(answer: str) -> None:
    line = tidy(answer)
    assert len(line) <= LONGEST
    assert "\n" not in line
    assert "\x00" not in line
    assert line == line.strip()
    line.encode()  # no lone surrogates


def test_long_text_is_cut_at_a_word() -> None:
    line = tidy("word " * 100)
    assert len(line) <= LONGEST
    assert line.endswith("word…")


def test_text_without_spaces_is_cut_all_the_same() -> None:
    assert len(tidy("x" * 1_000)) == LONGEST


def test_short_text_stays_as_it_is() -> None:
    assert tidy("Fresh bread at nine. 🥖") == "Fresh bread at nine. 🥖"


def test_quotes_around_the_whole_go_and_white_space_folds() -> None:
    assert tidy('  "Two\n lines\tand\x00 more" ') == "Two lines and more"


def test_direction_overrides_go() -> None:
    assert tidy("abc\u202edef\u2066") == "abcdef"
