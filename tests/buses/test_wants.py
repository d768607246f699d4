"""The wanted topics and what the broker has to be told."""

from parley.buses.base import EVERYTHING
from parley.buses.wants import Wants


def told(wants: Wants) -> tuple[set[str], set[str]]:
    """All that the broker has to be told now."""
    more: set[str] = set()
    less: set[str] = set()
    while not wants.are_settled():
        some_more, some_less = wants.changes(2)
        assert len(some_more) + len(some_less) <= 2
        more |= set(some_more)
        less |= set(some_less)
    return more, less


def test_only_what_changed_is_told() -> None:
    wants = Wants()
    wants.want("a")
    wants.want("b")
    assert told(wants) == ({EVERYTHING, "a", "b"}, set())
    wants.want("a")
    wants.want("c")
    wants.unwant("b")
    assert told(wants) == ({"c"}, {"b"})
    assert told(wants) == (set(), set())


def test_what_was_wanted_and_no_longer_before_it_was_told_is_not_told() -> None:
    wants = Wants()
    told(wants)
    wants.want("a")
    wants.unwant("a")
    wants.unwant("never")
    assert told(wants) == (set(), set())


def test_a_new_connection_is_told_everything() -> None:
    wants = Wants()
    for topic in "abc":
        wants.want(topic)
    told(wants)
    wants.unwant("a")
    wants.forget()
    assert told(wants) == ({EVERYTHING, "b", "c"}, set())


def test_everything_is_always_wanted() -> None:
    wants = Wants()
    wants.unwant(EVERYTHING)
    assert EVERYTHING in wants
    assert "a" not in wants
