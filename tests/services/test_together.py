"""Many who ask at the same moment are answered by one query, never with what is older than the question."""

import asyncio

import pytest

from parley.errors import StoreUnavailable
from parley.services import together
from parley.services.together import Together


class Shelf:
    """Something to read from, slowly where a test wants that."""

    def __init__(self) -> None:
        self.values = {"a": 1, "b": 2}
        self.asked: list[list[str]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.fails = False

    async def read(self, keys: list[str]) -> dict[str, int]:
        self.asked.append(keys)
        found = {key: self.values[key] for key in keys if key in self.values}
        await self.open.wait()
        if self.fails:
            raise StoreUnavailable
        return found


async def test_those_who_ask_in_one_turn_are_answered_together() -> None:
    shelf = Shelf()
    asking: Together[int] = Together(shelf.read)
    assert await asyncio.gather(*(asking.get(key) for key in "abca")) == [1, 2, None, 1]
    assert shelf.asked == [["a", "b", "c"]]


async def test_an_answer_is_never_older_than_the_question() -> None:
    shelf = Shelf()
    asking: Together[int] = Together(shelf.read)
    shelf.open.clear()
    first = asyncio.create_task(asking.get("a"))
    await asyncio.sleep(0.01)
    assert shelf.asked == [["a"]]
    shelf.values["a"] = 7  # after the first one was read
    later = [asyncio.create_task(asking.get(key)) for key in "aab"]
    await asyncio.sleep(0.01)
    assert shelf.asked == [["a"]]
    shelf.open.set()
    assert await first == 1
    assert await asyncio.gather(*later) == [7, 7, 2]
    assert shelf.asked == [["a"], ["a", "b"]]


async def test_a_read_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "MOST", 2)
    shelf = Shelf()
    asking: Together[int] = Together(shelf.read)
    await asyncio.gather(*(asking.get(key) for key in "abcde"))
    assert [len(keys) for keys in shelf.asked] == [2, 2, 1]


async def test_a_failure_is_told_to_all_who_asked_and_to_nobody_else() -> None:
    shelf = Shelf()
    asking: Together[int] = Together(shelf.read)
    shelf.fails = True
    outcomes = await asyncio.gather(asking.get("a"), asking.get("b"), return_exceptions=True)
    assert [type(each) for each in outcomes] == [StoreUnavailable, StoreUnavailable]
    shelf.fails = False
    assert await asking.get("a") == 1


async def test_who_gives_up_does_not_stop_the_others() -> None:
    shelf = Shelf()
    asking: Together[int] = Together(shelf.read)
    shelf.open.clear()
    impatient, patient = asyncio.create_task(asking.get("a")), asyncio.create_task(asking.get("a"))
    await asyncio.sleep(0.01)
    impatient.cancel()
    await asyncio.sleep(0)
    shelf.open.set()
    assert await patient == 1
