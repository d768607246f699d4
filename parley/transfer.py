"""A whole chat as a file, and back into any store: `parley export` and `parley import`.

The file has one JSON object per line: a header, the records as `Store.dump` gives them, and the number of
records at the end, so that a file that was cut off is known by it. It holds everything that was said, and
what signs people in; keep it as safe as the store itself.
"""

import gzip
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, cast

import msgspec

import parley
from parley.errors import StartError
from parley.ids import new_id, now
from parley.models import Member, Message, Model, Session
from parley.stores.base import Record, RoomState, Store, UserState

FORMAT = 1
AT_ONCE = 1000
"""Records that are written to a store in one step."""

FILLED_BY = "filled_by"
IMPORTED = "imported"
SERVER = "server"
"""What a store keeps about where its chat came from: `filled_by` is `server` or the id of an import, and
`imported` is that same id once the import has finished."""

Tell = Callable[[int, int], None]
"""Hears how much is done of how much."""


class Header(Model):
    """The first line."""

    parley: Literal["export"]
    format: int
    version: str
    epoch: str


class Line(Model, omit_defaults=True, forbid_unknown_fields=True):
    """Any other line: one record, or the end."""

    user: UserState | None = None
    session: Session | None = None
    room: RoomState | None = None
    member: Member | None = None
    message: Message | None = None
    end: int | None = None


_header = msgspec.json.Decoder(Header)
_line = msgspec.json.Decoder(Line)
_encode = msgspec.json.Encoder().encode
_KIND = {UserState: "user", Session: "session", RoomState: "room", Member: "member", Message: "message"}


async def claim(store: Store) -> None:
    """Note that a server has this store. Raises `StartError` where an import has not finished."""
    filled_by = await store.keep(FILLED_BY, SERVER)
    if filled_by != SERVER and await store.keep(IMPORTED, "") != filled_by:
        raise StartError("an import into this store has not finished; empty it and import again")


async def export(store: Store, path: Path, tell: Tell) -> Counter[str]:
    """Write everything that is in an open store into a new file; return how many records of each kind.

    Raises `StartError`, and leaves no file then.
    """
    stats = await store.stats(now())
    total = stats.users + stats.guests + stats.rooms + stats.messages
    counted: Counter[str] = Counter()
    with _new_file(path) as file:
        header = Header(parley="export", format=FORMAT, version=parley.__version__, epoch=store.epoch)
        file.write(_encode(header) + b"\n")
        async for record in store.dump():
            kind = _KIND[type(record)]
            file.write(_encode({kind: record}) + b"\n")
            counted[kind] += 1
            tell(counted.total(), max(total, counted.total()))
        file.write(_encode({"end": counted.total()}) + b"\n")
    return counted


async def fill(store: Store, path: Path, tell: Tell) -> Counter[str]:
    """Write everything that is in a file into an open, empty store; return how many records of each kind.

    The whole file is looked through first. Raises `StartError`.
    """
    counted = _checked(path)
    mine = new_id()
    stats = await store.stats(now())
    if stats.users or stats.guests or stats.rooms or await store.keep(FILLED_BY, mine) != mine:
        raise StartError("this store has been used already; name an empty one")
    done, batch = 0, list[Record]()
    for record in _records(path):
        batch.append(record)
        if len(batch) == AT_ONCE:
            await store.load(batch)
            done, batch = done + len(batch), []
            tell(done, counted.total())
    await store.load(batch)
    tell(counted.total(), counted.total())
    if await store.keep(IMPORTED, mine) != mine:
        raise StartError("a server was started on this store meanwhile; empty it and import again")
    return counted


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that nobody else may read, which appears under its name when it is whole."""
    unfinished = path.with_name(f".{path.name}.part")
    with _explained(path):
        if path.exists():
            raise StartError(f"{path} exists already; name another file")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as plain:
                if path.suffix == ".gz":
                    with gzip.GzipFile(path.stem, "wb", 6, plain) as packed:
                        yield cast(IO[bytes], packed)
                else:
                    yield plain
                plain.flush()
                os.fsync(plain.fileno())
            unfinished.rename(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


def _records(path: Path) -> Iterator[Record]:
    """The records of a file that was checked."""
    for _, line in _lines(path):
        for record in (line.user, line.session, line.room, line.member, line.message):
            if record is not None:
                yield record


def _lines(path: Path) -> Iterator[tuple[int, Line]]:
    """The lines after the header, with their numbers."""
    with _explained(path), gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            header = _header.decode(file.readline())
        except msgspec.DecodeError:
            raise StartError(f"{path} was not written by `parley export`") from None
        if header.format != FORMAT:
            raise StartError(f"{path} has format {header.format}, and this version reads {FORMAT}")
        for number, text in enumerate(file, 2):
            try:
                yield number, _line.decode(text)
            except msgspec.DecodeError as error:
                raise StartError(f"{path}, line {number}: {error}") from None


def _checked(path: Path) -> Counter[str]:
    """Look through a whole file and count its records. Raises `StartError` for the first thing amiss."""
    check = _Check()
    ended = False
    number = 1
    for number, line in _lines(path):
        problem = "there is more after the end" if ended else check.problem(line)
        if problem:
            raise StartError(f"{path}, line {number}: {problem}")
        ended = line.end is not None
    if not ended:
        raise StartError(f"{path} ends too early, after line {number}")
    return check.counted


class _Check:
    """Whether records make sense together, one after the other."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self._users: set[str] = set()
        self._rooms: set[str] = set()
        self._names: set[tuple[str, str]] = set()
        self._room: RoomState | None = None
        self._seq = 0

    def problem(self, line: Line) -> str | None:
        """What is wrong with the next line, if anything."""
        kinds = [kind for kind in line.__struct_fields__ if getattr(line, kind) is not None]
        if len(kinds) != 1:
            return "one record is expected"
        if kinds != ["end"]:
            self.counted[kinds[0]] += 1
        if line.user is not None:
            return self._user(line.user)
        if line.session is not None:
            return None if line.session.user_id in self._users else "the session's user is missing"
        if line.room is not None:
            return self._cut() or self._begin(line.room)
        if line.member is not None:
            return self._member(line.member)
        if line.message is not None:
            return self._message(line.message)
        return self._cut() or (None if line.end == self.counted.total() else "records are missing")

    def _user(self, state: UserState) -> str | None:
        if state.user.id in self._users or self._taken("user", state.user.name, state.deleted_at is None):
            return "there are two users of that id or name"
        self._users.add(state.user.id)
        return None

    def _begin(self, state: RoomState) -> str | None:
        room = state.room
        if room.id in self._rooms or self._taken("room", room.name or room.id, is_there=True):
            return "there are two rooms of that id or name"
        if not 1 <= state.first_seq <= room.last_seq + 1 <= room.revision + 1:
            return "the room's counters make no sense"
        self._rooms.add(room.id)
        self._room, self._seq = state, state.first_seq - 1
        return None

    def _cut(self) -> str | None:
        """Whether the room that ends here has all its messages."""
        return (
            "messages are missing before it" if self._room and self._seq != self._room.room.last_seq else None
        )

    def _member(self, member: Member) -> str | None:
        if self._room is None or member.room_id != self._room.room.id:
            return "a member of another room"
        return None if member.user_id in self._users else "the member's user is missing"

    def _message(self, message: Message) -> str | None:
        if self._room is None or message.room_id != self._room.room.id:
            return "a message of another room"
        self._seq += 1
        if message.seq != self._seq or not 1 <= message.revision <= self._room.room.revision:
            return "the message is not the next one"
        return None

    def _taken(self, kind: str, name: str, is_there: bool) -> bool:
        if not is_there:
            return False
        taken = (kind, name) in self._names
        self._names.add((kind, name))
        return taken


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StartError(f"cannot use {path}: {reason.lower()}") from None
