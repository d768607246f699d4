"""A session answers commands in order, resumes without holes, and ends for stated reasons."""

from typing import Any

import pytest

from parley.errors import StoreUnavailable
from parley.ids import new_id
from parley.models import Changes
from parley.node import Node
from parley.realtime import flow, protocol
from parley.realtime.protocol import Close
from parley.realtime.transport import MAX_PENDING_BYTES
from tests.realtime.conftest import Client, guest, make_node, turn
from tests.servers import until


async def say(client: Client, *texts: str, room: str = "lobby") -> list[dict[str, Any]]:
    return [(await client.ask(op="message.send", room=room, text=text))["ok"]["message"] for text in texts]


async def test_the_first_command_is_hello(node: Node) -> None:
    client = await guest(node, "Ann")
    answer = await client.ask(op="message.send", room="lobby", text="hi")
    assert answer["error"]["kind"] == "unauthenticated"
    assert client.closed_with == Close.BAD_HELLO


async def test_a_client_that_says_nothing_is_sent_away(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HELLO_SECONDS", 0.01)
    client = await guest(node, "Ann")
    await until(lambda: client.closed_with is not None)
    assert client.closed_with == Close.BAD_HELLO


@pytest.mark.parametrize(
    ("token", "code"), [(None, "token_missing"), ("guess", "token_invalid"), ("ü", "token_invalid")]
)
async def test_a_wrong_token_is_refused(node: Node, token: str | None, code: str) -> None:
    client = Client(node, token)
    answer = await client.ask(op="hello", token=token)
    assert answer["error"]["code"] == code
    assert client.closed_with == Close.UNAUTHENTICATED


async def test_hello_said_twice_is_refused_and_harmless(ann: Client) -> None:
    answer = await ann.ask(op="hello", token=ann.token)
    assert answer["error"]["code"] == "invalid_field"
    await say(ann, "still here")


async def test_pipelined_sends_keep_their_order(ann: Client) -> None:
    refs = [ann.send(op="message.send", room="lobby", text=str(number)) for number in range(40)]
    await until(lambda: ann.answer(refs[-1]) is not None)
    seqs = [ann.answer(ref)["ok"]["message"]["seq"] for ref in refs]  # type: ignore[index]
    assert seqs == list(range(1, 41))


async def test_what_comes_behind_a_slow_command_waits_for_it(ann: Client) -> None:
    create = ann.send(op="room.create", name="kitchen")
    send = ann.send(op="message.send", room="kitchen", text="first")
    page = ann.send(op="message.page", room="kitchen")
    await until(lambda: ann.answer(page) is not None)
    assert ann.answer(create)["ok"]["room"]["name"] == "kitchen"  # type: ignore[index]
    assert ann.answer(send)["ok"]["message"]["seq"] == 1  # type: ignore[index]
    assert [message["text"] for message in ann.answer(page)["ok"]["items"]] == ["first"]  # type: ignore[index]


async def test_the_same_id_again_answers_the_stored_message(ann: Client) -> None:
    command = {"op": "message.send", "room": "lobby", "id": new_id(), "text": "once"}
    first, second = await ann.ask(**command), await ann.ask(**command)
    assert first["ok"] == second["ok"]
    assert [event["revision"] for event in ann.events("message.sent")] == [1]
    assert (await ann.ask(**command | {"text": "twice"}))["error"]["code"] == "id_taken"


async def test_who_comes_back_is_told_what_they_missed(node: Node, ann: Client) -> None:
    bob = await guest(node, "Bob")
    welcome = await bob.hello()
    lobby = welcome["rooms"][0]["id"]
    [first] = await say(ann, "one")
    await turn()
    bob.session.closed()
    await say(ann, "two", "three")
    await ann.ask(op="message.edit", room="lobby", message=first["id"], text="one, corrected")
    again = Client(node, bob.token)
    await again.hello(since={lobby: 1}, epoch=welcome["epoch"])
    await turn()
    [changes] = again.events()
    assert changes["event"] == "room.changes"
    assert (changes["since"], changes["revision"], changes["reset"]) == (1, 4, False)
    assert [(each["seq"], each["text"]) for each in changes["messages"]] == [
        (2, "two"),
        (3, "three"),
        (1, "one, corrected"),
    ]


async def test_who_missed_nothing_is_told_nothing(node: Node, ann: Client) -> None:
    await say(ann, "one")
    bob = await guest(node, "Bob")
    welcome = await bob.hello(since={node.core.rooms.lobby_id: 1})
    await turn()
    assert bob.events() == []
    assert welcome["rooms"][0]["revision"] == 1


@pytest.mark.parametrize(
    ("since", "epoch", "reason"), [(1, None, "behind"), (10**6, None, "ahead"), (60, "another", "epoch")]
)
async def test_a_history_that_cannot_be_continued_is_reset(
    node: Node, ann: Client, since: int, epoch: str | None, reason: str
) -> None:
    await say(ann, *(str(number) for number in range(60)))
    ann.session.closed()
    bob = await guest(node, "Bob")
    await bob.hello(since={node.core.rooms.lobby_id: since}, epoch=epoch)
    await turn()
    [reset] = bob.events()
    assert (reset["event"], reset["reason"], reset["revision"]) == ("room.reset", reason, 60)
    assert [message["seq"] for message in reset["messages"]] == list(range(11, 61))
    assert reset["room"]["name"] == "lobby"


async def test_a_storm_of_returns_asks_the_store_nothing(
    node: Node, ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rooms are live here, and what was missed is among their recent events."""
    await say(ann, *(str(number) for number in range(20)))
    asked: list[object] = []
    changes = node.store.changes

    async def counting(room_id: str, since: int, limit: int) -> Changes:
        asked.append((room_id, since))
        return await changes(room_id, since, limit)

    monkeypatch.setattr(node.store, "changes", counting)
    for number in range(50):
        client = await guest(node, f"Guest {number}")
        await client.hello(since={node.core.rooms.lobby_id: number % 20})
        await turn()
        assert client.events("room.changes")[-1]["revision"] == 20
    assert asked == []


async def test_a_room_joined_elsewhere_appears_on_every_connection(
    node: Node, ann: Client, bob: Client
) -> None:
    await bob.ask(op="room.create", name="kitchen")
    phone = Client(node, ann.token)
    await phone.hello()
    room = (await phone.ask(op="room.join", room="kitchen"))["ok"]["room"]
    await until(lambda: ann.events("room.added"))
    await say(bob, "dinner", room="kitchen")
    for client in (ann, phone):
        await until(lambda client=client: client.events("message.sent"))
        assert client.events("room.added")[0]["room"]["id"] == room["id"]
    await ann.ask(op="room.leave", room="kitchen")
    await say(bob, "more dinner", room="kitchen")
    await turn()
    assert [event["revision"] for event in ann.events("message.sent")] == [1]
    assert ann.events("member.left")[0]["room_id"] == room["id"]


async def test_a_public_room_is_followed_without_joining_it(node: Node, ann: Client, bob: Client) -> None:
    await bob.ask(op="room.create", name="kitchen")
    opened = await ann.ask(op="room.open", room="kitchen")
    assert "role" not in opened["ok"]["room"]
    await say(bob, "dinner", room="kitchen")
    await until(lambda: ann.events("message.sent"))
    refused = await ann.ask(op="message.send", room="kitchen", text="may I?")
    assert refused["error"]["code"] == "not_a_member"


async def test_a_client_that_does_not_read_is_closed_and_forgotten(
    node: Node, ann: Client, bob: Client
) -> None:
    bob.transport.stuck = True
    while bob.closed_with is None:
        await say(ann, "x" * 16_000)
        assert bob.transport.stuck_bytes < 2 * MAX_PENDING_BYTES
    assert bob.closed_with == Close.TOO_SLOW
    assert bob.session not in node.hub.feeds[node.core.rooms.lobby_id].followers
    assert ann.closed_with is None


async def test_a_client_that_writes_too_fast_is_not_read_from(node: Node, ann: Client) -> None:
    refs = [ann.send(op="message.page", room="lobby") for _ in range(flow.PAUSE_AT)]
    assert ann.transport.paused
    await until(lambda: ann.answer(refs[-1]) is not None)
    assert not ann.transport.paused


async def test_a_store_that_is_away_is_an_error_that_can_be_retried(
    node: Node, ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*given: object) -> None:
        raise StoreUnavailable(retry_after=1)

    command = {"op": "message.send", "room": "lobby", "id": new_id(), "text": "hi"}
    with monkeypatch.context() as patch:
        patch.setattr(node.store, "apply", away)
        error = (await ann.ask(**command))["error"]
    assert error == {
        "code": "store_unavailable",
        "kind": "unavailable",
        "detail": StoreUnavailable.sentence,
        "retryable": True,
        "retry_after": 1,
    }
    assert (await ann.ask(**command))["ok"]["message"]["seq"] == 1


async def test_who_cannot_be_told_what_they_missed_is_to_come_back(
    node: Node, ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*given: object) -> None:
        raise StoreUnavailable(retry_after=1)

    await say(ann, "one")
    ann.session.closed()
    monkeypatch.setattr(node.store, "changes", away)
    bob = await guest(node, "Bob")
    await bob.hello(since={node.core.rooms.lobby_id: 0})
    await until(lambda: bob.closed_with is not None)
    assert bob.closed_with == Close.RESTARTING
    assert node.hub.feeds == {}


async def test_signing_out_ends_every_connection_of_the_session(node: Node, ann: Client, bob: Client) -> None:
    phone = Client(node, ann.token)
    await phone.hello()
    await phone.ask(op="session.end")
    await until(lambda: ann.closed_with is not None)
    assert ann.events("session.ended")
    assert ann.closed_with == phone.closed_with == Close.SESSION_ENDED
    assert bob.closed_with is None


async def test_a_session_that_runs_out_ends_its_connections() -> None:
    import time_machine

    node = await make_node(session_ttl=60)
    ann, bob = await guest(node, "Ann"), await guest(node, "Bob")
    with time_machine.travel(0, tick=False) as clock:
        ann, bob = await guest(node, "Ann"), await guest(node, "Bob")
        await ann.hello()
        await bob.hello()
        clock.shift(50)
        await say(ann, "I am still here")
        clock.shift(20)
        await node.core.sessions.save()
        await node._end_sessions()
        assert (ann.closed_with, bob.closed_with) == (None, Close.SESSION_ENDED)
        assert (await Client(node, bob.token).ask(op="hello", token=bob.token))["error"][
            "code"
        ] == "token_expired"
        clock.shift(50)
        await node._end_sessions()
        assert (ann.closed_with, bob.closed_with) == (Close.SESSION_ENDED, Close.SESSION_ENDED)
    await node.stop()
