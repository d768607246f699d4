"""Everything that somebody may try to learn what is said in a room."""

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec

from parley.models import Message, Room
from parley.realtime.feed import PlainFeed
from tests.frames import FEED
from tests.realtime.conftest import Client, RecordingTransport
from tests.servers import until
from tests.web.world import Somebody, World

CANARY = "canaryyellow"


async def over_http(somebody: Somebody, room: Room, message: Message) -> bytes:
    """All that they are answered to whatever asks about a room, by its id and by its name."""
    heard = b""
    for key in filter(None, (room.id, room.name)):
        here = f"/rooms/{key}"
        at = f"{here}/messages/{message.id}"
        for method, path, body in (
            ("GET", here, None),
            ("GET", f"{here}/members", None),
            ("GET", f"{here}/messages", None),
            ("GET", f"{here}/messages?after=0", None),
            ("GET", f"{here}/messages?before={message.seq + 1}", None),
            ("GET", f"{here}/unread", None),
            ("GET", f"{here}/unread?mark=true", None),
            ("GET", f"{here}/changes?since=0", None),
            ("GET", f"{here}/changes?since={message.revision - 1}", None),
            ("GET", f"{here}/changes?since={2**53}", None),
            ("GET", f"/search?query={CANARY}&room={key}", None),
            ("PUT", f"{here}/read", {"seq": message.seq}),
            ("PUT", f"{here}/typing", None),
            ("PUT", f"{here}/members/me", None),
            ("PUT", f"{here}/members/{somebody.id}", {"role": "owner"}),
            ("PATCH", f"{here}/members/{somebody.id}", {"role": "owner"}),
            ("PATCH", here, {"kind": "public"}),
            ("PATCH", at, {"text": "mine"}),
            ("DELETE", at, None),
            ("PUT", f"{at}/reactions/👍", None),
            ("DELETE", f"{at}/reactions/👍", None),
            ("POST", f"{here}/messages", {"text": "what was that?", "reply_to": message.id}),
            ("POST", f"{here}/messages", {"text": "what was that?", "id": message.id}),
        ):
            heard += await _answer(somebody, method, path, body)
    for path in (
        f"/search?query={CANARY}",
        f"/search?query={CANARY[:5]}",
        "/rooms",
        "/rooms?scope=mine",
        "/me",
        "/me/export",
        "/stats",
        f"/users/{message.author_id}",
        "/users?query=a",
    ):
        heard += await _answer(somebody, "GET", path, None)
    exported = await somebody.does("GET", "/me/export")
    while exported["next"]:
        exported = await somebody.does("GET", f"/me/export?cursor={exported['next']}")
        heard += msgspec.json.encode(exported)
    return heard + await _as_anybody(somebody.world, room)


async def _answer(somebody: Somebody, method: str, path: str, body: dict[str, Any] | None) -> bytes:
    answer = await somebody.request(method, path, json=body)
    return answer.content + repr(answer.headers).encode() + b"\n"


async def _as_anybody(world: World, room: Room) -> bytes:
    """The same without a token, and by the one-liners."""
    heard = b""
    for key in filter(None, (room.id, room.name)):
        for path in ("", "/messages", "/changes?since=0", "/members"):
            heard += (await world.http.get(f"/api/v1/rooms/{key}{path}")).content
        for name in ("Passer-by", "Walker"):
            said = {"user": name, "room": key, "text": "what was that?"}
            heard += (await world.http.post("/messages", json=said)).content
    return heard


async def over_sockets(somebody: Somebody, room: Room, message: Message) -> list[Client]:
    """Connections that resume in the room, open it, and ask for all that can be asked."""
    clients = []
    for since in (0, message.revision - 1, 2**53):
        client = await somebody.connected(since={room.id: since})
        clients.append(client)
        for key in filter(None, (room.id, room.name)):
            there = {"room": key, "message": message.id}
            for op, fields in (
                ("room.open", {"since": since}),
                ("room.see", {}),
                ("room.join", {}),
                ("member.list", {}),
                ("member.add", {"user": somebody.id, "role": "owner"}),
                ("message.page", {}),
                ("message.page", {"after": 0}),
                ("message.unread", {}),
                ("message.changes", {"since": since}),
                ("message.search", {"query": CANARY}),
                ("message.edit", there | {"text": "mine"}),
                ("message.delete", there),
                ("message.react", there | {"emoji": "👍"}),
                ("message.send", {"text": "what was that?", "id": message.id}),
                ("read.mark", {"seq": message.seq}),
                ("typing.start", {}),
            ):
                await client.ask(op=op, **({"room": key} | fields))
        await client.ask(op="message.search", query=CANARY)
        await client.ask(op="room.list", scope="mine")
        await client.ask(op="account.export")
    return clients


def plain_feed(world: World, room: Room) -> tuple[PlainFeed, RecordingTransport]:
    """Somebody without a token who follows a room by its plain feed."""
    transport = RecordingTransport(FEED)
    feed = PlainFeed(world.node.realtime, transport, room.name or room.id, "Passer-by")
    feed.opened()
    return feed, transport


def heard_by(*clients: Client) -> bytes:
    return b"\n".join(frame for client in clients for frame in client.transport.frames)


async def settled() -> None:
    """Let everything that is under way come to its end."""
    for _ in range(50):
        await asyncio.sleep(0)


async def everything(somebody: Somebody, room: Room, message: Message) -> bytes:
    """All bytes that somebody gets who tries everything."""
    feed, transport = plain_feed(somebody.world, room)
    feed.received("what was that?")
    clients = await over_sockets(somebody, room, message)
    heard = await over_http(somebody, room, message)
    await until(lambda: transport.frames or transport.closed_with, what="an answer of the plain feed")
    await settled()
    feed.closed()
    for client in clients:
        client.session.closed()
    return heard + heard_by(*clients) + b"\n".join(transport.frames)


def revisions_of(room_id: str, told: Any) -> Iterator[int]:
    """All revisions of a room, and of what is in it, anywhere in an answer or an event."""
    if isinstance(told, dict):
        if "revision" in told and room_id in (told.get("room_id"), told.get("id")):
            yield told["revision"]
        told = list(told.values())
    if isinstance(told, list):
        for each in told:
            yield from revisions_of(room_id, each)
