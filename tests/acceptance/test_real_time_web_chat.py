"""Real-time web chat: accounts, one stream for everything, a life after lost connections, receipts and
groups. What a browser does belongs to it, too; its demo accounts are in `test_demo.py`."""

import asyncio
import json
from itertools import cycle
from typing import Any
from uuid import uuid4

import pytest
from websockets.exceptions import ConnectionClosed

from tests.acceptance.conftest import PASSWORD, Member
from tests.acceptance.places import Place
from tests.servers import ServerProcess
from tests.web.conftest import Socket, connect, socket

PLACES = [Place("sqlite", "memory"), Place("postgresql", "redis"), Place("postgresql", "rabbitmq")]

REVOKED_SECONDS = 1.0
"""How soon a session that was ended is over for those who are connected, on whatever node."""


def say(person: Member, room: str, text: str, **more: Any) -> dict[str, Any]:
    answer = person.post(f"/rooms/{room}/messages", json={"text": text, **more})
    assert answer.status_code in (200, 201), answer.text
    message: dict[str, Any] = answer.json()
    return message


async def reaches(speaker: Member, room: str, listener: Socket) -> None:
    """Wait until the listener hears what the speaker does as it happens: on another node a moment after
    hello."""
    for _ in range(100):
        speaker.put(f"/rooms/{room}/typing").raise_for_status()
        try:
            async with asyncio.timeout(0.1):
                await listener.event("typing.started")
                return
        except TimeoutError:
            speaker.delete(f"/rooms/{room}/typing").raise_for_status()
    raise AssertionError("the listener hears nothing")


# Signing up and in


async def test_who_signs_up_signs_in_on_any_device(elsewhere: ServerProcess, ann: Member) -> None:
    laptop = Member(elsewhere, ann.name, path="/sessions")
    assert laptop.id == ann.id
    assert laptop.token != ann.token
    assert laptop.get("/me").json()["name"] == ann.name
    for name, password in ((ann.name, "wrong horse battery"), (f"no-{ann.name}"[:32], PASSWORD)):
        refused = ann.post("/sessions", json={"name": name, "password": password})
        assert (refused.status_code, refused.json()["code"]) == (401, "wrong_password")
    taken = ann.post("/accounts", json={"name": ann.name, "password": PASSWORD})
    assert taken.json()["code"] == "name_taken"
    async with socket(ann) as phone, socket(laptop) as desk:
        sent = await phone.ask(op="message.send", room="lobby", text="from my phone")
        assert await desk.message() == sent["ok"]["message"]
    laptop.http.close()


async def test_the_token_comes_in_the_first_message(server: ServerProcess, ann: Member) -> None:
    async with connect(server.ws) as connection:
        client = Socket(connection)
        welcome = (await client.ask(op="hello", token=ann.token))["ok"]
        assert welcome["user"]["id"] == ann.id
        assert "lobby" in [room["name"] for room in welcome["rooms"]]
    for first, code in (
        ({"op": "hello", "token": "made up"}, 4501),
        ({"op": "hello"}, 4501),
        ({"op": "message.send", "room": "lobby", "text": "let me in"}, 4500),
    ):
        async with connect(server.ws) as connection:
            await connection.send(json.dumps({"ref": 1, **first}))
            assert "error" in json.loads(str(await connection.recv()))
            with pytest.raises(ConnectionClosed) as closed:
                await connection.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == code


async def ended(client: Socket) -> int:
    """The code with which a connection ends, after it was told so; within a second."""
    async with asyncio.timeout(REVOKED_SECONDS):
        await client.event("session.ended")
        with pytest.raises(ConnectionClosed) as closed:
            await client.next()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


async def test_what_is_signed_out_anywhere_is_over_everywhere_within_a_second(
    elsewhere: ServerProcess, ann: Member
) -> None:
    same, laptop = ann.at(elsewhere), Member(elsewhere, ann.name, path="/sessions")
    async with socket(same) as sames, socket(laptop) as laptops:
        ann.delete("/sessions/current").raise_for_status()
        assert await ended(sames) == 4502
        assert "ok" in await laptops.ask(op="message.send", room="lobby", text="I am still here")
    for here in (ann, same):
        assert here.get("/me").status_code == 401
    laptop.http.close()
    same.http.close()


async def test_a_new_password_ends_the_other_devices_on_every_node(
    server: ServerProcess, elsewhere: ServerProcess, bob: Member
) -> None:
    others = [Member(node, bob.name, path="/sessions") for node in (server, elsewhere)]
    async with socket(bob) as bobs, socket(others[0]) as near, socket(others[1]) as far:
        change = {"password": PASSWORD, "new_password": f"another {PASSWORD}"}
        bob.put("/me/password", json=change).raise_for_status()
        for client in (near, far):
            assert await ended(client) == 4502
        assert "ok" in await bobs.ask(op="message.send", room="lobby", text="it is me")
    for each in others:
        assert each.get("/me").status_code == 401
        each.http.close()


# One stream


async def test_one_connection_hears_everything_without_subscribing(
    room: str, ann: Member, bob: Member
) -> None:
    async with socket(bob) as bobs:
        say(ann, "lobby", "to all")
        assert (await bobs.message())["text"] == "to all"
        ann.post("/rooms", json={"name": room, "kind": "private"}).raise_for_status()
        say(ann, room, "before bob came")
        ann.put(f"/rooms/{room}/members/{bob.name}").raise_for_status()
        added = await bobs.event("room.added")
        assert (added["room"]["name"], added["room"]["role"]) == (room, "member")
        say(ann, room, "to the group")
        assert (await bobs.message())["room_id"] == added["room_id"]
        direct = ann.post(f"/direct/{bob.name}/messages", json={"text": "to bob"}).json()
        assert (await bobs.event("room.added"))["room_id"] == direct["room_id"]
        page = bob.get(f"/rooms/{direct['room_id']}/messages").json()["items"]
        assert [each["text"] for each in page] == ["to bob"]
        ann.delete(f"/rooms/{room}").raise_for_status()
        assert (await bobs.event("room.closed"))["room_id"] == added["room_id"]


async def test_who_comes_back_is_told_what_they_missed_and_nothing_twice(
    server: ServerProcess, room: str, ann: Member, bob: Member
) -> None:
    made = ann.post("/rooms", json={"name": room}).json()
    bob.put(f"/rooms/{room}/members/me").raise_for_status()
    first = say(ann, room, "helo")
    async with socket(bob) as bobs:
        say(ann, room, "heard live")
        revision = (await bobs.message())["revision"]
    say(ann, room, "missed")
    ann.patch(f"/rooms/{room}/messages/{first['id']}", json={"text": "hello"}).raise_for_status()
    back_there = bob.at(server)
    async with socket(back_there, since={made["id"]: revision}) as bobs:
        changes = await bobs.event("room.changes")
        assert [(each["seq"], each["text"]) for each in changes["messages"]] == [(3, "missed"), (1, "hello")]
        say(ann, room, "live again")
        live = await bobs.message()
        assert (live["seq"], live["revision"]) == (4, changes["revision"] + 1)
    back_there.http.close()


async def test_a_connection_that_is_cut_again_and_again_loses_and_doubles_nothing(
    server: ServerProcess, room: str, ann: Member, bob: Member
) -> None:
    bob_there = bob.at(server)
    made = ann.post("/rooms", json={"name": room}).json()
    bob.put(f"/rooms/{room}/members/me").raise_for_status()

    async def talk() -> None:
        for number in range(150):
            await asyncio.to_thread(say, ann, room, str(number))

    talking = asyncio.create_task(talk())
    known: list[str] = []
    revision = 0
    for way in cycle((bob, bob_there)):
        if len(known) == 150:
            break
        async with socket(way, since={made["id"]: revision}) as bobs:
            for _ in range(10):
                if len(known) == 150:
                    break
                told = await bobs.next()
                if told.get("event") not in ("room.changes", "message.sent"):
                    continue
                messages = told.get("messages") or [told["message"]]
                known += [each["text"] for each in messages if each["revision"] > revision]
                revision = told["revision"]
            bobs.connection.transport.abort()
    await talking
    assert known == [str(number) for number in range(150)]
    bob_there.http.close()


# Receipts


async def test_reading_the_history_marks_it_and_tells_the_author(room: str, ann: Member, bob: Member) -> None:
    made = ann.post("/rooms", json={"name": room}).json()
    bob.put(f"/rooms/{room}/members/me").raise_for_status()
    for text in ("one", "two", "three"):
        say(ann, room, text)
    assert bob.get(f"/rooms/{room}").json()["unread"] == 3
    async with socket(ann) as anns:
        await reaches(bob, room, anns)
        looked = bob.get(f"/rooms/{room}/unread").json()["items"]
        assert bob.get(f"/rooms/{room}").json()["unread"] == 3
        read = bob.get(f"/rooms/{room}/unread", params={"mark": "true"}).json()["items"]
        assert [each["text"] for each in read] == ["one", "two", "three"]
        assert looked == read
        told = await anns.event("read.marked")
        assert (told["room_id"], told["user_id"], told["seq"]) == (made["id"], bob.id, 3)
    assert bob.get(f"/rooms/{room}").json()["unread"] == 0
    assert bob.get(f"/rooms/{room}/unread").json()["items"] == []


async def test_reading_live_tells_the_author_and_my_other_devices(
    server: ServerProcess, ann: Member, bob: Member
) -> None:
    phone = Member(server, bob.name, path="/sessions")
    async with socket(ann) as anns, socket(bob) as bobs, socket(phone) as phones:
        sent = (await anns.ask(op="message.send", user=bob.id, text="are you there?"))["ok"]["message"]
        await bobs.event("room.added")
        await reaches(bob, sent["room_id"], anns)
        assert (await bobs.ask(op="read.mark", room=sent["room_id"], seq=sent["seq"]))["ok"] == {"seq": 1}
        for each in (anns, phones):
            told = await each.event("read.marked")
            assert (told["user_id"], told["seq"]) == (bob.id, 1)
        again = await bobs.ask(op="read.mark", room=sent["room_id"], seq=0)
        assert again["ok"] == {"seq": 1}
    members = ann.get(f"/rooms/{sent['room_id']}/members").json()["items"]
    assert {each["user_id"]: each["read_seq"] for each in members}[bob.id] == 1
    phone.http.close()


async def test_a_message_that_is_sent_again_under_its_id_is_there_once(ann: Member, bob: Member) -> None:
    id_ = str(uuid4())
    async with socket(bob) as bobs:
        async with socket(ann) as anns:
            command = {"op": "message.send", "ref": "lost", "room": "lobby", "id": id_, "text": "once"}
            await anns.connection.send(json.dumps(command))
            anns.connection.transport.abort()  # and ann never learns what became of it
        async with socket(ann) as anns:
            again = await anns.ask(op="message.send", room="lobby", id=id_, text="once")
            over_http = say(ann, "lobby", "once", id=id_)
            assert again["ok"]["message"] == over_http
            other = await anns.ask(op="message.send", room="lobby", id=id_, text="twice")
            assert other["error"]["code"] == "id_taken"
        say(ann, "lobby", "and then")
        told = [await bobs.message() for _ in range(2)]
    assert [each["text"] for each in told] == ["once", "and then"]
    assert told[0]["id"] == id_


# Groups


async def test_a_group_is_for_its_members_only(room: str, ann: Member, bob: Member, cleo: Member) -> None:
    ann.post("/rooms", json={"name": room, "title": "The plan", "kind": "private"}).raise_for_status()
    ann.put(f"/rooms/{room}/members/{bob.name}").raise_for_status()
    say(bob, room, "what is the plan?")
    nothing = cleo.get(f"/rooms/no-{room}").json()
    for method, path, body in (
        ("GET", f"/rooms/{room}", None),
        ("GET", f"/rooms/{room}/messages", None),
        ("GET", f"/rooms/{room}/members", None),
        ("PUT", f"/rooms/{room}/members/me", None),
        ("POST", f"/rooms/{room}/messages", {"text": "hi"}),
        ("DELETE", f"/rooms/{room}", None),
    ):
        hidden = cleo.request(method, path, json=body)
        assert hidden.status_code == 404
        assert hidden.json() | {"request_id": ""} == nothing | {"request_id": ""}
    public = cleo.get("/rooms", params={"limit": 200}).json()["items"]
    assert room not in [each["name"] for each in public]
    assert cleo.get("/search", params={"query": "plan"}).json()["items"] == []


async def test_who_is_shown_the_door_hears_nothing_more(room: str, ann: Member, bob: Member) -> None:
    made = ann.post("/rooms", json={"name": room, "kind": "private"}).json()
    ann.put(f"/rooms/{room}/members/{bob.name}").raise_for_status()
    refused = bob.delete(f"/rooms/{room}/members/{ann.name}")
    assert refused.json()["code"] == "not_allowed"
    async with socket(bob) as bobs:
        ann.delete(f"/rooms/{room}/members/{bob.name}").raise_for_status()
        left = await bobs.event("member.left")
        assert (left["room_id"], left["user_id"]) == (made["id"], bob.id)
        say(ann, room, "now that bob is gone")
        say(ann, "lobby", "good evening")
        assert (await bobs.message())["text"] == "good evening"
    assert bob.get(f"/rooms/{room}/messages").json()["code"] == "room_not_found"
    members = ann.get(f"/rooms/{room}/members").json()["items"]
    assert [each["user_id"] for each in members] == [ann.id]
