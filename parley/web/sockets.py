"""The WebSocket through FastAPI: works on any ASGI server and mounted inside another application."""

import asyncio

from fastapi import APIRouter, WebSocket
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocketDisconnect

from parley.realtime.feed import PlainFeed
from parley.realtime.protocol import SUBPROTOCOL, Close
from parley.realtime.session import Session
from parley.realtime.transport import From
from parley.web.callers import address, bearer, label, node_of

CLOSE_SECONDS = 60
"""How long a client that does not read may keep us from saying why we close."""
MAX_JOINED_BYTES = 256 * 1024
"""Pending lines are joined into frames of about this size."""

router = APIRouter()


class AsgiTransport:
    """Frames over one ASGI WebSocket: a task that writes beside the one that reads."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._frames: list[bytes] = []
        self._wake = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._reading = asyncio.Event()
        self._reading.set()
        self._close: tuple[int, str] | None = None
        self.pending = 0

    def send(self, frame: bytes) -> None:
        self._frames.append(frame)
        self.pending += len(frame) + 1
        self._drained.clear()
        self._wake.set()

    def close(self, code: int, reason: str) -> None:
        if code == Close.TOO_SLOW:  # what is dropped here is what the client resumes for
            self._frames.clear()
        self._close = code, reason
        self._wake.set()
        self._reading.set()

    async def drained(self) -> None:
        await self._drained.wait()

    def pause(self) -> None:
        self._reading.clear()

    def resume(self) -> None:
        self._reading.set()

    async def carry(self, client: "Session | PlainFeed") -> None:
        """Carry frames both ways until the connection is over."""
        writing = asyncio.create_task(self._write(), name="socket writer")
        client.opened()
        try:
            await self._read(client)
        finally:
            client.closed()
            self._drained.set()
            if self._close is not None:
                await asyncio.wait([writing], timeout=CLOSE_SECONDS)
            writing.cancel()
            await asyncio.wait([writing])

    async def _read(self, client: "Session | PlainFeed") -> None:
        while True:
            await self._reading.wait()
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            if text is None:
                client.close(Close.UNSUPPORTED_DATA, "text frames only")
            else:
                client.received(text)

    async def _write(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._frames:
                    frame = self._join()
                    await self._socket.send_text(frame.decode())
                    self.pending -= len(frame) + 1
                self._drained.set()
                if self._close is not None:
                    code, reason = self._close
                    await self._socket.close(code, reason)
                    return
        except (WebSocketDisconnect, RuntimeError):
            # The client is gone, which the reading side hears of as well.
            self._frames.clear()
            self._drained.set()

    def _join(self) -> bytes:
        """What is pending as one frame, one JSON object per line."""
        count, size = 0, 0
        while count < len(self._frames) and (count == 0 or size < MAX_JOINED_BYTES):
            size += len(self._frames[count]) + 1
            count += 1
        frame = b"\n".join(self._frames[:count])
        del self._frames[:count]
        return frame


@router.websocket("/ws")
async def connect(socket: WebSocket) -> None:
    """The protocol of docs/protocol.md."""
    node = node_of(socket)
    if not await _admitted(socket):
        return
    offered = socket.scope.get("subprotocols", [])
    if offered and SUBPROTOCOL not in offered:
        await _refuse(socket, 400, "this server speaks " + SUBPROTOCOL)
        return
    await socket.accept(SUBPROTOCOL if offered else None)
    transport = AsgiTransport(socket)
    comes = From(token=bearer(socket), address=address(socket), label=label(socket))
    await transport.carry(Session(node.realtime, transport, comes))


@router.websocket("/ws/updates/{room}")
async def updates(socket: WebSocket, room: str, name: str = "guest") -> None:
    """A public room as plain lines: its last messages, then every new one; a line sent into it is posted."""
    node = node_of(socket)
    if not await _admitted(socket):
        return
    await socket.accept()
    transport = AsgiTransport(socket)
    await transport.carry(PlainFeed(node.realtime, transport, room, name, address(socket)))


async def _admitted(socket: WebSocket) -> bool:
    """Refuse pages of other web sites, which a browser would let speak in its user's name."""
    origin = socket.headers.get("origin")
    if origin is None or origin in node_of(socket).origins or "*" in node_of(socket).origins:
        return True
    host = socket.headers.get("host")
    # Where a proxy has taken TLS off without saying so, our own pages are https all the same.
    own = ("https",) if socket.url.scheme == "wss" else ("https", "http")
    if origin in [f"{scheme}://{host}" for scheme in own]:
        return True
    await _refuse(socket, 403, "this origin is not allowed")
    return False


async def _refuse(socket: WebSocket, status: int, reason: str) -> None:
    await socket.send_denial_response(PlainTextResponse(reason + "\n", status))
