"""Other services post: in order, once, whatever fails meanwhile, and what cannot be posted is refused."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
import structlog

from parley.buses.linked import ended
from parley.buses.memory import MemoryBus
from parley.config import Settings
from parley.errors import Draining, InternalError, Overloaded, RateLimited, StoreUnavailable
from parley.ids import now
from parley.integration import posting as posts
from parley.integration.posting import Posting
from parley.node import Node
from parley.stores.memory import MemoryStore
from tests.servers import until


class Letter:
    """A message that the broker delivers."""

    def __init__(self, queue: "Queue", body: bytes, identity: str | None) -> None:
        self.body = body
        self.identity = identity
        self._queue = queue

    async def settle(self, answer: bytes, *, stored: bool) -> None:
        if self._queue.breaks:
            self._queue.breaks -= 1
            raise ConnectionError("gone")
        self._queue.unsettled.remove(self)
        self._queue.answers.append((stored, json.loads(answer)))


class Queue:
    """A broker's queue: what was taken and not settled is delivered again over the next link."""

    def __init__(self) -> None:
        self.breaks = 0
        self.unsettled: list[Letter] = []
        self.answers: list[tuple[bool, dict[str, Any]]] = []
        self.taken = 0
        self._waiting: asyncio.Queue[Letter] = asyncio.Queue()

    def put(self, *, identity: str | None = None, raw: bytes | None = None, **body: object) -> None:
        letter = Letter(self, json.dumps(body).encode() if raw is None else raw, identity)
        self.unsettled.append(letter)
        self._waiting.put_nowait(letter)

    def link(self) -> "Queue":
        self._waiting = asyncio.Queue()
        for each in self.unsettled:
            self._waiting.put_nowait(each)
        return self

    async def open(self) -> None:
        pass

    async def ended(self) -> None:
        await asyncio.Event().wait()

    async def ping(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def take(self) -> Letter:
        letter = await self._waiting.get()
        self.taken += 1
        return letter

    async def settled(self) -> list[tuple[bool, dict[str, Any]]]:
        await until(lambda: not self.unsettled, what="settling")
        return self.answers


class World:
    def __init__(self, node: Node) -> None:
        self.node = node
        self.queue = Queue()
        self.posting = Posting(self.queue.link, str)
        self.task = asyncio.create_task(self.posting.run(node.core))

    async def said(self, room: str = "kitchen") -> list[tuple[str, str]]:
        page = await self.node.core.messages.page(None, room, limit=200)
        return [(each.author_name, each.text) for each in page.items]


@asynccontextmanager
async def world_of(**given: object) -> AsyncIterator[World]:
    node = Node(Settings(_env_file=None, **given), MemoryStore(), MemoryBus())  # type: ignore[arg-type]
    await node.start()
    world = World(node)
    try:
        yield world
    finally:
        await ended([world.task])
        await node.stop()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with world_of() as made:
        yield made


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posts, "LONGEST_DELAY_SECONDS", 0.01)
    monkeypatch.setattr(posts, "SPEAK_SECONDS", 0.0)


def failing(world: World, monkeypatch: pytest.MonkeyPatch, *errors: BaseException) -> None:
    """The next tries to write fail like this."""
    left = list(errors)
    send = world.node.core.messages.send

    def fail(*given: Any, **more: Any) -> Any:
        if left:
            raise left.pop(0)
        return send(*given, **more)

    monkeypatch.setattr(world.node.core.messages, "send", fail)


async def test_a_post_is_stored_and_answered(world: World) -> None:
    id_ = str(uuid4())
    world.queue.put(user="john", room="kitchen", text="hello", id=id_, extra="ignored")
    ((stored, answer),) = await world.queue.settled()
    assert stored
    message = answer["ok"]["message"]
    assert (message["id"], message["author_name"], message["text"]) == (id_, "john", "hello")
    assert await world.said() == [("john", "hello")]
    assert (world.posting.posted, world.posting.refused, world.posting.retried) == (1, 0, 0)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"hello", "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        (b"[" * 100_000, "invalid_field"),
        (b"[]", "invalid_field"),
        (b"{}", "invalid_field"),
        (b'{"user": "john", "room": "kitchen"}', "invalid_field"),
        (b'{"user": 7, "room": "kitchen", "text": "hush"}', "invalid_field"),
        (b'{"user": "", "room": "kitchen", "text": "hush"}', "invalid_field"),
        (b'{"user": "john", "room": "kitchen", "text": "hush", "id": 7}', "invalid_field"),
        (b'{"user": "john", "room": "kitchen", "text": "hush", "id": "seven"}', "invalid_field"),
        (b'{"user": "john", "room": "kitchen", "text": "hush\\u0000"}', "invalid_field"),
        (b'{"user": "john", "room": "kitchen", "text": " "}', "empty_message"),
        (b'{"user": "john", "room": "kit chen", "text": "hush"}', "invalid_field"),
        (b'{"user": "john", "room": "kitchen", "text": "' + b"a" * 20_000 + b'"}', "message_too_long"),
        (b'{"text": "' + b"a" * 300_000 + b'"}', "body_too_large"),
    ],
    ids=lambda given: given[:70] if isinstance(given, str) else str(given[:70]),
)
async def test_what_makes_no_sense_is_refused_and_makes_nothing(world: World, body: bytes, code: str) -> None:
    rooms = (await world.node.store.stats(now())).rooms
    with structlog.testing.capture_logs() as log:
        world.queue.put(raw=body)
        ((stored, answer),) = await world.queue.settled()
    assert not stored
    assert answer["error"]["code"] == code
    assert set(answer["error"]) >= {"code", "kind", "detail", "retryable"}
    assert [(each["log_level"], each["code"]) for each in log] == [("warning", code)]
    assert "hush" not in str(log)
    assert "john" not in str(log)
    assert (await world.node.store.stats(now())).rooms == rooms
    assert world.posting.refused == 1
    world.queue.put(user="john", room="kitchen", text="hello")
    await world.queue.settled()
    assert await world.said() == [("john", "hello")]


async def test_rules_hold_as_over_http(world: World) -> None:
    core = world.node.core
    await core.accounts.register("mary", "correct horse battery", None, "", "")
    ann = (await core.accounts.guest("Ann")).user
    await core.rooms.create(ann, name="secret", title=None, kind="private")
    await core.rooms.create(ann, name="news", title=None, read_only=True)
    await core.rooms.create(ann, name="single", title=None, capacity=1)
    id_ = str(uuid4())
    world.queue.put(user="mary", room="kitchen", text="not me")
    world.queue.put(user="john", room="secret", text="let me in")
    world.queue.put(user="john", room="news", text="old news")
    world.queue.put(user="john", room="single", text="me too")
    world.queue.put(user="john", room="kitchen", text="first", id=id_)
    world.queue.put(user="john", room="kitchen", text="another", id=id_)
    answers = await world.queue.settled()
    codes = [answer["error"]["code"] for _, answer in answers if "error" in answer]
    assert sorted(codes) == ["id_taken", "name_taken", "read_only_room", "room_full", "room_not_found"]
    assert await world.said() == [("john", "first")]


async def test_where_guests_are_not_let_in_nobody_posts() -> None:
    async with world_of(guests=False) as world:
        world.queue.put(user="john", room="kitchen", text="hello")
        ((_, answer),) = await world.queue.settled()
        assert answer["error"]["code"] == "guests_not_allowed"


@pytest.mark.parametrize(
    "error",
    [StoreUnavailable(), Overloaded(retry_after=0.01), RateLimited(retry_after=0.01), RuntimeError("?")],
    ids=lambda error: type(error).__name__,
)
async def test_what_may_work_later_is_tried_until_it_does_and_stays_in_order(
    world: World, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    failing(world, monkeypatch, error, error, error)
    for text in ("one", "two", "three"):
        world.queue.put(user="john", room="kitchen", text=text)
    answers = await world.queue.settled()
    assert [stored for stored, _ in answers] == [True] * 3
    assert [text for _, text in await world.said()] == ["one", "two", "three"]
    assert world.posting.retried == 3


async def test_what_was_stored_although_it_failed_is_not_doubled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = world.node.core.messages.send
    tries = 0

    async def fail_afterwards(*given: Any, **more: Any) -> Any:
        nonlocal tries
        tries += 1
        applied = await send(*given, **more)
        if tries < 3:
            raise StoreUnavailable
        return applied

    monkeypatch.setattr(world.node.core.messages, "send", fail_afterwards)
    world.queue.put(user="john", room="kitchen", text="hello")
    await world.queue.settled()
    assert await world.said() == [("john", "hello")]
    assert tries == 3


async def test_a_fault_of_ours_is_not_tried_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(world, monkeypatch, *[RuntimeError("?")] * 5, *[InternalError()] * 5)
    for text in ("poison", "more poison", "fine"):
        world.queue.put(user="john", room="kitchen", text=text)
    answers = await world.queue.settled()
    assert [stored for stored, _ in answers] == [False, False, True]
    assert answers[0][1]["error"]["code"] == "internal_error"
    assert await world.said() == [("john", "fine")]


async def test_somebody_who_has_to_wait_keeps_nobody_else_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = world.node.core.messages.send

    def fail(user: Any, *given: Any, **more: Any) -> Any:
        if user.display_name == "john":
            raise RateLimited(retry_after=0.01)
        return send(user, *given, **more)

    with monkeypatch.context() as patched:
        patched.setattr(world.node.core.messages, "send", fail)
        world.queue.put(user="john", room="kitchen", text="one")
        world.queue.put(user="John", room="kitchen", text="two")
        for number in range(10):
            world.queue.put(user="mary", room="kitchen", text=str(number))
        await until(lambda: world.posting.posted == 10, what="mary's")
    await world.queue.settled()
    assert await world.said() == [
        *(("mary", str(number)) for number in range(10)), ("john", "one"), ("john", "two"),
    ]  # fmt: skip


async def test_so_many_are_taken_at_once_and_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(posts, "FIRST_DELAY_SECONDS", 0.01)
        failing(world, patched, *[StoreUnavailable()] * 10_000)
        for number in range(200):
            world.queue.put(user=f"user {number}", room="kitchen", text="hello")
        await until(lambda: world.posting.retried > 100, what="trying")
        assert world.queue.taken == posts.AT_ONCE
    await world.queue.settled()
    assert len(await world.said()) == 200


@pytest.mark.parametrize("how", ["id", "identity"])
async def test_what_is_delivered_again_is_not_doubled(world: World, how: str) -> None:
    world.queue.breaks = 3  # the store has it, and the broker is not told
    given: dict[str, Any] = {"id": str(uuid4())} if how == "id" else {"identity": "amqp:7"}
    world.queue.put(user="john", room="kitchen", text="hello", **given)
    ((stored, answer),) = await world.queue.settled()
    assert stored
    assert UUID(answer["ok"]["message"]["id"])
    assert world.queue.taken == 4
    assert await world.said() == [("john", "hello")]


async def test_a_server_that_stops_takes_nothing_more_and_settles_nothing_it_did_not_store(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(world, monkeypatch, Draining(retry_after=0.01))
    world.queue.put(user="john", room="kitchen", text="hello")
    await until(lambda: world.queue.taken == 1, what="taking")
    await asyncio.sleep(0.1)
    assert len(world.queue.unsettled) == 1
    await ended([world.task])
    again = Posting(world.queue.link, str)
    task = asyncio.create_task(again.run(world.node.core))
    await world.queue.settled()
    await ended([task])
    assert await world.said() == [("john", "hello")]
