"""Many people in one process, each with a raw WebSocket that comes back and checks all that it is told."""

import asyncio
import resource
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from parley import security
from parley.client.backoff import Backoff
from parley.ids import from_ms, new_id, now, now_ms
from parley.models import Member, Role, Room, Session, User
from parley.stores.base import Record, RoomState, Store, UserState

HANDSHAKE_SECONDS = 60
AT_ONCE = 1000


class Guest(NamedTuple):
    """Somebody who has signed in."""

    user: User
    token: str


def guests(count: int) -> tuple[list[Guest], list[Record]]:
    """So many of them, and what a store keeps of them."""
    found: list[Guest] = []
    records: list[Record] = []
    for number in range(count):
        user = User(id=new_id(), name=f"g{number}", display_name=f"Guest {number}", kind="guest")
        session_id = new_id()
        token = security.new_token(session_id)
        session = Session(
            id=session_id,
            user_id=user.id,
            token_hash=security.token_hash(token),
            created_at=now(),
            expires_at=from_ms(now_ms() + 3_600_000),
        )
        found.append(Guest(user, token))
        records += [UserState(user=user), session]
    return found, sorted(records, key=lambda record: isinstance(record, Session))


def room_of(room: Room, members: Iterable[User], owner: User) -> list[Record]:
    """What a store keeps of a room with these people in it."""
    there: list[Record] = [
        Member(
            room_id=room.id,
            user_id=user.id,
            name=user.name,
            display_name=user.display_name,
            role=Role.OWNER if user is owner else Role.MEMBER,
            joined_at=now(),
        )
        for user in {user.id: user for user in (*members, owner)}.values()
    ]
    room = msgspec.structs.replace(room, member_count=len(there))
    return [RoomState(room=room, first_seq=1, trimmed_revision=0, settings_revision=0), *there]


async def fill(store: Store, records: list[Record]) -> None:
    """Put all of it into an empty store."""
    for begin in range(0, len(records), AT_ONCE):
        await store.load(records[begin : begin + AT_ONCE])


@contextmanager
def many_files(count: int = 8192) -> Iterator[None]:
    """Let this process, and those that it starts, have so many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(count, hard)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class _Message(msgspec.Struct):
    id: str
    seq: int
    revision: int


class _Room(msgspec.Struct):
    id: str
    revision: int
    last_seq: int


class _Welcome(msgspec.Struct):
    epoch: str
    rooms: list[_Room]


class _Line(msgspec.Struct):
    ref: int | None = None
    ok: _Welcome | None = None
    error: dict[str, object] | None = None
    event: str = ""
    room_id: str = ""
    since: int = 0
    revision: int = 0
    message: _Message | None = None
    messages: list[_Message] = []


_read = msgspec.json.Decoder(_Line).decode
_write = msgspec.json.Encoder().encode


class Closed(NamedTuple):
    """The end of a connection: whose, to which server, with which code (0: without one) and when."""

    person: "Person"
    server: str
    code: int
    at: float


class Crowd:
    """What all of them have found out. `faults` are breaches of what is promised."""

    def __init__(self) -> None:
        self.people: list[Person] = []
        self.said: dict[str, dict[int, str]] = {}
        self.closed: list[Closed] = []
        self.refused = 0
        """Connections that were not taken, and hellos that were not answered with a welcome."""
        self.faults: Counter[str] = Counter()

    def connected(self) -> int:
        """How many are connected and have been welcomed."""
        return sum(person.is_here for person in self.people)

    def behind(self, heads: dict[str, int]) -> int:
        """How many do not know yet that these rooms have come to these revisions."""
        return sum(not person.is_here or person.is_behind(heads) for person in self.people)


class Person:
    """One of them, from `come` to `leave`; `choose` says to which server to go, given the one before."""

    def __init__(self, crowd: Crowd, guest: Guest, choose: Callable[[str], str]) -> None:
        self.guest = guest
        self.server = ""
        self.welcomes = 0
        self.is_here = False
        self.may_go = asyncio.Event()
        self.may_go.set()
        self._crowd = crowd
        self._choose = choose
        self._known: dict[str, tuple[int, int]] = {}
        self._epoch: str | None = None
        self._connection: _Connection | None = None
        self._running: asyncio.Task[None] | None = None
        crowd.people.append(self)

    def come(self) -> None:
        """Connect, and do so again whenever that ends."""
        self._running = asyncio.create_task(self._run())

    async def leave(self) -> None:
        """Disconnect for good."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        self.cut()

    def cut(self) -> None:
        """Lose the connection, as when a router fails."""
        if self._connection is not None and self._connection.transport is not None:
            self._connection.transport.disconnect(False)

    def is_behind(self, heads: dict[str, int]) -> bool:
        """Whether it does not know yet that its rooms have come to these revisions."""
        return any(revision < heads.get(room_id, 0) for room_id, (revision, _) in self._known.items())

    async def _run(self) -> None:
        backoff = Backoff()
        while True:
            await self.may_go.wait()
            self.server = self._choose(self.server)
            connection = self._connection = _Connection(self)
            try:
                await ws_connect(
                    lambda connection=connection: connection,
                    self.server,
                    websocket_handshake_timeout=HANDSHAKE_SECONDS,
                )
                code = await connection.ended
            except Exception:
                code = -1
            if self.is_here:
                backoff.reset()
            else:
                self._crowd.refused += 1
            self.is_here = False
            if code >= 0:
                at = asyncio.get_running_loop().time()
                self._crowd.closed.append(Closed(self, self.server, code, at))
            await asyncio.sleep(backoff.next_seconds())

    def hello(self) -> bytes:
        """What it says first."""
        since = {room_id: revision for room_id, (revision, _) in self._known.items()}
        hello = {"op": "hello", "ref": 1, "token": self.guest.token, "since": since}
        return _write(hello | ({"epoch": self._epoch} if self._epoch else {}))

    def hear(self, frame: bytes) -> None:
        """Check what came, line by line."""
        for each in frame.split(b"\n"):
            line = _read(each)
            if line.error is not None:
                self._crowd.faults[str(line.error["code"])] += 1
            elif line.ok is not None:
                self._welcomed(line.ok)
            elif line.message is not None:
                self._changed(line.room_id, line.revision - 1, line.revision, [line.message])
            elif line.event == "room.changes":
                self._changed(line.room_id, line.since, line.revision, line.messages)
            elif line.event == "room.reset":
                self._crowd.faults["reset"] += 1
            elif line.event == "member.joined":
                self._changed(line.room_id, line.revision - 1, line.revision, [])

    def _welcomed(self, welcome: _Welcome) -> None:
        self._epoch = welcome.epoch
        self.welcomes += 1
        self.is_here = True
        for room in welcome.rooms:
            self._known.setdefault(room.id, (room.revision, room.last_seq))

    def _changed(self, room_id: str, since: int, revision: int, messages: list[_Message]) -> None:
        known, seq = self._known[room_id]
        if since != known:
            self._crowd.faults["hole" if since > known else "repetition"] += 1
        said = self._crowd.said.setdefault(room_id, {})
        for message in messages:
            if message.seq != seq + 1 or not since < message.revision <= revision:
                self._crowd.faults["message out of its place"] += 1
            if said.setdefault(message.seq, message.id) != message.id:
                self._crowd.faults["two histories"] += 1
            seq = message.seq
        self._known[room_id] = revision, seq


class _Connection(WSListener):
    """One WebSocket of a person."""

    def __init__(self, person: Person) -> None:
        self._person = person
        self._code = 0
        self.transport: WSTransport | None = None
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        transport.send(WSMsgType.TEXT, self._person.hello())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            self._person.hear(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            self._code = int.from_bytes(frame.get_payload_as_bytes()[:2], "big")
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self.ended.done():
            self.ended.set_result(self._code)
