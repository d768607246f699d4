"""What happens at the wrong moment: in the middle of hello, of a join, of a stop."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from parley import events
from parley.errors import StoreUnavailable
from parley.events import MessageEdited
from parley.models import Room, RoomChange, Session, User
from parley.node import Node
from parley.realtime import protocol
from parley.realtime.feed import PlainFeed
from parley.realtime.protocol import Close
from parley.stores.memory import MemoryStore
from tests.frames import FEED
from tests.realtime.conftest import Client, RecordingTransport, guest, make_node, turn
from tests.servers import until


class Held(MemoryStore):
    """A store in which some steps wait after they have read, until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.door = asyncio.Event()
        self.door.set()
        self.waiting = 0

    async def is_asked(self) -> None:
        """Wait until somebody stands before the gate or the door."""
        await until(lambda: self.waiting > 0, what="a question to the store")

    async def _pass(self, way: asyncio.Event) -> None:
        self.waiting += 1
        await way.wait()
        self.waiting -= 1

    async def rooms_of(self, user_ids: Sequence[str]) -> dict[str, list[Room]]:
        rooms = await super().rooms_of(user_ids)
        await self._pass(self.gate)
        return rooms

    async def room(self, key: str, user_id: str | None = None) -> Room | None:
        room = await super().room(key, user_id)
        await self._pass(self.gate)
        return room

    async def sessions(self, session_ids: Sequence[str]) -> dict[str, tuple[Session, User]]:
        found = await super().sessions(session_ids)
        await self._pass(self.door)
        return found


@pytest.fixture
def store() -> Held:
    return Held()


@pytest.fixture
async def held(store: Held) -> Any:
    node = await make_node(store)
    yield node
    store.gate.set()
    await node.stop()


async def kitchen(node: Node) -> Room:
    cleo = await node.core.accounts.guest("Cleo")
    return await node.core.rooms.create(cleo.user, name="kitchen", title=None)


async def say(node: Node, room: Room, text: str) -> None:
    assert room.created_by is not None
    await node.core.messages.send(await node.core.accounts.see(room.created_by), room.id, text)


async def test_who_goes_away_before_their_token_was_looked_at_is_not_online(held: Node, store: Held) -> None:
    ann = await guest(held, "Ann")
    store.door.clear()
    ann.send(op="hello", token=ann.token)
    await store.is_asked()
    ann.session.closed()
    store.door.set()
    await until(lambda: ann.session._worker is None)
    assert held.hub.sessions == {}
    assert held.hub.feeds == {}


async def test_a_join_in_the_middle_of_hello_is_heard_of(held: Node, store: Held) -> None:
    room = await kitchen(held)
    ann = await guest(held, "Ann")
    store.gate.clear()
    ref = ann.send(op="hello", token=ann.token)
    await store.is_asked()
    await MemoryStore.join(store, room.id, ann.session.user.id, "member", room.created_at)  # type: ignore[arg-type]
    held.hub.joined(ann.session.user.id, room.id)
    store.gate.set()
    await until(lambda: ann.answer(ref) is not None)
    await until(lambda: ann.events("room.added"))
    await say(held, room, "dinner")
    await until(lambda: ann.events("message.sent"))


async def test_a_leave_in_the_middle_of_hello_is_no_ghost(held: Node, store: Held) -> None:
    room = await kitchen(held)
    ann = await guest(held, "Ann")
    caller = await held.core.sessions.authenticate(ann.token)
    await held.core.rooms.join(caller.user, "kitchen")
    store.gate.clear()
    ref = ann.send(op="hello", token=ann.token)
    await store.is_asked()
    await store.leave(room.id, caller.user.id, room.created_at)
    held.hub.left(caller.user.id, room.id)
    store.gate.set()
    await until(lambda: ann.answer(ref) is not None)
    await say(held, room, "private")
    await turn()
    assert ann.events("message.sent") == []
    assert room.id not in held.hub.feeds


async def test_signing_out_in_the_middle_of_hello_ends_it(held: Node, store: Held) -> None:
    ann = await guest(held, "Ann")
    caller = await held.core.sessions.authenticate(ann.token)
    store.gate.clear()
    ann.send(op="hello", token=ann.token)
    await store.is_asked()
    await held.core.sessions.sign_out(caller)
    store.gate.set()
    await until(lambda: ann.closed_with is not None)
    await turn()
    assert ann.closed_with == Close.SESSION_ENDED
    assert held.hub.sessions == {}
    await until(lambda: held.hub.feeds == {})


async def test_a_join_that_is_told_after_the_leave_makes_no_ghost(node: Node, ann: Client) -> None:
    room = await kitchen(node)
    joined = await node.core.rooms.join(ann.session.user, "kitchen")
    await node.core.rooms.leave(ann.session.user, "kitchen")
    await turn()
    node.hub.joined(ann.session.user.id, joined.id)
    await say(node, room, "who is there?")
    await turn()
    assert ann.events("message.sent") == []
    assert room.id not in node.hub.feeds


async def test_who_leaves_a_public_room_may_open_it_at_once(node: Node, ann: Client) -> None:
    room = await kitchen(node)
    for op in ("room.join", "room.leave"):
        ann.send(op=op, room="kitchen")
    opened = ann.send(op="room.open", room="kitchen")
    await until(lambda: ann.answer(opened) is not None)
    assert "ok" in (ann.answer(opened) or {})
    await say(node, room, "who is there?")
    await until(lambda: ann.events("message.sent"))


async def test_who_joins_and_leaves_at_once_is_left(node: Node, ann: Client) -> None:
    room = await kitchen(node)
    ann.send(op="room.join", room="kitchen")
    left = ann.send(op="room.leave", room="kitchen")
    await until(lambda: ann.answer(left) is not None)
    await say(node, room, "who is there?")
    await turn()
    assert ann.events("message.sent") == []
    assert room.id not in node.hub.feeds


async def test_a_slow_store_does_not_send_a_client_away_for_good(
    held: Node, store: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HELLO_SECONDS", 0.02)
    ann = await guest(held, "Ann")
    store.gate.clear()
    ref = ann.send(op="hello", token=ann.token)
    await asyncio.sleep(0.05)
    store.gate.set()
    await until(lambda: ann.answer(ref) is not None)
    assert ann.closed_with is None


async def test_nonsense_behind_a_good_hello_is_only_an_error(node: Node) -> None:
    ann = await guest(node, "Ann")
    ref = ann.send(op="hello", token=ann.token)
    ann.session.received("nonsense")
    await until(lambda: ann.answer(ref) is not None)
    assert ann.closed_with is None


@pytest.mark.parametrize("turns", range(24))
async def test_a_connection_that_ends_at_any_moment_leaves_nothing_behind(node: Node, turns: int) -> None:
    room = await kitchen(node)
    ann = await guest(node, "Ann")
    ann.send(op="hello", token=ann.token, since={room.id: 0})
    ann.send(op="room.join", room="kitchen")
    ann.send(op="room.open", room="lobby")
    for _ in range(turns):
        await asyncio.sleep(0)
    ann.session.closed()
    await until(lambda: ann.session._worker is None)
    await turn()
    assert (node.hub.feeds, node.hub.sessions, node.realtime.clients) == ({}, {}, set())


@pytest.mark.parametrize("turns", range(6))
async def test_a_plain_feed_that_ends_at_any_moment_leaves_nothing_behind(node: Node, turns: int) -> None:
    feed = PlainFeed(node.realtime, RecordingTransport(FEED), "kitchen", "ann")
    feed.opened()
    for _ in range(turns):
        await asyncio.sleep(0)
    feed.closed()
    await until(lambda: feed._worker is None)
    assert (node.hub.feeds, node.realtime.clients) == ({}, set())


async def test_settings_that_changed_are_told_to_everybody_who_returns(node: Node) -> None:
    lobby = node.core.rooms.lobby_id
    watching = await guest(node, "Bob")
    await watching.hello()
    await node.store.change_room(lobby, RoomChange(history_limit=20))
    for name in ("Ann", "Cleo"):
        client = await guest(node, name)
        await client.hello(since={lobby: 0})
        await until(lambda client=client: client.events("room.changes"))
        assert client.events("room.changes")[0]["room"]["history_limit"] == 20


async def test_what_is_no_longer_kept_is_not_told_from_memory_either(node: Node, ann: Client) -> None:
    lobby = node.core.rooms.lobby_id
    await node.store.change_room(lobby, RoomChange(history_limit=3))
    for number in range(10):
        await ann.ask(op="message.send", room="lobby", text=str(number))
    bob = await guest(node, "Bob")
    await bob.hello(since={lobby: 2})
    await until(bob.events)
    [reset] = bob.events()
    assert (reset["event"], len(reset["messages"])) == ("room.reset", 3)


async def test_session_ends_survive_a_store_that_is_away(
    node: Node, ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[dict[str, str]] = []

    async def away(ends: dict[str, str]) -> None:
        saved.append(ends)
        raise StoreUnavailable

    await ann.ask(op="message.send", room="lobby", text="hi")
    with monkeypatch.context() as patch:
        patch.setattr(node.store, "extend_sessions", away)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await node.core.sessions.save()
    assert saved[0] == saved[1] != {}


async def test_signing_out_is_answered_once_and_only_when_it_is_so(
    node: Node, ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(session_id: str) -> None:
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(node.store, "end_session", away)
        assert (await ann.ask(op="session.end"))["error"]["code"] == "store_unavailable"
    assert "ok" in await ann.ask(op="session.end")
    assert len([line for line in ann.lines() if "ref" in line]) == 3


async def test_a_stop_reaches_those_who_have_not_said_hello() -> None:
    node = await make_node()
    silent = await guest(node, "Ann")
    await node.stop()
    assert silent.closed_with == Close.RESTARTING


async def test_a_hung_store_does_not_hold_up_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    node = await make_node(drain_seconds=0.05)
    ann = await guest(node, "Ann")
    await ann.hello()

    async def hang(changes: object) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(node.store, "apply", hang)
    ref = ann.send(op="message.send", room="lobby", text="hi")
    async with asyncio.timeout(5):
        await node.stop()
    answer = ann.answer(ref)
    assert answer is not None
    assert answer["error"]["code"] == "draining"


async def test_a_part_that_dies_sends_everybody_away(node: Node, ann: Client) -> None:
    died: list[str] = []
    node.on_death = died.append
    node._died("audit")
    assert (died, ann.closed_with) == (["audit"], Close.RESTARTING)


async def test_a_start_that_fails_lets_go_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []

    class Watched(MemoryStore):
        async def room(self, key: str, user_id: str | None = None) -> Room | None:
            raise StoreUnavailable

        async def close(self) -> None:
            closed.append(True)

    with pytest.raises(StoreUnavailable):
        await make_node(Watched())
    assert closed == [True]


async def test_one_connection_that_cannot_be_told_does_not_silence_the_others(
    node: Node, ann: Client, bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(frame: bytes) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(bob.transport, "send", broken)
    await node.core.messages.send(ann.session.user, node.core.rooms.lobby_id, "one")
    await until(lambda: ann.events("message.sent"))
    assert bob.session not in node.hub.feeds[node.core.rooms.lobby_id].followers


async def test_a_room_is_found_however_its_name_was_typed(node: Node, ann: Client) -> None:
    created = await ann.ask(op="room.create", name="Zoe\u0308")
    for typed in ("Zoë", "zoe\u0308", "ZOË"):
        assert (await ann.ask(op="room.see", room=typed))["ok"]["room"]["id"] == created["ok"]["room"]["id"]


async def test_what_is_said_in_the_middle_of_hello_is_not_missed(held: Node, store: Held) -> None:
    ann, bob = await guest(held, "Ann"), await guest(held, "Bob")
    await ann.hello()
    store.gate.clear()
    ref = bob.send(op="hello", token=bob.token)
    await store.is_asked()
    await held.core.messages.send(ann.session.user, held.core.rooms.lobby_id, "one")
    store.gate.set()
    await until(lambda: bob.answer(ref) is not None)
    await until(bob.events)
    [changes] = bob.events()
    assert (changes["event"], changes["since"], changes["revision"]) == ("room.changes", 0, 1)


async def test_who_follows_in_the_middle_of_a_turn_is_not_told_what_came_before(
    node: Node, ann: Client, bob: Client
) -> None:
    lobby = node.core.rooms.lobby_id
    feed = node.hub.feeds[lobby]
    bob.session.unfollow(lobby)
    message = (await node.core.messages.send(ann.session.user, lobby, "one")).message
    await turn()
    event = MessageEdited(room_id=lobby, revision=2, message=message)
    node.hub.deliver(event, events.encode(event))
    node.hub.follow(feed, bob.session)
    await turn()
    assert bob.events() == []
    assert [line["revision"] for line in ann.events()] == [1, 2]
