"""Connections that are slow, plain or cut off, on the real server."""

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from parley.realtime.protocol import Close
from tests.servers import ServerProcess
from tests.servers import server as running
from tests.web.conftest import Person, Socket, connect, socket

SENT = 5_000
TEXT = "x" * 16_000


def resident_bytes(server: ServerProcess) -> int:
    pages = Path(f"/proc/{server.pid}/statm").read_text().split()[1]
    return int(pages) * 4096


async def next_change(reader: Socket) -> dict[str, Any]:
    """The next line that moves the room on; who comes and goes does not."""
    while "revision" not in (line := await reader.next()):
        assert line["event"] == "presence.changed"
    return line


async def send_many(sender: Socket, room: str) -> list[dict[str, Any]]:
    """Send, some at a time, and return what was acknowledged."""
    stored: list[dict[str, Any]] = []
    for start in range(0, SENT, 10):
        refs = range(start, start + 10)
        commands = [
            {"op": "message.send", "ref": f"s{ref}", "room": room, "text": f"{ref} {TEXT}"} for ref in refs
        ]
        await sender.connection.send("\n".join(json.dumps(command) for command in commands))
        while len(stored) < start + 10:
            line = await sender.next()
            if str(line.get("ref", "")).startswith("s"):
                stored.append(line["ok"]["message"])
    return stored


@pytest.mark.slow
async def test_who_stops_reading_is_closed_and_catches_up_later(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        ann, bob = (
            await asyncio.to_thread(Person, server, "Ann"),
            await asyncio.to_thread(Person, server, "Bob"),
        )
        room = ann.post("/rooms", json={"name": "kitchen"}).json()
        bob.put("/rooms/kitchen/members/me")
        async with socket(ann) as anns, socket(bob) as bobs:
            before = resident_bytes(server)
            stored = await asyncio.wait_for(send_many(anns, "kitchen"), 120)  # and bob does not read
            grown = resident_bytes(server) - before
            assert grown < SENT * len(TEXT) / 2, f"the server grew by {grown / 2**20:.0f} MiB"
            known: dict[int, dict[str, Any]] = {}
            revision = 0
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    line = await next_change(bobs)
                    assert line["revision"] == revision + 1
                    revision, message = line["revision"], line["message"]
                    known[message["seq"]] = message
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == Close.TOO_SLOW
        assert 0 < len(known) < SENT
        async with socket(bob, since={room["id"]: revision}) as bobs:
            while revision < SENT:
                line = await next_change(bobs)
                if line["event"] == "room.reset":
                    known.clear()
                revision = line["revision"]
                known |= {message["seq"]: message for message in line["messages"]}
        after = 0
        while len(known) < SENT:
            page = bob.get("/rooms/kitchen/messages", params={"after": after, "limit": 200}).json()
            known |= {message["seq"]: message for message in page["items"]}
            after = page["items"][-1]["seq"]
        assert [known[seq]["id"] for seq in sorted(known)] == [message["id"] for message in stored]
        for person in (ann, bob):
            person.http.close()


async def test_curl_and_websocat_talk_to_each_other(server: ServerProcess) -> None:
    room = f"default-{uuid4()}"
    async with connect(f"{server.ws}/updates/{room}?name=mary") as feed:
        await feed.send("hello from a socket")
        line = json.loads(str(await feed.recv()))
        assert (line["author_name"], line["text"], line["seq"]) == ("mary", "hello from a socket", 1)
        post = {"user": "john", "room": room, "text": "hello from curl"}
        await asyncio.to_thread(httpx2.post, f"{server.url}/messages", json=post)
        assert json.loads(str(await feed.recv()))["text"] == "hello from curl"
        await feed.send("one\ntwo\n\n  \nthree\n")
        texts: list[str] = []
        while len(texts) < 3:
            texts += [json.loads(each)["text"] for each in str(await feed.recv()).split("\n")]
        assert texts == ["one", "two", "three"]
    async with connect(f"{server.ws}/updates/{room}") as feed:
        history = [json.loads(each)["seq"] for each in str(await feed.recv()).split("\n")]
        assert history == [1, 2, 3, 4, 5]


async def test_a_line_that_cannot_be_posted_is_answered(server: ServerProcess) -> None:
    room = f"default-{uuid4()}"
    async with connect(f"{server.ws}/updates/{room}") as feed:
        await feed.send("x" * 20_000)
        assert json.loads(str(await feed.recv()))["error"]["code"] == "message_too_long"
        await feed.send("short")
        assert json.loads(str(await feed.recv()))["text"] == "short"


@pytest.mark.parametrize("room", ["a b", "x" * 65, "%E2%80%AE"])
async def test_a_feed_of_an_impossible_room_ends_with_the_reason(server: ServerProcess, room: str) -> None:
    async with connect(f"{server.ws}/updates/{room.replace(' ', '%20')}") as feed:
        assert json.loads(str(await feed.recv()))["error"]["kind"] == "invalid"
        with pytest.raises(ConnectionClosed) as closed:
            await feed.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == Close.BAD_HELLO


async def test_a_stop_tells_everybody_to_come_back_and_loses_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        ann = await asyncio.to_thread(Person, server, "Ann")
        async with socket(ann) as anns, connect(f"{server.ws}/updates/lobby") as feed:
            commands = [
                {
                    "op": "message.send",
                    "ref": number,
                    "room": "lobby",
                    "id": str(uuid4()),
                    "text": str(number),
                }
                for number in range(50)
            ]
            await anns.connection.send("\n".join(json.dumps(command) for command in commands))
            first = await anns.next()
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            lines = [first]
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    lines.append(await anns.next())
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == Close.RESTARTING
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    await feed.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == Close.RESTART
        assert await stopping == 0
        acknowledged = {line["ok"]["message"]["id"] for line in lines if "ok" in line}
        await asyncio.to_thread(server.start)
        stored = {message["id"] for message in ann.get("/rooms/lobby/messages").json()["items"]}
        assert acknowledged
        assert acknowledged <= stored
        ann.http.close()
