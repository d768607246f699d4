"""One WebSocket to a server, from its opening to its close: commands out, answers and events in."""

import asyncio
import logging
from asyncio import Future
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.frames import CloseCode
from websockets.typing import Subprotocol

from parley.client.errors import ChatError, ConnectionLost, NotParley, Refused
from parley.realtime.protocol import SUBPROTOCOL, Close, ErrorBody, Ref, events

OPEN_SECONDS = 10
CLOSE_SECONDS = 5
PING_SECONDS = 20
MAX_FRAME_BYTES = 16 * 1024 * 1024
"""The largest frame that is read."""
MAX_JOINED_BYTES = 64 * 1024
MAX_JOINED = 64
"""Commands of one moment are joined into frames of at most this many bytes and commands."""

Outcome = msgspec.Raw | ChatError
T = TypeVar("T")

log = logging.getLogger("parley.client")


class _Line(msgspec.Struct):
    """What every line of the server may have."""

    ref: Ref = None
    ok: msgspec.Raw = msgspec.Raw(b"{}")
    error: ErrorBody | None = None
    event: str | None = None
    room_id: str | None = None
    revision: int | None = None


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_event = msgspec.json.Decoder(events.Event).decode
_encode = msgspec.json.Encoder().encode
EVENTS = frozenset(str(each.__struct_config__.tag) for each in events.Event.__args__)
"""The events that this client can read."""


def command(op: str, fields: dict[str, Any]) -> bytes:
    """A command without its `ref`. Raises `ValueError` if it is no JSON, as lone surrogates are not."""
    return _encode({"op": op} | fields)


class Connection:
    """An open WebSocket.

    `hear` is told of each event, in order, and may take its time: that stops the reading. `hear_of` is told
    where a room has reached a revision by an event that cannot be read.
    """

    def __init__(
        self,
        socket: ClientConnection,
        hear: Callable[[events.Event], Awaitable[None]],
        hear_of: Callable[[str, int], None],
    ) -> None:
        self._socket = socket
        self._hear = hear
        self._hear_of = hear_of
        self._refs = 0
        self._unanswered: dict[Ref, Callable[[Outcome], None]] = {}
        self._lines: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self.is_over = False
        self._reading = asyncio.create_task(self._read(), name="chat reader")
        self._writing = asyncio.create_task(self._write(), name="chat writer")

    def say(self, line: bytes, then: Callable[[Outcome], None]) -> None:
        """Send a command; `then` is called once, in turn with the events. Raises `ConnectionLost`."""
        if self.is_over:
            raise ConnectionLost("the connection is closed")
        self._refs += 1
        self._unanswered[self._refs] = then
        self._lines.append(b'{"ref":%d,%s' % (self._refs, line[1:]))
        self._wake.set()

    def ask(self, line: bytes, read: Callable[[msgspec.Raw], T]) -> "Future[T]":
        """Send a command; the future holds what `read` makes of the answer, in turn with the events.

        Raises `ConnectionLost`; the future may hold it too, or `Refused`.
        """
        future: Future[T] = asyncio.get_running_loop().create_future()

        def then(outcome: Outcome) -> None:
            if future.done():
                return
            if isinstance(outcome, ChatError):
                future.set_exception(outcome)
                return
            try:
                future.set_result(read(outcome))
            except msgspec.MsgspecError as error:
                future.set_exception(NotParley(f"the answer makes no sense: {error}"))

        self.say(line, then)
        return future

    async def ended(self) -> tuple[int, str]:
        """Wait for the end of the connection; return its close code and reason."""
        await asyncio.wait([self._reading])
        self._reading.result()
        return self._socket.close_code or Close.GOING_AWAY, self._socket.close_reason or ""

    async def close(self) -> None:
        """End the connection, politely if it is still there."""
        self._reading.cancel()
        self._writing.cancel()
        await asyncio.wait([self._reading, self._writing])
        await self._socket.close()

    async def _read(self) -> None:
        try:
            while True:
                frame = await self._socket.recv(decode=False)
                for line in frame.split(b"\n"):
                    await self._take(line)
        except ConnectionClosed:
            pass
        except msgspec.MsgspecError as error:
            log.warning("the server sent what cannot be read: %s", error)
            await self._socket.close(CloseCode.PROTOCOL_ERROR, "unreadable")
        finally:
            self.is_over = True
            self._writing.cancel()
            unanswered, self._unanswered = self._unanswered, {}
            for then in unanswered.values():
                then(ConnectionLost("the connection broke before the answer came"))

    async def _take(self, line: bytes) -> None:
        if not line:
            return
        told = _decode_line(line)
        if told.event is None:
            if (then := self._unanswered.pop(told.ref, None)) is not None:
                then(Refused(told.error) if told.error is not None else told.ok)
            elif told.error is not None:
                log.warning("the server complains: %s", told.error.detail)
            return
        if told.event in EVENTS:
            try:
                event = _decode_event(line)
            except msgspec.ValidationError as error:
                log.warning("an event %s cannot be read: %s", told.event, error)
            else:
                await self._hear(event)
                return
        if told.room_id is not None and told.revision is not None:
            self._hear_of(told.room_id, told.revision)

    async def _write(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._lines:
                    await self._socket.send(self._joined(), text=True)
        except ConnectionClosed:
            pass  # the reading side hears of it as well

    def _joined(self) -> bytes:
        frame = [self._lines.popleft()]
        size = len(frame[0])
        while self._lines and len(frame) < MAX_JOINED:
            size += len(self._lines[0]) + 1
            if size > MAX_JOINED_BYTES:
                break
            frame.append(self._lines.popleft())
        return b"\n".join(frame)


@asynccontextmanager
async def opened(
    url: str,
    hear: Callable[[events.Event], Awaitable[None]],
    hear_of: Callable[[str, int], None],
) -> AsyncIterator[Connection]:
    """A connection, closed at the end. Raises `ConnectionLost`, `NotParley`."""
    try:
        socket = await connect(
            url,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            proxy=None,
            open_timeout=OPEN_SECONDS,
            close_timeout=CLOSE_SECONDS,
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS,
            max_size=MAX_FRAME_BYTES,
        )
    except InvalidStatus as error:
        status = error.response.status_code
        if status >= 500:
            raise ConnectionLost(f"HTTP {status}") from error
        raise NotParley(f"no WebSocket at {url}: HTTP {status}") from error
    except (OSError, InvalidHandshake) as error:  # a TimeoutError is an OSError
        raise ConnectionLost(str(error) or "no answer in time") from error
    except InvalidURI as error:
        raise NotParley(str(error)) from error
    connection = Connection(socket, hear, hear_of)
    try:
        yield connection
    finally:
        await connection.close()
