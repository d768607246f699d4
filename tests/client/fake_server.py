"""A server whose part the test plays, for what the real one cannot be made to do."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

SECONDS = 5
ANN = {"id": "ann-id", "name": "ann", "display_name": "Ann", "kind": "guest"}
AT = "2026-11-20T12:00:00.000Z"


def kitchen(revision: int = 0, last_seq: int = 0, **fields: Any) -> dict[str, Any]:
    room = {"id": "kitchen-id", "name": "kitchen", "title": "Kitchen", "kind": "public", "created_by": None}
    numbers = {"created_at": AT, "revision": revision, "last_seq": last_seq, "message_count": last_seq}
    return room | numbers | {"role": "member", "read_seq": 0, "unread": last_seq} | fields


def message(seq: int, text: str = "hi", author: str = "bob", id: str = "", **fields: Any) -> dict[str, Any]:
    places = {"id": id or f"m{seq}", "room_id": "kitchen-id", "seq": seq, "revision": seq}
    words = {"author_id": f"{author}-id", "author_name": author, "kind": "text", "text": text, "sent_at": AT}
    return places | words | fields


def sent(seq: int, **fields: Any) -> dict[str, Any]:
    return {
        "event": "message.sent",
        "room_id": "kitchen-id",
        "revision": seq,
        "message": message(seq, **fields),
    }


class Peer:
    """One connection of the client."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.frames: list[str] = []
        self.hello: dict[str, Any] = {}
        self._commands: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def read(self) -> None:
        try:
            async for frame in self.socket:
                assert isinstance(frame, str)
                self.frames.append(frame)
                for line in frame.split("\n"):
                    self._commands.put_nowait(json.loads(line))
        except ConnectionClosed:
            pass

    async def heard_any(self) -> dict[str, Any]:
        """The next command."""
        async with asyncio.timeout(SECONDS):
            return await self._commands.get()

    async def heard(self, op: str) -> dict[str, Any]:
        """The next command, which is this one."""
        command = await self.heard_any()
        assert command["op"] == op
        return command

    @property
    def unheard(self) -> int:
        """Commands that came and were not looked at."""
        return self._commands.qsize()

    async def say(self, *lines: dict[str, Any]) -> None:
        await self.socket.send("\n".join(json.dumps(line) for line in lines))

    async def answer(self, command: dict[str, Any], **ok: Any) -> None:
        await self.say({"ref": command["ref"], "ok": ok})

    async def refuse(
        self, command: dict[str, Any], code: str, kind: str, retry_after: float | None = None
    ) -> None:
        retryable = kind in {"unavailable", "too_many"} and code != "internal_error"
        error = {"code": code, "kind": kind, "detail": code, "retryable": retryable}
        await self.say({"ref": command["ref"], "error": error | {"retry_after": retry_after}})

    async def store(self, command: dict[str, Any], seq: int, author: str = "ann") -> None:
        """Acknowledge a message."""
        await self.answer(command, message=message(seq, command["text"], author, command["id"]))

    async def close(self, code: int, reason: str = "") -> None:
        await self.socket.close(code, reason)

    def break_off(self) -> None:
        """As if the network had gone."""
        self.socket.transport.abort()


class FakeServer:
    """Connections wait until the test takes them."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.waiting: asyncio.Queue[Peer] = asyncio.Queue()
        self.count = 0

    async def silent(self) -> Peer:
        """The next connection, whose hello nobody answers."""
        async with asyncio.timeout(SECONDS):
            peer = await self.waiting.get()
        peer.hello = await peer.heard("hello")
        return peer

    async def peer(self, *rooms: dict[str, Any], epoch: str = "e1", user: Any = None) -> Peer:
        """The next connection, welcomed."""
        peer = await self.silent()
        await peer.answer(
            peer.hello,
            user=user or ANN,
            session_id="s",
            epoch=epoch,
            rooms=rooms or [kitchen()],
            ping_seconds=20,
        )
        return peer


@asynccontextmanager
async def fake_server() -> AsyncIterator[FakeServer]:
    async def connected(socket: ServerConnection) -> None:
        peer = Peer(socket)
        fake.count += 1
        fake.waiting.put_nowait(peer)
        await peer.read()

    async with serve(connected, "127.0.0.1", 0, compression=None, ping_interval=None) as serving:
        fake = FakeServer(next(iter(serving.sockets)).getsockname()[1])
        yield fake
