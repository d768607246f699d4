"""Names are what they look like."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.errors import InvalidField, ParleyError
from parley.services import names


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("Ann", "Ann"),
        ("  Ann \n Lee ", "Ann Lee"),
        ("Zoe\u0308", "Zoë"),
        ("👩‍🍳 cook", "👩‍🍳 cook"),
        ("王小明", "王小明"),
        ("England 🏴󠁧󠁢󠁥󠁮󠁧󠁿", "England 🏴󠁧󠁢󠁥󠁮󠁧󠁿"),
        ("❤️‍🔥 1️⃣ 👍🏽", "❤️‍🔥 1️⃣ 👍🏽"),
    ],
)
def test_a_display_name_is_tidied(given: str, shown: str) -> None:
    assert names.display_name(given) == shown


@pytest.mark.parametrize(
    "given",
    [
        "",
        "  ",
        "a\x00",
        "a\u202eb",
        "a\u2066b",
        "\u200b",
        "a\x1bb",
        "\ud800",
        "x" * 65,
        "\u200d",
        "ann\u200d",
        "\ufe0f",
        "\u3164",
        "\u2800",
        "\u0301",
        "a" + "\u0301" * 9,
        "a\U000e0067",
    ],
)
def test_invisible_and_reordering_characters_are_refused(given: str) -> None:
    with pytest.raises(InvalidField):
        names.display_name(given)


def test_room_names_are_the_same_in_any_case() -> None:
    assert names.room_name("Kitchen") == names.room_name("KITCHEN") == "kitchen"


@pytest.mark.parametrize(
    "given", ["a b", "a/b", "a?", "a#", ".", "..", "ß" * 60, "0192f0c8-aaaa-7000-8000-000000000000"]
)
def test_a_room_name_fits_into_an_address(given: str) -> None:
    with pytest.raises(InvalidField):
        names.room_name(given)


@given(st.text())
def test_tidying_twice_is_tidying_once(text: str) -> None:
    for tidy in (names.display_name, names.room_name, names.emoji):
        try:
            once = tidy(text)
        except ParleyError:
            continue
        assert tidy(once) == once
