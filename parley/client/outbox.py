"""Messages on their way: each stays here until the server has stored it, or refused it for good."""

import asyncio
import contextlib
import heapq
import uuid
from asyncio import Future
from dataclasses import dataclass, field
from functools import partial

import msgspec

from parley.client import answers
from parley.client.backoff import Backoff
from parley.client.connection import Connection, Outcome, command
from parley.client.errors import ChatError, ConnectionLost, EventsUnread, Refused
from parley.client.state import ChatState
from parley.realtime.protocol import ErrorBody, Message, MessageAnswer

MAX_LINE_BYTES = 200 * 1024
"""A longer command would end the connection of whoever sends it."""
MAX_FLYING = 64
"""Messages that are sent before the first of them is acknowledged."""
MAX_INTERNAL_ERRORS = 5

MAX_LOOK_UP = 200


_message = msgspec.json.Decoder(MessageAnswer).decode


@dataclass(slots=True, order=True)
class Entry:
    """One message on its way. Entries sort in the order in which they were written."""

    number: int
    id: str = field(compare=False)
    room: str = field(compare=False)
    line: bytes = field(compare=False)
    future: "Future[Message]" = field(compare=False)
    internal_errors: int = field(default=0, compare=False)
    sent_by: set[str] = field(default_factory=set, compare=False)


class Outbox:
    """Sends messages in the order in which they were put in, and again after each break.

    When the server cannot take one now, the later ones wait until it is stored; what was in flight behind
    it may be stored before it all the same. Only `put` and `emptied` await, so that the order holds.
    """

    def __init__(self, state: ChatState, max_entries: int = 1000) -> None:
        self._state = state
        self._slots = asyncio.Semaphore(max_entries)
        self._entries: dict[str, Entry] = {}
        self._count = 0
        self._waiting: list[Entry] = []
        self._flying: dict[int, Entry] = {}
        self._refused: set[int] = set()
        self._connection: Connection | None = None
        self._backoff = Backoff()
        self._held: asyncio.TimerHandle | None = None
        self._end: ChatError | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._entries)

    async def put(self, room: str, text: str, id: str | None, reply_to: str | None) -> Entry:
        """Take a message when there is room for it. Its future is done when it is stored, or refused.

        Raises `Refused` where the server could not even read it, `ValueError`, and what ended the outbox.
        """
        id = str(uuid.UUID(id) if id else uuid.uuid4())
        fields = {"room": room, "text": text, "id": id, "reply_to": reply_to}
        line = command("message.send", fields)
        if len(line) > MAX_LINE_BYTES:
            raise Refused(
                ErrorBody(
                    code="message_too_long",
                    kind="invalid",
                    detail="The message is too long.",
                    retryable=False,
                )
            )
        await self._slots.acquire()
        if self._end is not None:
            self._slots.release()
            raise self._end
        if id in self._entries:
            self._slots.release()
            raise ValueError(f"the message {id} is on its way already")
        self._count += 1
        future: Future[Message] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_seen)
        entry = self._entries[id] = Entry(self._count, id, room, line, future)
        heapq.heappush(self._waiting, entry)
        self._empty.clear()
        self._pump()
        return entry

    async def emptied(self) -> None:
        """Wait until nothing is on its way. Raises what ended the outbox."""
        await self._empty.wait()
        if self._end is not None:
            raise self._end

    def attach(self, connection: Connection) -> None:
        """Send over this connection from now on, beginning with what was not acknowledged."""
        self._connection = connection
        self._pump()

    def detach(self) -> None:
        """The connection is gone: what was in flight on it will be sent again."""
        self._connection = None
        for entry in self._flying.values():
            heapq.heappush(self._waiting, entry)
        self._flying.clear()
        self._refused.clear()
        if self._held is not None:
            self._held.cancel()
            self._held = None

    def stop_waiting(self) -> None:
        """Whoever waits for a message to be stored waits in vain for now; the messages stay."""
        for entry in self._entries.values():
            if not entry.future.done():
                entry.future.set_exception(EventsUnread("take the events that have come"))

    def end(self, error: ChatError) -> None:
        """Nothing more will be sent."""
        self._end = error
        self.detach()
        for entry in list(self._entries.values()):
            self._is_refused(entry, error)
        self._waiting.clear()
        self._slots.release()

    def _pump(self) -> None:
        """Send as much as may be in flight."""
        most = 1 if self._refused else MAX_FLYING
        while (
            self._connection is not None and self._held is None and self._waiting and len(self._flying) < most
        ):
            entry = self._waiting[0]
            try:
                self._connection.say(entry.line, partial(self._answered, entry))
            except ConnectionLost:
                return
            heapq.heappop(self._waiting)
            self._flying[entry.number] = entry
            entry.sent_by.add(self._state.me)

    def _answered(self, entry: Entry, outcome: Outcome) -> None:
        if entry.number not in self._flying or isinstance(outcome, ConnectionLost):
            return  # `detach` was or will be called
        if isinstance(outcome, Refused):
            del self._flying[entry.number]
            self._not_stored(entry, outcome)
        elif not isinstance(outcome, ChatError):
            message = _message(outcome).message
            del self._flying[entry.number]
            self._is_stored(entry, message)
        self._pump()

    def _is_stored(self, entry: Entry, message: Message) -> None:
        self._refused.discard(entry.number)
        self._backoff.reset()
        self._state.stored(message)
        self._done(entry)
        if not entry.future.done():
            entry.future.set_result(message)

    def _not_stored(self, entry: Entry, error: Refused) -> None:
        if error.code == "internal_error":
            entry.internal_errors += 1
        if error.code == "id_taken" and entry.sent_by != {self._state.me}:
            self._look_up(entry, error)
        elif entry.internal_errors < MAX_INTERNAL_ERRORS and (
            error.may_help_later or error.kind == "unauthenticated"
        ):
            heapq.heappush(self._waiting, entry)
            self._refused.add(entry.number)
            if self._held is None:
                seconds = self._backoff.next_seconds(error.retry_after or 0)
                self._held = asyncio.get_running_loop().call_later(seconds, self._go_on)
        else:
            self._is_refused(entry, error)

    def _go_on(self) -> None:
        self._held = None
        self._pump()

    def _look_up(self, entry: Entry, error: Refused) -> None:
        """Sent under a session that has ended since, and stored: the answer was lost, so find the message."""

        def then(outcome: Outcome) -> None:
            if entry.number not in self._flying or isinstance(outcome, ConnectionLost):
                return
            if isinstance(outcome, Refused) and outcome.may_help_later:
                del self._flying[entry.number]
                self._not_stored(entry, outcome)
                return
            page = [] if isinstance(outcome, ChatError) else answers.messages(outcome).items
            found = next((message for message in page if message.id == entry.id), None)
            del self._flying[entry.number]
            if found is not None:
                self._is_stored(entry, found)
            else:
                self._is_refused(entry, error)
            self._pump()

        self._flying[entry.number] = entry
        if self._connection is not None:
            newest = command("message.page", {"room": entry.room, "limit": MAX_LOOK_UP})
            with contextlib.suppress(ConnectionLost):
                self._connection.say(newest, then)

    def _is_refused(self, entry: Entry, error: ChatError) -> None:
        self._refused.discard(entry.number)
        self._state.refused(entry.id)
        self._done(entry)
        if not entry.future.done():
            entry.future.set_exception(error)

    def _done(self, entry: Entry) -> None:
        del self._entries[entry.id]
        self._slots.release()
        if not self._entries:
            self._empty.set()


def _seen(future: "Future[Message]") -> None:
    """What a message came to need not be looked at."""
    if not future.cancelled():
        future.exception()
