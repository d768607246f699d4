"""A node that ends: what it still does, and how its clients are sent away."""

import asyncio
from typing import Any

import pytest

from parley import events
from parley import node as node_module
from parley.node import AT_LEAST, Node
from parley.realtime.feed import PlainFeed
from parley.realtime.protocol import Close
from tests.contracts.kitchen import done, send
from tests.frames import FEED
from tests.realtime.conftest import Client, RecordingTransport, guest, make_node, turn
from tests.servers import until

MANY = 3 * AT_LEAST


async def crowded(count: int = MANY, **settings: Any) -> tuple[Node, list[Client]]:
    """A node with so many connections, all of Ann's."""
    node = await make_node(rate_limit=0, **settings)
    ann = await guest(node, "Ann")
    clients = [Client(node, ann.token) for _ in range(count)]
    for client in clients:
        await client.hello()
    ann.session.closed()
    return node, clients


async def test_clients_are_sent_away_a_few_at_a_time_and_until_then_hear_what_happens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(node_module, "PART_SECONDS", 0.2)
    node, clients = await crowded()
    draining = asyncio.create_task(node.drain())
    await until(lambda: any(client.closed_with for client in clients))
    staying = [client for client in clients if client.closed_with is None]
    assert len(staying) == MANY - AT_LEAST

    ann, lobby = clients[0].session.user, await node.store.room("lobby")
    assert lobby is not None
    change = send(lobby, ann, "from another node")
    event = events.of_change(change, await done(node.store, change))
    node.everywhere.arrived(f"room:{lobby.id}", events.encode(event))
    await turn()
    assert all(client.events("message.sent") for client in staying)

    refused = await staying[0].ask(op="message.send", room="lobby", text="hi")
    assert (refused["error"]["code"], refused["error"]["retryable"]) == ("draining", True)
    await draining
    assert {client.closed_with for client in clients} == {Close.RESTARTING}
    await node.stop()


@pytest.mark.parametrize(("count", "seconds"), [(AT_LEAST, 1000), (MANY, 0.1), (MANY, 0)])
async def test_few_clients_or_little_time_need_no_wait(
    count: int, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_module, "PART_SECONDS", 100)
    node, clients = await crowded(count, drain_seconds=min(seconds, 600))
    async with asyncio.timeout(5):
        await node.stop()
    assert {client.closed_with for client in clients} == {Close.RESTARTING}


async def test_all_have_gone_when_half_of_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_module, "AT_LEAST", 1)
    node, clients = await crowded(drain_seconds=0.6)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await node.drain()
    assert 0.15 < loop.time() - began < 2
    assert {client.closed_with for client in clients} == {Close.RESTARTING}
    await node.stop()


async def test_who_comes_while_a_node_drains_is_asked_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_module, "PART_SECONDS", 0.2)
    node, _ = await crowded()
    early, token = await guest(node, "Bob"), (await node.core.accounts.guest("Bob")).token
    feed = RecordingTransport(FEED)
    PlainFeed(node.realtime, feed, "kitchen", "cleo").opened()
    draining = asyncio.create_task(node.drain())
    await turn()
    late = Client(node, token)
    assert late.closed_with == Close.RESTARTING
    if early.closed_with is None:  # it was not among the first ones
        early.send(op="hello", token=early.token)
    assert early.closed_with == Close.RESTARTING
    await draining
    assert feed.closed_with == Close.RESTART
    await node.stop()
