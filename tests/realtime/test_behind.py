"""Clients that know more than the node which they come to, because hints to it were lost."""

from collections.abc import AsyncIterator

import pytest

from parley.node import Node
from parley.stores.memory import MemoryStore
from tests.realtime.conftest import Client, guest, make_node
from tests.servers import until


@pytest.fixture
async def strangers() -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes on one store that hear nothing of each other."""
    store = MemoryStore()
    one, two = await make_node(store), await make_node(store)
    yield one, two
    await one.stop()
    await two.stop()


async def test_who_knows_more_than_the_node_is_not_told_it_again(strangers: tuple[Node, Node]) -> None:
    one, two = strangers
    ann, bob = await guest(one, "Ann"), await guest(two, "Bob")
    welcome = await ann.hello()
    await bob.hello()
    lobby = welcome["rooms"][0]["id"]
    for number in range(3):
        await ann.ask(op="message.send", room="lobby", text=str(number))
    assert bob.events("room.") == bob.events("message.") == []
    back = Client(two, ann.token)
    await back.hello(since={lobby: 3}, epoch=welcome["epoch"])
    await bob.ask(op="message.send", room="lobby", text="3")
    await until(lambda: back.events("message.sent"))
    assert [event["revision"] for event in back.events("message.")] == [4]
    assert back.events("room.") == []
    assert [event["revision"] for event in bob.events("room.changes")] == [3]
