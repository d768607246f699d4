"""What others wrote does nothing to the terminal but show."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.client import safe_text


@given(st.text(alphabet=st.characters()))
def test_nothing_that_moves_the_cursor_or_turns_the_line_around_remains(text: str) -> None:
    for line in safe_text.lines(text):
        for character in line:
            assert character in "\u200c\u200d" or unicodedata.category(character) not in {"Cc", "Cf", "Cs"}
            assert character not in "\n\r\u2028\u2029"


@pytest.mark.parametrize(
    "text", ["naïve café", "日本語", "👩‍👩‍👧 👍🏽 ❤️", "שלום", "می‌خواهم", "x = {'a': 1}  # ok", ""]
)
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert safe_text.line(text) == text


def test_every_kind_of_line_end_is_one() -> None:
    text = "a\nb\r\nc\rd\u2028e\x85f\vg\n"
    assert safe_text.lines(text) == list("abcdefg")
    assert safe_text.line("one\n\ntwo") == "one ⏎  ⏎ two"
