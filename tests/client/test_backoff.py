"""How long a client waits before it tries again."""

import random

import pytest

from parley.client.backoff import Backoff


def test_waits_grow_up_to_the_cap_and_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    backoff = Backoff()
    assert [backoff.next_seconds() for _ in range(7)] == [0.5, 1, 2, 4, 8, 10, 10]
    assert backoff.next_seconds(at_least=3) == 13
    backoff.reset()
    assert backoff.next_seconds() == 0.5


def test_two_clients_do_not_wait_equally_long() -> None:
    ann, bob = Backoff(), Backoff()
    waits = [(ann.next_seconds(), bob.next_seconds()) for _ in range(20)]
    assert len({each for pair in waits for each in pair}) == 40
    assert all(0 <= each <= 10 for pair in waits for each in pair)


def test_a_wait_can_always_be_worked_out() -> None:
    backoff = Backoff()
    assert all(backoff.next_seconds() <= 10 for _ in range(5000))
