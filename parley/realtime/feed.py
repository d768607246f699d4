"""The plain feed of one public room, for `websocat` and friends: JSON messages out, lines of text in."""

import asyncio
from collections import deque

import structlog

from parley import events
from parley.errors import InternalError, Overloaded, ParleyError
from parley.events import RoomEvent
from parley.models import Message, Model, User
from parley.realtime import protocol
from parley.realtime.protocol import Close, ErrorBody
from parley.realtime.transport import MAX_PENDING_BYTES, Realtime, Transport

LAST_MESSAGES = 50
MAX_WAITING = 256
"""Lines that may wait to be posted."""

log = structlog.get_logger()


class Complaint(Model):
    """A line that could not be posted."""

    error: ErrorBody


class PlainFeed:
    """One connection to the plain feed of a room, which is made on first use."""

    def __init__(self, node: Realtime, transport: Transport, room: str, name: str, address: str = "") -> None:
        self._node = node
        self._transport = transport
        self._key = room
        self._name = name
        self._address = address
        self._room_id = ""
        self._last_seq: int | None = None
        self._unread: list[RoomEvent] = []
        self._lines: deque[str] = deque()
        self._worker: asyncio.Task[None] | None = None
        self.user = User(id="", name="", display_name=name, kind="guest")
        self.is_over = False

    # What the transport calls

    def opened(self) -> None:
        """The connection is there: show the last messages and go on."""
        self._node.clients.add(self)
        if self._node.draining:
            self.restart()
            return
        self._worker = self._node.loop.create_task(self._begin())

    def received(self, text: str) -> None:
        """Lines to post, one message each."""
        for line in text.splitlines():
            if not line or line.isspace() or self.is_over:
                continue
            if len(self._lines) >= MAX_WAITING:
                self._complain(Overloaded(retry_after=1))
                continue
            self._lines.append(line)
        if self._worker is None and self._lines:
            self._worker = self._node.loop.create_task(self._post())

    def closed(self) -> None:
        """The connection is gone."""
        self.is_over = True
        self._node.clients.discard(self)
        self._node.hub.unfollow(self._room_id, self)

    # What the hub calls

    def tell_events(self, told: list[RoomEvent]) -> None:
        """Show the messages in these events that are new."""
        if self._last_seq is None:
            self._unread.extend(told)
            return
        for event in told:
            for message in sorted(events.messages_of(event), key=lambda each: each.seq):
                self._show(message)

    def shut_out(self, room_id: str) -> None:
        """The room is private from now on, and so is what is said in it."""
        self.end("the room is closed")

    def end(self, reason: str) -> None:
        """It is over for good: the room is closed."""
        self.close(Close.NORMAL, reason)

    def expects(self, room_id: str) -> bool:
        """Whether the connection is open."""
        return not self.is_over

    def restart(self) -> None:
        """The server stops."""
        self.close(Close.RESTART, "the server is restarting")

    def close(self, code: int, reason: str) -> None:
        """End the connection from our side."""
        if not self.is_over:
            self.closed()
            self._transport.close(code, reason)

    async def _begin(self) -> None:
        node = self._node
        try:
            node.core.rates.of_address(self._address)  # whoever opens feeds may make rooms
            room = await node.core.rooms.ensure(self._key, None)
            if self.is_over:
                return
            feed = node.hub.feed(room.id)
            self._room_id = room.id
            node.hub.follow_plainly(feed, self)
            await node.resume.know([feed])
            page = await node.core.messages.page(None, room.id, limit=LAST_MESSAGES)
        except ParleyError as error:
            self._complain(error)
            self.close(Close.RESTART if error.retryable else Close.BAD_HELLO, error.code)
        except Exception:
            log.exception("a plain feed could not begin")
            self.close(Close.RESTART, "internal_error")
        else:
            self._last_seq = 0
            for message in page.items:
                self._show(message)
            unread, self._unread = self._unread, []
            self.tell_events(unread)
            await self._post()
        finally:
            self._worker = None

    async def _post(self) -> None:
        core = self._node.core
        while self._lines and not self.is_over:
            line = self._lines.popleft()
            try:
                core.rates.of_address(self._address)
                await core.post_as_guest(self._name, self._room_id, line)
            except ParleyError as error:
                self._complain(error)
            except Exception:
                log.exception("a line was not posted")
                self._complain(InternalError())
        self._worker = None

    def _show(self, message: Message) -> None:
        if self._last_seq is None or message.seq <= self._last_seq:
            return
        self._last_seq = message.seq
        self._send(events.encode(message))

    def _complain(self, error: ParleyError) -> None:
        self._send(events.encode(Complaint(error=protocol.error_body(error))))

    def _send(self, line: bytes) -> None:
        if self.is_over:
            return
        if self._transport.pending > MAX_PENDING_BYTES:
            self.close(Close.TOO_SLOW, "too slow")
        else:
            self._transport.send(line)
