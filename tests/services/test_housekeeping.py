"""Housekeeping does each thing by itself, again after a failure, and never takes all of the store's time."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from parley import background
from parley.config import Settings
from parley.errors import StoreUnavailable
from parley.ids import from_ms, now_ms
from parley.models import Room
from parley.services import housekeeping
from parley.services.housekeeping import Housekeeping
from parley.stores.memory import MemoryStore
from tests.contracts.kitchen import a_room, a_user, kitchen_in
from tests.servers import until


class FailingAtFirst(MemoryStore):
    """A store that is away when it is first asked for anything."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0

    async def close_due_rooms(self, at: object, limit: int) -> list[Room]:
        if not self.failures:
            self.failures += 1
            raise StoreUnavailable
        return await super().close_due_rooms(at, limit)  # type: ignore[arg-type]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLOSE_SECONDS", "INDEX_SECONDS", "EXPIRE_SECONDS", "PURGE_SECONDS"):
        monkeypatch.setattr(housekeeping, name, 0.02)


@pytest.fixture
async def store(hurried: None) -> AsyncIterator[FailingAtFirst]:
    store = FailingAtFirst()
    closed: list[Room] = []
    deaths: list[str] = []
    keeping = Housekeeping(store, Settings(_env_file=None, session_ttl=10), closed.append)
    task = background.start(keeping.run(), "housekeeping", deaths.append)
    yield store
    await background.stop(task)
    assert deaths == []


async def test_what_has_run_out_goes_by_itself(store: FailingAtFirst) -> None:
    kitchen = await kitchen_in(store)
    old = from_ms(now_ms() - 71_000)
    guest = a_user("dora", kind="guest", last_seen_at=old)
    await store.add_user(guest, [kitchen.room.id])
    staying = a_user("emil", kind="guest", last_seen_at=from_ms(now_ms() - 65_000))
    await store.add_user(staying, [kitchen.room.id])
    room = a_room("soon", expires_at=old)
    await store.add_room(room, kitchen.ann.id)
    await until(lambda: store.failures == 1)
    for _ in range(500):
        if await store.room("soon") is None and await store.user("dora") is None:
            break
        await asyncio.sleep(0.01)
    assert await store.room("soon") is None
    assert await store.user("dora") is None
    assert await store.user("emil") == staying
    assert await store.room("kitchen") is not None


async def test_each_room_is_told_of_once() -> None:
    store = MemoryStore()
    kitchen = await kitchen_in(store)
    await store.add_room(a_room("soon", expires_at=from_ms(now_ms() - 1)), kitchen.ann.id)
    closed: list[Room] = []
    keeping = Housekeeping(store, Settings(_env_file=None), closed.append)
    assert await keeping.close_rooms() is False
    assert await keeping.close_rooms() is False
    assert [room.name for room in closed] == ["soon"]


async def test_much_work_waits_between_its_steps(hurried: None, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    loop = asyncio.get_running_loop()
    busy = 0.0
    steps = 0

    async def index() -> bool:
        nonlocal busy, steps
        began = loop.time()
        await asyncio.sleep(0.01)
        busy += loop.time() - began
        steps += 1
        return True

    monkeypatch.setattr(store, "index", index)
    keeping = Housekeeping(store, Settings(_env_file=None), lambda room: None)
    task = background.start(keeping.run(), "housekeeping", lambda name: None)
    began = loop.time()
    await until(lambda: steps >= 5)
    assert busy < (loop.time() - began) / 4
    await background.stop(task)
