"""The journal groups, bounds, keeps order and never acknowledges what is not stored."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from parley.errors import Draining, Overloaded, ParleyError, StoreUnavailable
from parley.events import MessageSent, RoomChanges, RoomEvent, messages_of
from parley.ids import new_id, now
from parley.models import Applied, Change, Role, Room, Send, User
from parley.services.journal import Journal
from parley.stores.memory import MemoryStore


class Gate(MemoryStore):
    """A store whose commits wait until the gate is open, and fail on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.open_gate = asyncio.Event()
        self.open_gate.set()
        self.batches: list[int] = []
        self.fails: Exception | None = None

    async def apply(self, changes: Sequence[Change]) -> list[Applied | ParleyError]:
        await self.open_gate.wait()
        self.batches.append(len(changes))
        if self.fails:
            raise self.fails
        return await super().apply(changes)


KITCHEN = new_id()
ANN = User(id=new_id(), name="ann", display_name="Ann", kind="guest")


def send(text: str = "hi") -> Send:
    return Send(
        room_id=KITCHEN,
        id=new_id(),
        author_id=ANN.id,
        author_name="Ann",
        kind="text",
        text=text,
        sent_at=now(),
    )


@pytest.fixture
async def store() -> Gate:
    store = Gate()
    await store.add_user(ANN)
    room = Room(
        id=KITCHEN, name="kitchen", title="Kitchen", kind="public", created_by=ANN.id, created_at=now()
    )
    await store.add_room(room, ANN.id)
    assert not await store.join(KITCHEN, ANN.id, Role.MEMBER, now())
    return store


@pytest.fixture
def told() -> list[RoomEvent]:
    return []


@pytest.fixture
async def journal(store: Gate, told: list[RoomEvent]) -> AsyncIterator[Journal]:
    journal = Journal(store, told.append, max_batch=10, max_changes=25, max_characters=10_000)
    journal.start(pytest.fail)
    yield journal
    await journal.stop(10)


async def test_what_comes_while_a_batch_commits_is_the_next_batch(journal: Journal, store: Gate) -> None:
    store.open_gate.clear()
    first = journal.write(send())
    await asyncio.sleep(0)
    rest = [journal.write(send()) for _ in range(14)]
    store.open_gate.set()
    await asyncio.gather(first, *rest)
    assert store.batches == [1, 10, 4]


async def test_an_idle_journal_commits_at_once(journal: Journal, store: Gate) -> None:
    for _ in range(3):
        await journal.write(send())
    assert store.batches == [1, 1, 1]


async def test_order_is_that_of_the_calls(journal: Journal, told: list[RoomEvent]) -> None:
    outcomes = await asyncio.gather(*[journal.write(send(str(number))) for number in range(25)])
    assert [outcome.message.seq for outcome in outcomes] == list(range(1, 26))
    assert [event.revision for event in told] == list(range(1, 26))


async def test_everybody_is_told_before_the_writer_is_answered(
    journal: Journal, told: list[RoomEvent]
) -> None:
    outcome = await journal.write(send())
    assert [list(messages_of(event)) for event in told] == [[outcome.message]]


async def test_an_id_sent_again_is_told_again(journal: Journal, told: list[RoomEvent]) -> None:
    """The process that stored it first may have died before it told anybody."""
    change = send()
    first, second = await journal.write(change), await journal.write(change)
    assert (first.fresh, second.fresh) == (True, False)
    assert [event.revision for event in told] == [1, 1]
    assert [type(event) for event in told] == [MessageSent, RoomChanges], "not as a new one"
    assert list(messages_of(told[1])) == [first.message]


async def test_a_full_journal_refuses_and_says_when_to_retry(journal: Journal, store: Gate) -> None:
    store.open_gate.clear()
    taken = [journal.write(send()) for _ in range(25)]
    with pytest.raises(Overloaded) as refused:
        await journal.write(send())
    assert refused.value.retry_after
    store.open_gate.set()
    assert len(await asyncio.gather(*taken)) == 25
    await journal.write(send())


async def test_long_texts_fill_it_sooner(journal: Journal, store: Gate) -> None:
    store.open_gate.clear()
    taken = [journal.write(send("x" * 4_000)) for _ in range(2)]
    with pytest.raises(Overloaded):
        await journal.write(send("x" * 4_000))
    store.open_gate.set()
    await asyncio.gather(*taken)
    await journal.write(send("x" * 4_000))


@pytest.mark.parametrize("failure", [StoreUnavailable(), RuntimeError("a fault of ours")])
async def test_a_failed_commit_acknowledges_nothing(
    journal: Journal, store: Gate, told: list[RoomEvent], failure: Exception
) -> None:
    store.fails = failure
    outcomes = await asyncio.gather(*[journal.write(send()) for _ in range(3)], return_exceptions=True)
    assert all(isinstance(outcome, ParleyError) for outcome in outcomes)
    assert told == []
    store.fails = None
    assert (await journal.write(send())).message.seq == 1


async def test_a_refused_change_does_not_touch_the_others(journal: Journal) -> None:
    stray = Send(
        room_id=new_id(),
        id=new_id(),
        author_id=ANN.id,
        author_name="Ann",
        kind="text",
        text="hi",
        sent_at=now(),
    )
    outcomes = await asyncio.gather(
        journal.write(send()), journal.write(stray), journal.write(send()), return_exceptions=True
    )
    assert [isinstance(outcome, Applied) for outcome in outcomes] == [True, False, True]


async def test_a_stop_writes_what_was_taken_and_takes_no_more(journal: Journal, store: Gate) -> None:
    store.open_gate.clear()
    taken = [journal.write(send()) for _ in range(15)]
    stopping = asyncio.create_task(journal.stop(10))
    await asyncio.sleep(0)
    with pytest.raises(Draining):
        await journal.write(send())
    store.open_gate.set()
    await stopping
    assert [outcome.message.seq for outcome in await asyncio.gather(*taken)] == list(range(1, 16))


async def test_a_writer_that_gave_up_is_stored_all_the_same(
    journal: Journal, store: Gate, told: list[RoomEvent]
) -> None:
    store.open_gate.clear()
    future = journal.write(send())
    future.cancel()
    store.open_gate.set()
    await journal.write(send())
    assert [event.revision for event in told] == [1, 2]
