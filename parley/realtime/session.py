"""One connected client, whatever carries its frames: it says hello, sends commands and hears events.

The transport calls `opened`, `received` and `closed`; the session answers through `send` and `close`. An idle
session owns no task and no queue. Commands take effect in the order in which they came: those that only need
the journal are handed to it at once, so that sends may be pipelined; one that has to wait for the store runs
in a short-lived task, and what comes behind it waits.
"""

import asyncio
from asyncio import Future
from collections import deque
from collections.abc import Set
from dataclasses import dataclass
from functools import partial

import structlog
from msgspec import UNSET

from parley import events
from parley.errors import (
    InternalError,
    InvalidField,
    LimitReached,
    ParleyError,
    RoomNotFound,
    TokenMissing,
    Unauthenticated,
)
from parley.events import RoomAdded, RoomClosed, SessionEnded
from parley.ids import Time
from parley.models import Applied, Room, User
from parley.realtime import commands, operations, protocol
from parley.realtime.flow import Flow
from parley.realtime.operations import Hello
from parley.realtime.outlet import Outlet
from parley.realtime.protocol import AnyCommand, Close, MessageAnswer, Ref
from parley.realtime.resume import ANOTHER_HISTORY
from parley.realtime.transport import NOWHERE, PING_SECONDS, From, Realtime, Transport
from parley.services.sessions import Caller

MAX_ROOMS = 1000
"""Rooms that a connection follows at which it opens no further ones."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Enter:
    """The user came into a room by another way than this connection, or perhaps so."""

    room_id: str


class Session:
    """One client's connection."""

    __slots__ = (
        "_caller _deadline _flow _from _left _node _out _over _transport _visited _waiting _worker "
        "has_entered rooms"
    ).split()

    def __init__(self, node: Realtime, transport: Transport, comes: From = NOWHERE) -> None:
        self._node = node
        self._transport = transport
        too_slow = partial(self.close, Close.TOO_SLOW, "too slow: come back and resume")
        self._out = Outlet(node.loop, transport, too_slow)
        self._flow = Flow(node.loop, transport)
        self._from = comes
        self._caller: Caller | None = None
        self.rooms: set[str] = set()
        self._visited: frozenset[str] = frozenset()
        self._waiting: deque[AnyCommand | _Enter] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._over = self.has_entered = False
        self._left: frozenset[str] = frozenset()
        self._deadline: asyncio.TimerHandle | None = None

    # What the transport calls

    def opened(self) -> None:
        """The connection is there; the client has `HELLO_SECONDS` to say hello."""
        self._node.clients.add(self)
        if self._node.draining:
            self.restart()
            return
        self._deadline = self._node.loop.call_later(
            protocol.HELLO_SECONDS, self.close, Close.BAD_HELLO, "no hello in time"
        )

    def received(self, text: str) -> None:
        """A text frame came: one or more commands, one per line."""
        if self._over:
            return
        lines = [line for line in text.split("\n") if line and not line.isspace()]
        if len(lines) > protocol.MAX_COMMANDS_IN_FRAME:
            self._refuse(None, InvalidField("There are too many commands in this frame; none was done."))
            return
        for line in lines:
            try:
                self._node.admit(self._from.address, self._caller.user.id if self._caller else None)
                command = protocol.decode(line)
            except ParleyError as error:
                self._refuse(protocol.ref_of(line), error)
                if self._caller is None and self._worker is None:
                    self.close(Close.RESTARTING if error.retryable else Close.BAD_HELLO, error.code)
                    return
            else:
                self._take(command)

    def closed(self) -> None:
        """The connection is gone; what was handed to the journal stands."""
        self._leave()

    # What the hub calls

    @property
    def user(self) -> User:
        """Who is connected; only after hello."""
        return self._known.user

    @property
    def session_id(self) -> str:
        """By which session; only after hello."""
        return self._known.session.id

    @property
    def member_of(self) -> Set[str]:
        """Those of them that the user is in."""
        return self.rooms - self._visited

    def expects(self, room_id: str) -> bool:
        """Whether the connection is open and in the room."""
        return room_id in self.rooms and not self._over

    async def drained(self) -> None:
        """Wait for a client that reads slowly, but not for ever."""
        await self._out.drained()

    def tell(self, frame: bytes) -> None:
        """Send lines of encoded events, after the answers that are due."""
        self._out.tell(frame)

    def hint(self, frame: bytes) -> None:
        """As `tell`, if the client reads fast enough."""
        self._out.hint(frame)

    def follow(self, room_id: str) -> None:
        """Enter a room that the user may have joined, in turn with the commands that came before."""
        if not self._over:
            self._queue(_Enter(room_id))

    def unfollow(self, room_id: str) -> None:
        """Leave a room that the user has left."""
        self.rooms.discard(room_id)
        self._visited -= {room_id}
        self._node.hub.unfollow(room_id, self)
        self._node.presence.moved(self.user, ())
        if self._worker is not None:  # it may be about to enter that very room
            self._left |= {room_id}

    def shut_out(self, room_id: str) -> None:
        """The room is private from now on: if the user only looked on, that is over."""
        if room_id in self._visited:
            self.tell(events.encode(RoomClosed(room_id=room_id)))
            self.unfollow(room_id)

    def renamed(self, user: User) -> None:
        """Go on under another name."""
        self._caller = self._known._replace(user=user)
        self._node.presence.moved(user, self.rooms)

    def end(self, reason: str) -> None:
        """The session is over: say so and close."""
        self.tell(events.encode(SessionEnded(reason=reason)))
        self.close(Close.SESSION_ENDED, reason)

    @property
    def expires_at(self) -> Time:
        """When the session ends, as far as this connection knows."""
        return self._known.session.expires_at

    async def renew(self) -> None:
        """Ask how long the session lasts by now, and end if it is over. Raises `StoreUnavailable`."""
        try:
            self._caller = await self._node.core.sessions.renew(self._known)
        except Unauthenticated as error:
            self.end(error.code)

    def restart(self) -> None:
        """Send the client away to come back."""
        self.close(Close.RESTARTING, "come back and resume")

    # Commands, in order

    def _take(self, command: AnyCommand) -> None:
        is_first = self._caller is None and self._worker is None
        if is_first and not isinstance(command, Hello | operations.Arriving):
            self._refuse(command.ref, TokenMissing("The first command is hello."))
            self.close(Close.BAD_HELLO, "the first command is hello")
            return
        if self._deadline is not None and isinstance(command, Hello):
            self._deadline.cancel()
            self._deadline = None
        if (
            self._worker is None
            and isinstance(command, commands.Writing)
            and (room_id := commands.known_room(self._node.core, self.user, command))
        ):
            self._write(command, room_id)
        else:
            self._queue(command)

    def _queue(self, item: AnyCommand | _Enter) -> None:
        self._waiting.append(item)
        self._flow.taken()
        if self._worker is None:
            self._worker = self._node.loop.create_task(self._work())

    async def _work(self) -> None:
        while self._waiting and not self._over:
            await self.drained()
            item = self._waiting.popleft()
            self._left = frozenset()
            try:
                if isinstance(item, commands.Writing):
                    self._write(item, await commands.room_of(self._node.core, self.user, item))
                else:
                    await self._flow.settled()
                    await self._run(item)
            except ParleyError as error:
                self._failed(item, error)
            except Exception:
                log.exception("a command failed", op=type(item).__name__)
                self._failed(item, InternalError())
            self._flow.answered()
        self._worker = None

    def _failed(self, item: AnyCommand | _Enter, error: ParleyError) -> None:
        if isinstance(item, _Enter):  # the room is not followed, and only coming back mends that
            self.restart()
            return
        self._refuse(item.ref, error)
        if not self.has_entered and not isinstance(item, operations.Arriving):
            refused = isinstance(error, Unauthenticated)
            self.close(Close.UNAUTHENTICATED if refused else Close.RESTARTING, error.code)

    async def _run(self, item: AnyCommand | _Enter) -> None:
        core = self._node.core
        match item:
            case _Enter():
                await self._enter(item.room_id)
            case Hello():
                await self._hello(item)
            case operations.SignOut(session=None):
                done = partial(self._out.reply, protocol.answer(item.ref, protocol.Done()))
                await core.sessions.sign_out(self._known, item.everywhere, done)
            case operations.AccountDelete():
                done = partial(self._out.reply, protocol.answer(item.ref, protocol.Done()))
                await core.own_data.delete(self._known, done)
            case _ if isinstance(item, operations.Arriving):
                signed_in = await commands.arrive(core, item, self._from.label, self._from.address)
                self._out.reply(protocol.answer(item.ref, signed_in))
            case operations.RoomOpen():
                await self._open(item)
            case _:
                ok = await commands.run(core, self._known, item)
                self._out.reply(protocol.answer(item.ref, ok))

    def _write(self, command: commands.Writing, room_id: str) -> None:
        try:
            future = commands.write(self._node.core, self._known, room_id, command)
        except ParleyError as error:
            self._refuse(command.ref, error)
        else:
            self._flow.writing()
            future.add_done_callback(partial(self._written, command.ref))

    def _written(self, ref: Ref, future: Future[Applied]) -> None:
        self._flow.written()
        error = future.exception()
        if error is None:
            self._out.reply(protocol.answer(ref, MessageAnswer(message=future.result().message)))
        else:
            self._refuse(ref, error if isinstance(error, ParleyError) else InternalError())

    @property
    def _known(self) -> Caller:
        if self._caller is None:
            raise TokenMissing("The first command is hello.")
        return self._caller

    # Hello and rooms

    async def _hello(self, hello: Hello) -> None:
        if self._caller is not None:
            raise InvalidField("hello was said already.")
        node = self._node
        caller = self._caller = await node.core.sessions.authenticate(hello.token or self._from.token)
        if self._over:  # it went away meanwhile, and nobody would say so again
            return
        # From here on it hears of joins, leaves and sign-outs, so that none can fall between the reads.
        node.hub.connected(self)
        self._caller = await node.core.sessions.renew(caller)
        rooms = await node.core.rooms.mine(caller.user.id)
        mine = {room.id for room in rooms}
        visited = [key for key in hello.since if key not in mine][:MAX_ROOMS]
        rooms += await node.core.rooms.open_to_all(visited)  # if it is in one by now, it hears so
        self._visited = frozenset(room.id for room in rooms if room.role is UNSET)
        since = dict(hello.since)
        if hello.epoch is not None and hello.epoch != node.core.store.epoch:
            since = dict.fromkeys(since, ANOTHER_HISTORY)

        def begin(shown: list[Room]) -> bool:
            if self._over:
                return False
            shown = [room for room in shown if room.id not in self._left]
            self.has_entered = True
            self.rooms.update(room.id for room in shown)
            node.presence.moved(caller.user, self.rooms)
            welcome = protocol.Welcome(
                user=caller.user,
                session_id=caller.session.id,
                epoch=node.core.store.epoch,
                rooms=shown,
                ping_seconds=PING_SECONDS,
            )
            self._out.reply(protocol.answer(hello.ref, welcome))
            return True

        await node.resume.enter(self, rooms, since, begin)

    async def _open(self, command: operations.RoomOpen) -> None:
        if len(self.rooms) >= MAX_ROOMS:
            raise LimitReached(f"A connection follows at most {MAX_ROOMS} rooms.")
        room = await self._node.core.rooms.see(command.room, self.user.id)
        if room.role is UNSET:
            self._visited |= {room.id}
        since = {} if command.since is None else {room.id: command.since}

        def begin(shown: list[Room]) -> bool:
            if self._over or not shown or room.id in self._left:
                raise RoomNotFound
            self.rooms.add(room.id)
            self._node.presence.moved(self.user, ())
            self._out.reply(protocol.answer(command.ref, commands.RoomAnswer(room=shown[0])))
            return True

        await self._node.resume.enter(self, [room], since, begin)

    async def _enter(self, room_id: str) -> None:
        """Follow a room if a look says that the user is in it now, whatever came before."""
        self._left -= {room_id}
        room = await self._node.core.rooms.visible(room_id, self.user.id)
        if room is None or room.role is UNSET:
            return
        if room_id in self._visited:  # and followed already
            self._visited -= {room_id}
            self._out.reply(events.encode(RoomAdded(room_id=room_id, room=room)))
            return

        def begin(shown: list[Room]) -> bool:
            if self._over or not shown or room_id in self.rooms | self._left:
                return False
            self.rooms.add(room_id)
            self._node.presence.moved(self.user, ())
            self._out.reply(events.encode(RoomAdded(room_id=room_id, room=shown[0])))
            return True

        await self._node.resume.enter(self, [room], {}, begin)

    # Sending and closing

    def _refuse(self, ref: Ref, error: ParleyError) -> None:
        self._out.reply(protocol.refusal(ref, error))

    def close(self, code: int, reason: str) -> None:
        """End the connection from our side; after this nothing more is told."""
        if self._over:
            return
        if code != Close.TOO_SLOW:
            self._out.flush()
        self._leave()
        self._transport.close(code, reason)

    def _leave(self) -> None:
        self._over = self._out.is_shut = True
        self._node.clients.discard(self)
        if self._deadline is not None:
            self._deadline.cancel()
        for room_id in self.rooms:
            self._node.hub.unfollow(room_id, self)
        if self._caller is not None:
            self._node.hub.disconnected(self)
        if self.has_entered:
            self._node.presence.moved(self.user, self.rooms)
            self._node.core.sessions.saw(self.user.id)
        self.rooms = set()
