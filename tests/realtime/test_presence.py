"""Who is online: told to those who share a room, reported to the store, and gone when a node is gone."""

import asyncio
from collections.abc import Sequence

import pytest

from parley.buses.memory import Exchange
from parley.errors import StoreUnavailable
from parley.ids import from_ms, now_ms
from parley.models import User
from parley.node import Node
from parley.realtime import presence as presence_module
from parley.realtime.transport import MAX_PENDING_BYTES
from parley.stores.memory import MemoryStore
from tests.realtime.conftest import Client, guest, make_node
from tests.servers import until


def seen(client: Client, of: Client) -> list[bool]:
    """What a client heard of another: online or not, in order."""
    mine = [each for each in client.events("presence.changed") if each["user_id"] == of.session.user.id]
    return [each["online"] for each in mine]


async def test_connected_is_online_and_closed_is_offline(node: Node, ann: Client) -> None:
    bob = await guest(node, "Bob")
    await bob.hello()
    await until(lambda: seen(ann, bob) == [True])
    whose = bob.session.user.id
    assert (await ann.ask(op="user.see", user=whose))["ok"]["user"]["online"] is True
    listed = (await ann.ask(op="user.find"))["ok"]["items"]
    assert {user["id"] for user in listed} == {ann.session.user.id, whose}
    members = (await ann.ask(op="member.list", room="lobby"))["ok"]["items"]
    assert [member["online"] for member in members if member["user_id"] == whose] == [True]
    bob.session.closed()
    assert (await ann.ask(op="user.see", user=whose))["ok"]["user"]["online"] is False
    await until(lambda: seen(ann, bob) == [True, False])
    assert [user["id"] for user in (await ann.ask(op="user.find"))["ok"]["items"]] == [ann.session.user.id]


async def test_one_of_two_devices_is_enough(node: Node, ann: Client, bob: Client) -> None:
    await until(lambda: seen(ann, bob) == [True])
    second = Client(node, bob.token)
    await second.hello()
    bob.session.closed()
    await asyncio.sleep(2 * presence_module.TOLD_SECONDS)
    assert seen(ann, bob) == [True]
    second.session.closed()
    await until(lambda: seen(ann, bob) == [True, False])


async def test_who_was_away_for_a_moment_was_not_away(node: Node, ann: Client, bob: Client) -> None:
    await until(lambda: seen(ann, bob) == [True])
    bob.session.closed()
    again = Client(node, bob.token)
    await again.hello()
    await asyncio.sleep(2 * presence_module.TOLD_SECONDS)
    assert seen(ann, bob) == [True]


async def test_who_reads_slowly_is_spared_what_may_be_skipped(node: Node, ann: Client) -> None:
    bob, cleo = await guest(node, "Bob"), await guest(node, "Cleo")
    await bob.hello()
    await until(lambda: seen(ann, bob) == [True])
    ann.transport.stuck_bytes = MAX_PENDING_BYTES // 2
    await cleo.hello()
    await cleo.ask(op="typing.start", room="lobby")
    await until(lambda: seen(bob, cleo) == [True] and bob.events("typing.started"))
    assert (seen(ann, cleo), ann.events("typing.started"), ann.closed_with) == ([], [], None)
    await cleo.ask(op="message.send", room="lobby", text="this is not skipped")
    await until(lambda: ann.events("message.sent"))
    ann.transport.stuck_bytes = 0
    cleo.session.closed()
    await until(lambda: seen(ann, cleo) == [False])


async def test_strangers_do_not_hear_of_each_other(node: Node, ann: Client, bob: Client) -> None:
    await until(lambda: seen(ann, bob) == [True])
    lobby = node.hub.feeds[node.core.rooms.lobby_id]
    lobby.followers.clear()
    bob.session.closed()
    await asyncio.sleep(2 * presence_module.TOLD_SECONDS)
    assert seen(ann, bob) == [True]


async def test_in_a_crowd_nobody_is_told(
    node: Node, ann: Client, bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await until(lambda: seen(ann, bob) == [True])
    monkeypatch.setattr(presence_module, "MAX_FOLLOWERS", 1)
    cleo = await guest(node, "Cleo")
    await cleo.hello()
    await asyncio.sleep(2 * presence_module.TOLD_SECONDS)
    assert seen(ann, cleo) == []
    assert (await ann.ask(op="user.see", user=cleo.session.user.id))["ok"]["user"]["online"] is True


async def test_nodes_learn_from_the_store_who_is_connected_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(presence_module, "REPORT_SECONDS", 0.02)
    monkeypatch.setattr(presence_module, "LOOK_SECONDS", 0.02)
    store, exchange = MemoryStore(), Exchange()
    one, other = [await make_node(store, exchange) for _ in range(2)]
    ann = await guest(one, "Ann")
    await ann.hello()
    whose = ann.session.user.id
    await until(lambda: other.realtime.presence.is_online(whose))
    assert (await other.core.accounts.see(whose)).online
    assert (await other.core.stats.see()).online == 1
    ann.session.closed()
    await until(lambda: not other.realtime.presence.is_online(whose))
    again = Client(one, ann.token)
    await again.hello()
    await until(lambda: other.realtime.presence.is_online(whose))
    await one.stop()  # it takes back what it said
    await until(lambda: not other.realtime.presence.is_online(whose))
    await other.stop()


async def test_what_a_dead_node_reported_runs_out(monkeypatch: pytest.MonkeyPatch, node: Node) -> None:
    guest_id = (await node.core.accounts.guest("Ann")).user.id
    monkeypatch.setattr(presence_module, "LOOK_SECONDS", 0)
    await node.store.report("a node that died", from_ms(now_ms() + 300), [guest_id], [])
    await node.realtime.presence.look()
    assert node.realtime.presence.is_online(guest_id)
    await asyncio.sleep(0.4)
    await node.realtime.presence.look()
    assert not node.realtime.presence.is_online(guest_id)
    held = presence_module.HOLDS_MS / 1000 + presence_module.LOOK_SECONDS + presence_module.REPORT_SECONDS
    assert held <= 30


async def test_a_store_that_is_away_keeps_nobody_from_coming(
    node: Node, ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[list[str]] = []

    async def report(node_id: str, until: str, came: list[str], went: list[str]) -> bool:
        reports.append(came)
        if len(reports) == 1:
            raise StoreUnavailable
        return True

    monkeypatch.setattr(node.store, "report", report)
    bob = await guest(node, "Bob")
    await bob.hello()
    with pytest.raises(StoreUnavailable):
        await node.realtime.presence.report()
    await node.realtime.presence.report()
    assert len(reports) == 2
    assert reports[0] == reports[1]


async def test_who_goes_while_the_list_is_made_is_not_in_it(
    node: Node, ann: Client, bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = node.store.users

    async def slowly(user_ids: Sequence[str]) -> dict[str, User]:
        bob.session.closed()
        return await look_up(user_ids)

    monkeypatch.setattr(node.store, "users", slowly)
    listed = (await ann.ask(op="user.find"))["ok"]["items"]
    assert [user["id"] for user in listed] == [ann.session.user.id]
