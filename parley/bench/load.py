"""A client for load: sends prepared frames and counts lines, at as little cost as Python allows."""

import asyncio
import json
from collections.abc import Callable

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

CONNECT_SECONDS = 30


class LoadClient(WSListener):
    """One connection that has said hello. `on_lines` hears every frame as it came."""

    def __init__(self, on_frame: Callable[["LoadClient", bytes], None]) -> None:
        self._on_frame = on_frame
        self._transport: WSTransport | None = None
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            payload = frame.get_payload_as_bytes()
            if self._answer.done():
                self._on_frame(self, payload)
            else:
                answers = [line for line in payload.split(b"\n") if line.startswith(b'{"ref":0,')]
                if answers:
                    self._answer.set_result(answers[0])
        elif frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE and not self._answer.done():
            self._answer.set_exception(ConnectionError(f"closed with {frame.get_close_code()}"))

    def send(self, frame: bytes) -> None:
        """Send one text frame."""
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, frame)

    async def ask(self, **command: object) -> dict[str, object]:
        """Send a command and wait for its answer; events meanwhile are nobody's."""
        self._answer = asyncio.get_running_loop().create_future()
        self.send(json.dumps({"ref": 0, **command}).encode())
        async with asyncio.timeout(CONNECT_SECONDS):
            answer: dict[str, object] = json.loads(await self._answer)
        if "ok" not in answer:
            raise ConnectionError(f"{command['op']}: {answer}")
        return answer

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.disconnect()


async def connect(url: str, token: str, on_frame: Callable[[LoadClient, bytes], None]) -> LoadClient:
    """A connection to a server that has said hello."""
    socket_url = url.replace("http://", "ws://") + "/ws"
    async with asyncio.timeout(CONNECT_SECONDS):
        client = LoadClient(on_frame)
        await ws_connect(lambda: client, socket_url)
    await client.ask(op="hello", token=token)
    return client
