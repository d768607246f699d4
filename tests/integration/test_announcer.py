"""The announcer over links that fail: nothing is lost, nothing blocks for ever, and no line is skipped."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import structlog

from parley.buses.linked import ended
from parley.errors import StoreUnavailable
from parley.ids import new_id, now
from parley.integration import announcer as announcing
from parley.integration import backlog
from parley.integration import line as lines
from parley.integration.announcer import Announcer
from parley.integration.backlog import Letter
from parley.integration.line import Refused
from parley.models import Changes, Room
from parley.stores.memory import MemoryStore
from tests.integration.test_backlog import sent
from tests.servers import until


class Broker:
    """What a broker got, and how it behaves to the next links."""

    def __init__(self) -> None:
        self.got: list[Letter] = []
        self.opened = 0
        self.open: Callable[[], Awaitable[None]] | None = None
        self.send: Callable[[list[Letter]], Awaitable[list[Letter]]] | None = None

    def link(self) -> "FakeLink":
        return FakeLink(self)


class FakeLink:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def open(self) -> None:
        self._broker.opened += 1
        if self._broker.open is not None:
            await self._broker.open()

    async def ended(self) -> None:
        await asyncio.Event().wait()

    async def ping(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def send(self, letters: list[Letter], epoch: str) -> list[Letter]:
        refused = await self._broker.send(letters) if self._broker.send is not None else []
        self._broker.got += [each for each in letters if each not in refused]
        return refused


@asynccontextmanager
async def running(broker: Broker, store: MemoryStore) -> AsyncIterator[Announcer]:
    announcer = Announcer(broker.link, str)
    task = asyncio.create_task(announcer.run(store))
    try:
        yield announcer
    finally:
        await ended([task])


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    made = MemoryStore()
    await made.open()
    yield made
    await made.close()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST_DELAY_SECONDS", 0.05)


async def test_what_was_not_confirmed_is_sent_again(store: MemoryStore) -> None:
    broker = Broker()
    fails = 3

    async def fail(letters: list[Letter]) -> list[Letter]:
        nonlocal fails
        fails -= 1
        if fails >= 0:
            broker.got += letters[:2]  # they arrived, but who knows
            raise ConnectionError("gone")
        return []

    broker.send = fail
    async with running(broker, store) as announcer:
        for revision in range(1, 6):
            announcer.publish(*sent(revision))
        await until(lambda: not announcer.backlog, what="confirmation")
    assert [each.mark for each in broker.got] == [*["1", "2"] * 3, "1", "2", "3", "4", "5"]
    assert (announcer.published, announcer.repeated, broker.opened) == (5, 15, 4)


async def test_a_driver_that_calls_off_whoever_waits_for_it_ends_nothing(store: MemoryStore) -> None:
    broker = Broker()
    calls = 0

    async def call_off(*_: object) -> list[Letter]:
        nonlocal calls
        calls += 1
        if calls <= 2:
            raise asyncio.CancelledError
        return []

    broker.send = call_off
    broker.open = lambda: call_off() if broker.opened == 2 else asyncio.sleep(0)  # type: ignore[assignment]
    async with running(broker, store) as announcer:
        announcer.publish(*sent(1))
        await until(lambda: announcer.published == 1, what="confirmation")


async def test_a_broker_that_never_confirms_is_left(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "CONFIRM_SECONDS", 0.05)
    broker = Broker()

    async def hang(letters: list[Letter]) -> list[Letter]:
        await asyncio.sleep(0 if broker.opened > 1 else 60)
        return []

    broker.send = hang
    async with running(broker, store) as announcer:
        announcer.publish(*sent(1))
        await until(lambda: announcer.published == 1, what="confirmation")
    assert broker.opened == 2


async def test_what_the_broker_never_takes_keeps_nothing_back(store: MemoryStore) -> None:
    broker = Broker()

    async def refuse(letters: list[Letter]) -> list[Letter]:
        return [each for each in letters if each.mark == "2"]

    broker.send = refuse
    with structlog.testing.capture_logs() as log:
        async with running(broker, store) as announcer:
            for revision in (1, 2, 3):
                announcer.publish(*sent(revision))
            await until(lambda: announcer.published == 2, what="confirmation")
    assert [each.mark for each in broker.got] == ["1", "3"]
    assert announcer.refused == 1
    assert "soup" not in str(log)
    assert [each["event"] for each in log] == ["the broker does not take a line"]


async def test_a_trouble_is_said_once_and_its_end_when_something_works_again(store: MemoryStore) -> None:
    broker = Broker()

    async def refuse() -> None:
        if broker.opened < 4:
            raise Refused("not you" if broker.opened < 3 else "nor you")

    broker.open = refuse
    with structlog.testing.capture_logs() as log, pytest.MonkeyPatch.context() as patched:
        patched.setattr(lines, "REFUSED_SECONDS", 0.02)
        async with running(broker, store) as announcer:
            announcer.publish(*sent(1))
            await until(lambda: announcer.published == 1, what="confirmation")
            assert announcer.healthy()
    assert [(each["log_level"], each.get("reason")) for each in log] == [
        ("warning", "not you"), ("warning", "nor you"), ("info", None),
    ]  # fmt: skip


async def test_the_store_may_be_away_when_rooms_are_to_be_read(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "STORE_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(backlog, "MAX_WAITING", 2)
    room = Room(id=new_id(), name=None, title="K", kind="public", created_by=None, created_at=now())
    tries = 0

    async def changes(room_id: str, since: int, limit: int) -> Changes:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise StoreUnavailable
        assert (room_id, since) == (room.id, 2 if tries == 3 else 4)
        if tries == 3:
            announcer.publish(*sent(5, room.id))  # the picture is older than this
        return Changes(revision=tries + 1)

    monkeypatch.setattr(store, "changes", changes)
    broker = Broker()
    announcer = Announcer(broker.link, str)
    for revision in (1, 2, 3, 4):
        announcer.publish(*sent(revision, room.id))
    task = asyncio.create_task(announcer.run(store))
    await until(lambda: [each.mark for each in broker.got] == ["1", "2", "2-4", "4-5"], what="everything")
    announcer.publish(*sent(6, room.id))
    await until(lambda: broker.got[-1].mark == "6", what="what comes then")
    await ended([task])
    with suppress(asyncio.CancelledError):
        await task
    assert (announcer.rooms_read, announcer.backlog.gaps, tries) == (2, 0, 4)
