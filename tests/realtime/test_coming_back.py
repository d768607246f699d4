"""What it costs the store when many come back at once; they are told the same as one who comes alone."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from parley.ids import now
from parley.models import Role, Room
from parley.node import Node
from parley.stores.memory import MemoryStore
from tests.realtime.conftest import Client, guest, make_node
from tests.servers import until

MANY = 50


class Counted(MemoryStore):
    """Counts what it is asked for those who come back."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()
        self.then: Callable[[], Awaitable[None]] | None = None
        """Done once, after it was asked which rooms somebody is in and before it answers."""

    async def open(self) -> None:
        await super().open()
        for name in ("sessions", "rooms_of", "room", "heads", "changes"):
            setattr(self, name, self._counting(name, getattr(self, name)))

    def _counting(self, name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        async def counted(*args: Any) -> Any:
            self.asked[name] += 1
            found = await step(*args)
            if name == "rooms_of" and self.then is not None:
                then, self.then = self.then, None
                await then()
            return found

        return counted


@pytest.fixture
def store() -> Counted:
    return Counted()


async def den(store: Counted) -> tuple[Node, Room, list[str]]:
    """A node with a private room, in which many are and nobody is connected, and their tokens."""
    node = await make_node(store, rate_limit=0)
    owner = await node.core.accounts.guest("Cleo")
    room = await node.core.rooms.create(owner.user, name="den", title=None, kind="private")
    tokens = []
    for _ in range(MANY):
        signed_in = await node.core.accounts.guest("Ann")
        await store.join(room.id, signed_in.user.id, Role.MEMBER, now())
        tokens.append(signed_in.token)
    store.asked.clear()
    return node, room, tokens


async def back(clients: Sequence[Client], room: Room, since: int) -> list[Any]:
    """They all say hello at once; returns what each is told of the room."""
    for client in clients:
        client.send(op="hello", token=client.token, since={room.id: since})
    await until(lambda: all(client.events("room.changes") for client in clients))
    return [client.events("room.changes") for client in clients]


async def test_many_who_come_back_at_once_ask_the_store_as_one(store: Counted) -> None:
    node, room, tokens = await den(store)
    told = await back([Client(node, token) for token in tokens], room, 1)
    assert all(each == told[0] for each in told)
    assert len(told[0][0]["members"]) == MANY
    assert store.asked["room"] == 0
    assert store.asked["changes"] == 1
    assert sum(store.asked.values()) < MANY / 4
    await node.stop()


async def test_many_who_only_look_on_ask_as_one_too(store: Counted) -> None:
    node, _, tokens = await den(store)
    cleo = await node.core.accounts.guest("Cleo")
    hall = await node.core.rooms.create(cleo.user, name="hall", title=None)
    await node.core.messages.send(cleo.user, hall.id, "hi")
    store.asked.clear()
    await back([Client(node, token) for token in tokens], hall, 0)
    assert sum(store.asked.values()) < MANY / 4
    await node.stop()


async def test_what_was_read_is_told_to_those_who_come_later_until_something_happens(store: Counted) -> None:
    node, room, tokens = await den(store)
    first, second, third = (Client(node, token) for token in tokens[:3])
    [[alone]] = await back([first], room, 1)
    assert await back([second], room, 1) == [[alone]]
    assert store.asked["changes"] == 1
    assert (await second.ask(op="message.send", room="den", text="hi"))["ok"]
    [[more]] = await back([third], room, 1)
    assert [each["text"] for each in more["messages"]] == ["hi"]
    assert more["members"] == alone["members"]
    assert store.asked["changes"] == 2
    await node.stop()


async def test_that_nothing_is_new_is_asked_anew(store: Counted) -> None:
    node, room, tokens = await den(store)
    client = Client(node, tokens[0])
    await back([client], room, 1)
    head = node.hub.feeds[room.id].revision
    assert head is not None
    for asked in (2, 3):
        assert (await node.repair.read(room.id, head)).revision == head
        assert store.asked["changes"] == asked
    await node.stop()


async def test_who_was_shut_out_while_they_came_back_is_looked_at_together(store: Counted) -> None:
    node, room, tokens = await den(store)
    shut_out = (await node.core.sessions.authenticate(tokens[0])).user.id
    watching = await guest(node, "Bob")
    node.hub.feed(room.id).entering.add(watching.session)
    await node.repair.know([node.hub.feed(room.id)])
    clients = [Client(node, token) for token in tokens]

    async def somebody_goes() -> None:
        await store.leave(room.id, shut_out, now())
        await node.repair.compare({room.id})

    store.then = somebody_goes
    store.asked.clear()
    for client in clients:
        client.send(op="hello", token=client.token)
    await until(lambda: all(client.answer(1) for client in clients))
    rooms = [[each["id"] for each in (client.answer(1) or {})["ok"]["rooms"]] for client in clients]
    assert [room.id in each for each in rooms] == [False] + [True] * (MANY - 1)
    assert store.asked["room"] < MANY / 4  # only for the one who is gone
    await node.stop()
