"""Async chat: one common room whose last messages come first, a console, and any number of conversations of
two, with a list of who is connected that stays right."""

import asyncio
import json
import os
import signal
import time
from contextlib import AsyncExitStack
from uuid import uuid4

import httpx2
import pytest
from websockets.asyncio.client import connect

from tests.acceptance.conftest import Member, SignUp
from tests.acceptance.places import Place
from tests.client.conftest import Console, OpenConsole
from tests.servers import ServerProcess, until
from tests.web.conftest import socket

PLACES = [Place("sqlite", "memory"), Place("redis", "redis"), Place("redis", "rabbitmq")]

GONE_SECONDS = 30
"""How soon everybody sees that a connection has died without saying so."""
SETTLED_SECONDS = 1.5
"""After this, what was on its way between nodes and store has arrived."""


async def say(person: Member, text: str) -> None:
    answer = await asyncio.to_thread(person.post, "/rooms/lobby/messages", json={"text": text})
    assert answer.status_code == 201


def online(person: Member) -> set[str]:
    """The ids in the list of those who are connected."""
    found: set[str] = set()
    cursor: dict[str, str] = {}
    while True:
        page = person.get("/users", params={"limit": 200, **cursor}).json()
        found |= {user["id"] for user in page["items"]}
        assert all(user["online"] for user in page["items"])
        if page["next"] is None:
            return found
        cursor = {"cursor": page["next"]}


# The common room


async def test_the_last_fifty_come_over_rest_and_the_socket_goes_on_from_there(
    ann: Member, bob: Member
) -> None:
    for number in range(60):
        await say(ann, f"number {number}")
    lobby = bob.get("/rooms/lobby").json()
    page = bob.get("/rooms/lobby/messages").json()["items"]
    assert [each["text"] for each in page] == [f"number {number}" for number in range(10, 60)]
    await say(ann, "said between the page and the socket")
    async with socket(bob, since={lobby["id"]: lobby["revision"]}) as bobs:
        missed = (await bobs.event("room.changes"))["messages"]
        assert [each["text"] for each in missed] == ["said between the page and the socket"]
        await say(ann, "said live")
        assert (await bobs.message())["text"] == "said live"
        await bobs.ask(op="message.send", room="lobby", text="answered")
    newest = ann.get("/rooms/lobby/messages").json()["items"]
    assert len(newest) == 50
    assert [each["text"] for each in newest[-2:]] == ["said live", "answered"]


async def test_consoles_talk_in_the_common_room(
    server: ServerProcess, elsewhere: ServerProcess, console: OpenConsole
) -> None:
    before = {"user": "john", "room": "lobby", "text": "hello from curl"}
    httpx2.post(f"{elsewhere.url}/messages", json=before).raise_for_status()
    ann = await console("ann", "lobby", server.url)
    while await ann.read() != ["john: hello from curl"]:
        pass
    bob = await console("bob", "lobby", elsewhere.url)
    while await bob.read() != ["john: hello from curl"]:
        pass
    await ann.write("good morning")
    for each in (ann, bob):
        assert await each.read() == ["ann: good morning"]
    await bob.write("to you too")
    for each in (ann, bob):
        assert await each.read() == ["bob: to you too"]
    assert await ann.end() == (0, [], [])
    assert await bob.end() == (0, [], [])


# One to one


async def test_anybody_holds_any_number_of_conversations_at_once(ann: Member, sign_up: SignUp) -> None:
    peers = [await asyncio.to_thread(sign_up, f"peer{number}") for number in range(12)]
    async with AsyncExitStack() as stack:
        anns = await stack.enter_async_context(socket(ann))
        theirs = [await stack.enter_async_context(socket(peer)) for peer in peers]
        for peer in peers:
            sent = await anns.ask(op="message.send", user=peer.name, text=f"only for {peer.name}")
            assert sent["ok"]["message"]["seq"] == 1
        for peer, client in zip(peers, theirs, strict=True):
            added = await client.event("room.added")
            assert added["room"]["kind"] == "direct"
            page = peer.get(f"/rooms/{added['room_id']}/messages").json()["items"]
            assert [each["text"] for each in page] == [f"only for {peer.name}"]
        for peer in reversed(peers):
            answer = peer.post(f"/direct/{ann.name}/messages", json={"text": f"from {peer.name}"})
            assert (answer.status_code, answer.json()["seq"]) == (201, 2)
        told = [await anns.message() for _ in peers]
        assert [each["author_id"] for each in told] == [peer.id for peer in reversed(peers)]
    mine = ann.get("/rooms", params={"scope": "mine"}).json()["items"]
    direct = {each["peer"]["id"]: each["id"] for each in mine if each["kind"] == "direct"}
    assert set(direct) == {peer.id for peer in peers}
    for peer, other in zip(peers, [*peers[1:], peers[0]], strict=True):
        assert peer.get(f"/rooms/{direct[peer.id]}/messages").json()["items"][1]["author_id"] == peer.id
        assert peer.get(f"/rooms/{direct[other.id]}/messages").json()["code"] == "room_not_found"


async def test_both_write_first_and_it_is_one_conversation(ann: Member, bob: Member) -> None:
    async with socket(ann) as anns, socket(bob) as bobs:
        first, second = await asyncio.gather(
            anns.ask(op="message.send", user=bob.name, text="after you"),
            bobs.ask(op="message.send", user=ann.id, text="no, after you"),
        )
    stored = [each["ok"]["message"] for each in (first, second)]
    assert stored[0]["room_id"] == stored[1]["room_id"]
    assert {each["seq"] for each in stored} == {1, 2}


async def test_every_message_names_where_it_goes(ann: Member, bob: Member) -> None:
    async with socket(ann) as anns:
        for where, code in (
            ({}, "invalid_field"),
            ({"room": "lobby", "user": bob.id}, "invalid_field"),
            ({"user": "nobody-of-that-name"}, "user_not_found"),
            ({"user": ann.name}, "invalid_field"),
        ):
            refused = await anns.ask(op="message.send", text="hello", **where)
            assert refused["error"]["code"] == code
    assert ann.post(f"/direct/{uuid4()}/messages", json={"text": "hi"}).json()["code"] == "user_not_found"


# Who is connected


async def test_the_list_of_the_connected_is_right_whoever_comes_and_goes(
    server: ServerProcess, ann: Member, bob: Member, cleo: Member
) -> None:
    phone = Member(server, bob.name, path="/sessions")
    ours = {ann.id, bob.id, cleo.id}

    async def the_list_is(*who: Member) -> None:
        connected = {each.id for each in who}
        for reader in (ann, bob):
            await until(
                lambda reader=reader: online(reader) & ours == connected, what=f"the list for {reader.name}"
            )

    await the_list_is()
    async with socket(bob):
        await the_list_is(bob)
        async with socket(cleo), socket(phone):
            await the_list_is(bob, cleo)
        await the_list_is(bob)
        assert ann.get(f"/users/{bob.name}").json()["online"] is True
    await the_list_is()
    for reader in (ann, bob):
        seen = reader.get(f"/users/{bob.id}").json()
        assert (seen["online"], seen["last_seen_at"] is not None) == (False, True)
    phone.http.close()


async def test_after_a_hundred_comings_and_goings_nobody_is_left_in_the_list(
    server: ServerProcess, elsewhere: ServerProcess, ann: Member, bob: Member
) -> None:
    async def come_and_go(number: int) -> None:
        node = (server, elsewhere)[number // 3 % 2]
        async with connect(node.ws, proxy=None) as connection:
            await connection.send(json.dumps({"op": "hello", "ref": 1, "token": bob.token}))
            if number % 3:
                await connection.recv()
            if number % 2:
                connection.transport.abort()

    await asyncio.gather(*(come_and_go(number) for number in range(100)))
    await until(lambda: bob.id not in online(ann), what="bob's last connection ending")
    async with socket(bob):
        await until(lambda: bob.id in online(ann), what="bob coming back")
        await asyncio.sleep(SETTLED_SECONDS)
        assert bob.id in online(ann)
    await until(lambda: bob.id not in online(ann), what="bob going for good")
    await asyncio.sleep(SETTLED_SECONDS)
    assert bob.id not in online(ann)


async def test_those_in_the_room_are_told_who_comes_and_goes(ann: Member, bob: Member) -> None:
    async with socket(ann) as anns:

        async def told() -> bool:
            while (event := await anns.event("presence.changed"))["user_id"] != bob.id:
                pass
            return bool(event["online"])

        async with socket(bob):
            assert await told() is True
        assert await told() is False


async def come_as_dora(console: OpenConsole, at: ServerProcess, ann: Member) -> tuple[Console, str]:
    """A console of somebody new in the lobby, and their id."""
    before = online(ann)
    dora = await console("dora", "lobby", at.url)
    await until(lambda: online(ann) - before, what="dora coming")
    [dora_id] = online(ann) - before
    return dora, dora_id


async def test_a_client_that_is_killed_is_gone(
    elsewhere: ServerProcess, ann: Member, console: OpenConsole
) -> None:
    dora, dora_id = await come_as_dora(console, elsewhere, ann)
    dora.process.kill()
    await until(lambda: dora_id not in online(ann), 2, "the end of a process that was killed")
    assert ann.get(f"/users/{dora_id}").json()["online"] is False


@pytest.mark.slow
async def test_a_client_that_falls_silent_is_gone_within_half_a_minute(
    elsewhere: ServerProcess, ann: Member, console: OpenConsole
) -> None:
    dora, dora_id = await come_as_dora(console, elsewhere, ann)
    os.kill(dora.process.pid, signal.SIGSTOP)  # its connection stays open, and nobody answers
    began = time.monotonic()
    await until(lambda: dora_id not in online(ann), GONE_SECONDS, "the end of a silent connection")
    assert time.monotonic() - began > 1, "it was no silence that ended it"
    assert ann.get(f"/users/{dora_id}").json()["online"] is False
