"""Talk that goes on while servers come and go, and what must be true of it afterwards."""

import asyncio
from collections.abc import Callable

from parley.errors import StoreUnavailable
from parley.models import Room, Send, User
from parley.stores.base import Store
from tests.contracts.kitchen import all_done, send
from tests.servers import until

BACK_SECONDS = 15
"""How soon everything works again once there is somebody who can take it."""


class Talk:
    """Writes into one room, a few messages at a time, each until it is acknowledged."""

    def __init__(self, store: Store, room: Room, author: User) -> None:
        self.room = room
        self.acknowledged: dict[str, int] = {}
        self.refusals = 0
        self._store = store
        self._author = author

    async def go_on(self, ended: asyncio.Event) -> None:
        while not ended.is_set():
            waiting = [send(self.room, self._author, "x" * 100) for _ in range(5)]
            while waiting:
                waiting = await self._still_waiting(waiting)

    async def _still_waiting(self, batch: list[Send]) -> list[Send]:
        try:
            results = await self._store.apply(batch)
        except StoreUnavailable as error:
            results = [error] * len(batch)
        refused = [each for each in results if isinstance(each, StoreUnavailable)]
        for each in refused:
            assert each.retry_after == 1
        for applied in all_done([each for each in results if not isinstance(each, StoreUnavailable)]):
            seq = applied.message.seq
            assert self.acknowledged.setdefault(applied.message.id, seq) == seq
        if refused:
            self.refusals += 1
            await asyncio.sleep(0.05)
        return [each for each, result in zip(batch, results, strict=True) if result in refused]


async def everybody(talks: list[Talk], count: Callable[[Talk], int], more: int, seconds: float) -> None:
    """Wait until every talk has got so many more of something."""
    before = [count(each) for each in talks]
    await until(
        lambda: all(count(each) >= had + more for each, had in zip(talks, before, strict=True)), seconds
    )


def said(talk: Talk) -> int:
    return len(talk.acknowledged)


async def stored_once(store: Store, room: Room, talks: list[Talk]) -> None:
    """All that was acknowledged is there, in the place that was told, without holes; and nothing else."""
    stored = await store.page(room.id, limit=1_000_000)
    assert [each.seq for each in stored] == list(range(1, len(stored) + 1))
    assert [each.revision for each in stored] == list(range(1, len(stored) + 1))
    acknowledged = {id_: seq for each in talks if each.room is room for id_, seq in each.acknowledged.items()}
    assert {each.id: each.seq for each in stored} == acknowledged
    now = await store.room(room.id)
    assert now is not None
    assert now.revision == now.last_seq == len(stored)
