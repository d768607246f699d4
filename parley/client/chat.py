"""A chat that lasts: it connects, comes back when the connection breaks, and learns what it missed."""

import asyncio
import logging
from asyncio import Future
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Self

import msgspec
from msgspec import UNSET, Raw

from parley.client import answers
from parley.client.connection import Connection, command, opened
from parley.client.errors import ChatEnded
from parley.client.inbox import Inbox
from parley.client.lifeline import Lifeline, Status
from parley.client.mirror import Mirror, enter
from parley.client.outbox import Outbox
from parley.client.requests import ANSWER_SECONDS, Requests
from parley.client.state import ChatState
from parley.realtime.protocol import HELLO_SECONDS, Member, Message, Room, User, Welcome, events

WELCOME_SECONDS = HELLO_SECONDS + 5
"""How long the answer to hello may take: longer than the server itself waits for its store."""

log = logging.getLogger("parley.client")


class Chat:
    """A participant: by the token of a session, or as a guest called `name`. Where there are no such
    `rooms`, they are made.

    Use it as an async context manager. What is sent while the server is away goes out when it is back, and
    what happened meanwhile is told then. `state` is what is known at this moment; `on_status` hears when
    the server goes away and comes back. When the chat is over for good, whatever waits raises `ChatEnded`.
    """

    def __init__(
        self,
        server: str,
        *,
        token: str | None = None,
        name: str | None = None,
        rooms: Sequence[str] = (),
        on_status: Callable[[Status, str], None] = lambda status, reason: None,
        max_outbox: int = 1000,
    ) -> None:
        self.state = ChatState()
        self.me: User | None = None
        self._ids: set[str] = set()
        self._rooms = rooms
        self._outbox = Outbox(self.state, max_outbox)
        self._inbox = Inbox(self._is_awaiting, self._outbox.stop_waiting)
        self._requests = Requests(self._inbox.nudge)
        self._mirror = Mirror(self.state, self._inbox, self._requests)
        self._lifeline = Lifeline(
            server,
            token=token,
            name=name,
            opened=lambda url: opened(url, self._mirror.hear, self._mirror.hear_of),
            begin=self._begin,
            live=self._live,
            on_status=on_status,
        )
        self._ready: Future[None] = asyncio.get_running_loop().create_future()
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._run(), name="chat")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave. What was not acknowledged is given up."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        await self._mirror.close()
        self._finish(ChatEnded("the chat was closed"))
        self._inbox.end(None)

    async def ready(self) -> None:
        """Wait until the server has let us in for the first time, however long that takes."""
        await asyncio.shield(self._ready)

    def events(self) -> AsyncIterator[events.Event]:
        """What is new from the first call on: every message and change once, in the order of its room.

        What was missed while away is told as if it happened now; where a room has changed too much for that,
        `RoomReset` says to look at it anew. One reader at a time; who stops taking events stops the chat.
        """
        return self._inbox.take()

    @property
    def is_connected(self) -> bool:
        """Whether the server is there at this moment."""
        return self._requests.is_attached

    def is_mine(self, message: Message) -> bool:
        """Whether I wrote it, in this session or, as a guest, in one before."""
        return message.author_id in self._ids

    # What one can do

    async def send(self, room: str, text: str, id: str | None = None, reply_to: str | None = None) -> Message:
        """Write into a room and wait until it is stored, for as long as that takes.

        Raises `Refused`. If the waiting is cancelled, the message is sent all the same.
        """
        return await (await self.post(room, text, id, reply_to))

    async def post(
        self, room: str, text: str, id: str | None = None, reply_to: str | None = None
    ) -> "Future[Message]":
        """Write into a room; this waits only where too many messages are on their way already.

        The future is done when the message is stored, and holds `Refused` if it will not be.
        """
        self._inbox.nudge()
        entry = await self._outbox.put(room, text, id, reply_to)
        known = self.state.find(room)
        fields = {
            "id": entry.id,
            "room_id": known.room.id if known else room,
            "seq": 0,
            "revision": 0,
            "author_id": self.state.me,
            "author_name": self.me.display_name if self.me else "",
            "kind": "text",
            "text": text,
            "sent_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "reply_to": reply_to,
        }
        self.state.written(msgspec.convert(fields, Message))
        return entry.future

    async def flush(self) -> None:
        """Wait until everything that was written is stored, or refused for good."""
        await self._outbox.emptied()

    async def request(self, op: str, *, seconds: float = ANSWER_SECONDS, **fields: Any) -> Any:
        """Any other command of the protocol; returns its answer as plain data.

        Raises `Refused`, `TimeoutError`, and `ConnectionLost` where it may have been done and asking again
        could do it twice.
        """
        return await self._requests.ask(op, fields, msgspec.json.decode, seconds)

    async def history(self, room: str, *, before: int | None = None, limit: int = 50) -> list[Message]:
        """A page of messages, the newest or those before a `seq`; it joins the room's window in `state`."""
        fields = {"room": room, "before": before, "limit": limit}
        while True:
            known = self.state.find(room)
            asked_at = known.revision if known else 0

            def read(raw: Raw, asked_at: int = asked_at) -> tuple[list[Message], bool]:
                page = answers.messages(raw).items
                return page, not page or self.state.paged(page[0].room_id, page, asked_at)

            page, is_current = await self._requests.ask("message.page", fields, read)
            if is_current:
                return page

    async def members(self, room: str) -> list[Member]:
        """The first 200 members of a room."""
        fields = {"room": room, "limit": 200}
        return await self._requests.ask("member.list", fields, lambda raw: answers.members(raw).items)

    async def join(self, room: str) -> Room:
        """Come into a public room, which is made if there is none of that name. Raises `Refused`."""

        async def ask(op: str, fields: dict[str, Any]) -> Room:
            return await self._requests.ask(op, fields, self._summary)

        joined = await enter(room, ask)
        await self._mirror.added(joined.id)
        return joined

    async def follow(self, room: str) -> Room:
        """Hear what happens in a public room without joining it. Raises `Refused`."""

        def followed(raw: Raw) -> Room:
            room = answers.room(raw).room
            self._mirror.take(events.RoomAdded(room_id=room.id, room=room))
            return room

        return await self._requests.ask("room.open", {"room": room}, followed)

    # The connection

    async def _run(self) -> None:
        try:
            await self._lifeline.run()
        except ChatEnded as error:
            self._finish(error)
        except Exception as error:
            log.exception("the chat cannot go on")
            self._finish(ChatEnded(f"a fault of this client: {error!r}"))

    async def _begin(self, connection: Connection, token: str) -> None:
        """Say hello and enter the rooms, before anything is sent."""
        hello: dict[str, Any] = {"token": token, "since": self.state.since()}
        if self.state.epoch:
            hello["epoch"] = self.state.epoch
        async with asyncio.timeout(WELCOME_SECONDS):
            await connection.ask(command("hello", hello), self._welcomed)

        async def ask(op: str, fields: dict[str, Any]) -> Room:
            return await connection.ask(command(op, fields), self._summary)

        async with asyncio.timeout(ANSWER_SECONDS):
            for key in self._rooms:
                known = self.state.find(key)
                if known is None or known.room.role is UNSET:
                    joined = await enter(key, ask)
                    await self._mirror.added(joined.id)

    async def _live(self, connection: Connection) -> tuple[int, str]:
        self._requests.attach(connection)
        self._outbox.attach(connection)
        if not self._ready.done():
            self._ready.set_result(None)
        try:
            return await connection.ended()
        finally:
            self._requests.detach()
            self._outbox.detach()

    def _welcomed(self, raw: Raw) -> None:
        welcome = msgspec.json.decode(raw, type=Welcome)
        self.me = welcome.user
        self._ids.add(welcome.user.id)
        self._mirror.take(welcome)

    def _summary(self, raw: Raw) -> Room:
        room = answers.room(raw).room
        self.state.seen(room)
        return room

    def _is_awaiting(self) -> bool:
        return not self._requests.is_attached or self._requests.is_awaiting or len(self._outbox) > 0

    def _finish(self, error: ChatEnded) -> None:
        self._requests.end(error)
        self._outbox.end(error)
        self._inbox.end(error)
        if not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # nobody has to wait for it
