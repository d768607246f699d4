"""Real-time web chat: accounts, one stream for everything, a life after lost connections, receipts and
groups. What a browser does belongs to it, too; its demo accounts are in `test_demo.py`."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest
from websockets.exceptions import ConnectionClosed

from tests.acceptance.conftest import PASSWORD, Member
from tests.servers import ServerProcess
from tests.web.conftest import Socket, connect, socket


async def event(client: Socket, kind: str) -> dict[str, Any]:
    """The next event of that kind."""
    while (line := await client.next()).get("event") != kind:
        pass
    return line


def say(person: Member, room: str, text: str, **more: Any) -> dict[str, Any]:
    answer = person.post(f"/rooms/{room}/messages", json={"text": text, **more})
    assert answer.status_code in (200, 201), answer.text
    message: dict[str, Any] = answer.json()
    return message


# Signing up and in


async def test_who_signs_up_signs_in_on_any_device(server: ServerProcess, ann: Member) -> None:
    laptop = Member(server, ann.name, path="/sessions")
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
        assert (await event(desk, "message.sent"))["message"] == sent["ok"]["message"]
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


# One stream


async def test_one_connection_hears_everything_without_subscribing(
    room: str, ann: Member, bob: Member
) -> None:
    async with socket(bob) as bobs:
        say(ann, "lobby", "to all")
        assert (await event(bobs, "message.sent"))["message"]["text"] == "to all"
        ann.post("/rooms", json={"name": room, "kind": "private"}).raise_for_status()
        say(ann, room, "before bob came")
        ann.put(f"/rooms/{room}/members/{bob.name}").raise_for_status()
        added = await event(bobs, "room.added")
        assert (added["room"]["name"], added["room"]["role"]) == (room, "member")
        say(ann, room, "to the group")
        assert (await event(bobs, "message.sent"))["room_id"] == added["room_id"]
        direct = ann.post(f"/direct/{bob.name}/messages", json={"text": "to bob"}).json()
        assert (await event(bobs, "room.added"))["room_id"] == direct["room_id"]
        page = bob.get(f"/rooms/{direct['room_id']}/messages").json()["items"]
        assert [each["text"] for each in page] == ["to bob"]
        ann.delete(f"/rooms/{room}").raise_for_status()
        assert (await event(bobs, "room.closed"))["room_id"] == added["room_id"]


async def test_who_comes_back_is_told_what_they_missed_and_nothing_twice(
    room: str, ann: Member, bob: Member
) -> None:
    made = ann.post("/rooms", json={"name": room}).json()
    bob.put(f"/rooms/{room}/members/me").raise_for_status()
    first = say(ann, room, "helo")
    async with socket(bob) as bobs:
        say(ann, room, "heard live")
        revision = (await event(bobs, "message.sent"))["revision"]
    say(ann, room, "missed")
    ann.patch(f"/rooms/{room}/messages/{first['id']}", json={"text": "hello"}).raise_for_status()
    async with socket(bob, since={made["id"]: revision}) as bobs:
        changes = await event(bobs, "room.changes")
        assert [(each["seq"], each["text"]) for each in changes["messages"]] == [(3, "missed"), (1, "hello")]
        say(ann, room, "live again")
        live = await event(bobs, "message.sent")
        assert (live["message"]["seq"], live["revision"]) == (4, changes["revision"] + 1)


async def test_a_connection_that_is_cut_again_and_again_loses_and_doubles_nothing(
    room: str, ann: Member, bob: Member
) -> None:
    made = ann.post("/rooms", json={"name": room}).json()
    bob.put(f"/rooms/{room}/members/me").raise_for_status()

    async def talk() -> None:
        for number in range(150):
            await asyncio.to_thread(say, ann, room, str(number))

    talking = asyncio.create_task(talk())
    known: list[str] = []
    revision = 0
    while len(known) < 150:
        async with socket(bob, since={made["id"]: revision}) as bobs:
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


# Receipts


async def test_reading_the_history_marks_it_and_tells_the_author(room: str, ann: Member, bob: Member) -> None:
    made = ann.post("/rooms", json={"name": room}).json()
    bob.put(f"/rooms/{room}/members/me").raise_for_status()
    for text in ("one", "two", "three"):
        say(ann, room, text)
    assert bob.get(f"/rooms/{room}").json()["unread"] == 3
    async with socket(ann) as anns:
        looked = bob.get(f"/rooms/{room}/unread").json()["items"]
        assert bob.get(f"/rooms/{room}").json()["unread"] == 3
        read = bob.get(f"/rooms/{room}/unread", params={"mark": "true"}).json()["items"]
        assert [each["text"] for each in read] == ["one", "two", "three"]
        assert looked == read
        told = await event(anns, "read.marked")
        assert (told["room_id"], told["user_id"], told["seq"]) == (made["id"], bob.id, 3)
    assert bob.get(f"/rooms/{room}").json()["unread"] == 0
    assert bob.get(f"/rooms/{room}/unread").json()["items"] == []


async def test_reading_live_tells_the_author_and_my_other_devices(
    server: ServerProcess, ann: Member, bob: Member
) -> None:
    phone = Member(server, bob.name, path="/sessions")
    async with socket(ann) as anns, socket(bob) as bobs, socket(phone) as phones:
        sent = (await anns.ask(op="message.send", user=bob.id, text="are you there?"))["ok"]["message"]
        await event(bobs, "room.added")
        assert (await bobs.ask(op="read.mark", room=sent["room_id"], seq=sent["seq"]))["ok"] == {"seq": 1}
        for each in (anns, phones):
            told = await event(each, "read.marked")
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
        told = [(await event(bobs, "message.sent"))["message"] for _ in range(2)]
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
        left = await event(bobs, "member.left")
        assert (left["room_id"], left["user_id"]) == (made["id"], bob.id)
        say(ann, room, "now that bob is gone")
        say(ann, "lobby", "good evening")
        heard = await event(bobs, "message.sent")
        assert heard["message"]["text"] == "good evening"
    assert bob.get(f"/rooms/{room}/messages").json()["code"] == "room_not_found"
    members = ann.get(f"/rooms/{room}/members").json()["items"]
    assert [each["user_id"] for each in members] == [ann.id]
