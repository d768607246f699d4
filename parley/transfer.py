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
from typing import IO, Any, Literal, cast

import msgspec

import parley
from parley.errors import StartError
from parley.ids import Time, as_id, new_id, now, to_ms
from parley.models import Member, Message, Model, Session
from parley.stores.base import Record, RoomState, Store, UserState

FORMAT = 1
HASH_BYTES = 32
MAX_NUMBER = 2**53
MAX_LINE = 2**26
"""Bytes of a line; no record has more."""

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


_EMPTY = Line()
_header = msgspec.json.Decoder(Header)
_line = msgspec.json.Decoder(Line)
_encode = msgspec.json.Encoder().encode
_KIND = {UserState: "user", Session: "session", RoomState: "room", Member: "member", Message: "message"}


async def claim(store: Store) -> None:
    """Note that a server has this store. Raises `StartError` where an import has not finished."""
    await _look_whether_whole(store)
    if await store.keep(FILLED_BY, SERVER) != SERVER:
        await _look_whether_whole(store)  # it began at this very moment


async def _look_whether_whole(store: Store) -> None:
    filled_by = await store.kept(FILLED_BY)
    if filled_by not in (None, SERVER, await store.kept(IMPORTED)):
        raise StartError(
            "an import into this store is under way or was broken off; "
            "wait, or remove the database or file, make an empty one and import again"
        )


async def export(store: Store, path: Path, tell: Tell) -> Counter[str]:
    """Write everything that is in an open store into a new file; return how many records of each kind.

    Raises `StartError`, and leaves no file then.
    """
    await _look_whether_whole(store)
    stats = await store.stats(now())
    total = stats.users + stats.guests + stats.rooms + stats.messages
    if not total:
        raise StartError("there is no chat in this store; look at its URL")
    check = _Check()
    counted = check.counted
    with _new_file(path) as file:
        header = Header(parley="export", format=FORMAT, version=parley.__version__, epoch=store.epoch)
        file.write(_encode(header) + b"\n")
        async for record in store.dump():
            kind = _KIND[type(record)]
            file.write(_encode({kind: record}) + b"\n")
            if problem := check.problem(msgspec.structs.replace(_EMPTY, **{kind: record})):
                raise StartError(f"the chat goes on meanwhile ({problem}); stop all nodes first")
            tell(counted.total(), max(total, counted.total()))
        if problem := check.problem(Line(end=counted.total())):
            raise StartError(f"the chat goes on meanwhile ({problem}); stop all nodes first")
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
    unfinished = path.parent / f".{path.name}.part"
    with _explained(path):
        if not path.name or path.is_dir():
            raise StartError(f"{path} is a directory; name a file in it")
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
            header = _header.decode(file.readline(MAX_LINE))
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise StartError(f"{path} was not written by `parley export`") from None
        if header.format != FORMAT:
            raise StartError(f"{path} has format {header.format}, and this version reads {FORMAT}")
        for number, text in enumerate(iter(lambda: file.readline(MAX_LINE), b""), 2):
            try:
                yield number, _line.decode(text)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
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
        self._sessions: set[str] = set()
        self._room: RoomState | None = None
        self._seq = 0
        self._present = 0
        self._here: set[object] = set()
        """What may be in the room once: members, messages, and revisions."""

    def problem(self, line: Line) -> str | None:
        """What is wrong with the next line, if anything."""
        kinds = [kind for kind in line.__struct_fields__ if getattr(line, kind) is not None]
        if len(kinds) != 1:
            return "one record is expected"
        if kinds != ["end"]:
            self.counted[kinds[0]] += 1
            if problem := _odd(msgspec.to_builtins(getattr(line, kinds[0]))):
                return problem
        if line.user is not None:
            return self._user(line.user)
        if line.session is not None:
            return self._session(line.session)
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

    def _session(self, session: Session) -> str | None:
        if session.user_id not in self._users:
            return "the session's user is missing"
        if len(session.token_hash) != HASH_BYTES or session.id in self._sessions:
            return "there are two sessions of that id, or it has no token"
        self._sessions.add(session.id)
        return None

    def _begin(self, state: RoomState) -> str | None:
        room = state.room
        if room.id in self._rooms or self._taken("room", room.name or room.id, is_there=True):
            return "there are two rooms of that id or name"
        later = max(room.last_seq, state.trimmed_revision, state.settings_revision)
        if not 1 <= state.first_seq <= room.last_seq + 1 or later > room.revision:
            return "the room's counters make no sense"
        if room.closed_at is not None or room.name != (room.name and room.name.casefold()):
            return "the room is closed, or its name cannot be found"
        self._rooms.add(room.id)
        self._room, self._seq, self._present = state, state.first_seq - 1, 0
        self._here.clear()
        return None

    def _cut(self) -> str | None:
        """Whether the room that ends here has all its messages."""
        if self._room is None:
            return None
        if self._seq != self._room.room.last_seq:
            return "messages are missing before it"
        is_counted = self._present == self._room.room.member_count
        return None if is_counted else "the members before it are not as many as the room counts"

    def _member(self, member: Member) -> str | None:
        if self._room is None or member.room_id != self._room.room.id:
            return "a member of another room"
        if member.user_id not in self._users:
            return "the member's user is missing"
        self._present += member.left_at is None
        return self._again(member.user_id, member.revision)

    def _message(self, message: Message) -> str | None:
        if self._room is None or message.room_id != self._room.room.id:
            return "a message of another room"
        self._seq += 1
        if message.seq != self._seq or not 1 <= message.revision <= self._room.room.revision:
            return "the message is not the next one"
        return self._again(message.id, message.revision)

    def _again(self, id_: str, revision: int) -> str | None:
        """Whether an id is in the room already, or two changes of it have one revision."""
        once = {id_, revision} if revision else {id_}
        if once & self._here or (self._room and revision > self._room.room.revision):
            return "that id or revision is in the room already, or cannot be"
        self._here |= once
        return None

    def _taken(self, kind: str, name: str, is_there: bool) -> bool:
        if not is_there:
            return False
        taken = (kind, name) in self._names
        self._names.add((kind, name))
        return taken


def _odd(value: Any, name: str = "") -> str | None:
    """What no store could keep, in a record or a part of one."""
    if isinstance(value, dict):
        return next((odd for name, each in value.items() if (odd := _odd(each, name))), None)
    if isinstance(value, str) and value:
        if "\0" in value:
            return f"{name}: the character U+0000 is not allowed"
        if name.endswith("_at") and not _is_time(value):
            return f"{name}: not a time"
        if (name == "id" or name.endswith("_id")) and as_id(value) != value:
            return f"{name}: not an id"
    if isinstance(value, int) and not 0 <= value < MAX_NUMBER:
        return f"{name}: out of range"
    return None


def _is_time(text: str) -> bool:
    try:
        return len(text) == len(now()) and 0 <= to_ms(Time(text)) < MAX_NUMBER
    except ValueError:
        return False


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StartError(f"cannot use {path}: {reason.lower()}") from None
