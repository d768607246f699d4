"""The words of the WebSocket protocol: commands, answers, close codes. No I/O.

A frame carries one or more JSON objects, one per line. A client sends commands `{"op", "ref", …}`; the server
sends answers `{"ref", "ok"}` or `{"ref", "error"}` and events `{"event", …}` (see `parley.events`).
docs/protocol.md is the long form.
"""

from enum import IntEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from parley import events as events  # clients take events and models from here
from parley.errors import InvalidField, InvalidJson, ParleyError, UnknownOp
from parley.models import Member as Member
from parley.models import Message as Message
from parley.models import Model
from parley.models import Room as Room
from parley.models import User as User

SUBPROTOCOL = "parley.v1.json"
HELLO_SECONDS = 10
MAX_COMMANDS_IN_FRAME = 256

Key = Annotated[str, Meta(min_length=1, max_length=200)]
"""An id or a name."""
Count = Annotated[int, Meta(ge=0, le=2**53)]
"""A `seq` or a revision, within what every JSON reader keeps exactly."""
Limit = Annotated[int, Meta(ge=1, le=200)]
Ref = Annotated[int, Meta(ge=-(2**53), le=2**53)] | Annotated[str, Meta(max_length=64)] | None


MAX_HISTORY = 1_000_000
MAX_TTL = 31_536_000
"""A year."""


class Close(IntEnum):
    """Why a connection ends. 4000–4499: come back. 4500–4999: do not, without doing something about it."""

    NORMAL = 1000
    GOING_AWAY = 1001
    UNSUPPORTED_DATA = 1003
    INVALID_UTF8 = 1007
    TOO_BIG = 1009
    RESTART = 1012
    TOO_SLOW = 4000
    RESTARTING = 4001
    IDLE = 4002
    BAD_HELLO = 4500
    UNAUTHENTICATED = 4501
    SESSION_ENDED = 4502
    MISUSE = 4503


def may_return(code: int) -> bool:
    """Whether a client whose connection ended with `code` should connect again by itself."""
    return not (4500 <= code <= 4999 or code in (Close.UNSUPPORTED_DATA, Close.INVALID_UTF8, Close.TOO_BIG))


class Command(Model, tag_field="op"):
    """What a client asks for. The answer repeats `ref`."""

    ref: Ref = None


class Hello(Command, tag="hello"):
    """Say who you are and where you stopped; the first command of every connection."""

    token: Annotated[str, Meta(max_length=4096)] | None = None
    since: Annotated[dict[Key, Count], Meta(max_length=10_000)] = {}
    epoch: Annotated[str, Meta(max_length=64)] | None = None


class ProfileSee(Command, tag="profile.see"):
    """Who am I?"""


class ProfileChange(Command, tag="profile.change"):
    """Be shown under another name."""

    display_name: Annotated[str, Meta(max_length=1000)]


class PasswordChange(Command, tag="password.change"):
    """Take another password; all my other devices are signed out."""

    password: Annotated[str, Meta(max_length=2000)]
    new_password: Annotated[str, Meta(max_length=2000)]


class UserSee(Command, tag="user.see"):
    """See somebody, by id or name."""

    user: Key


class UserFind(Command, tag="user.find"):
    """People whose name or display name begins so."""

    query: Key
    cursor: Annotated[str, Meta(max_length=200)] | None = None
    limit: Limit = 50


class SignOut(Command, tag="session.end"):
    """End my session, or another one of mine, or all of them."""

    session: Key | None = None
    everywhere: bool = False


class SessionListing(Command, tag="session.list"):
    """Where am I signed in?"""


class RoomCreate(Command, tag="room.create"):
    """Make a public room."""

    name: str | None = None
    title: str | None = None
    history_limit: Annotated[int, Meta(ge=1, le=MAX_HISTORY)] | None = None
    ttl_seconds: Annotated[int, Meta(ge=1, le=MAX_TTL)] | None = None


class RoomSee(Command, tag="room.see"):
    """See one room."""

    room: Key


class RoomListing(Command, tag="room.list"):
    """List the rooms of a scope, `mine` or `public`."""

    scope: str = "public"
    cursor: Annotated[str, Meta(max_length=200)] | None = None
    limit: Limit = 50


class RoomJoin(Command, tag="room.join"):
    """Become a member of a public room."""

    room: Key


class RoomLeave(Command, tag="room.leave"):
    """Stop being a member."""

    room: Key


class RoomOpen(Command, tag="room.open"):
    """Follow a public room without joining it, for as long as this connection lasts."""

    room: Key
    since: Count | None = None


class MemberListing(Command, tag="member.list"):
    """List the members of a room."""

    room: Key
    cursor: Annotated[str, Meta(max_length=200)] | None = None
    limit: Limit = 50


class MessageSend(Command, tag="message.send"):
    """Write into a room. Repeating it under the same `id` is safe."""

    room: Key
    text: str
    id: str | None = None
    reply_to: str | None = None


class MessageEdit(Command, tag="message.edit"):
    """Change the words of my message."""

    room: Key
    message: Key
    text: str


class MessageDelete(Command, tag="message.delete"):
    """Take a message back."""

    room: Key
    message: Key


class MessageReact(Command, tag="message.react"):
    """Add an emoji to a message."""

    room: Key
    message: Key
    emoji: str


class MessageUnreact(Command, tag="message.unreact"):
    """Take my emoji back."""

    room: Key
    message: Key
    emoji: str


class MessagePage(Command, tag="message.page"):
    """A page of history: before a `seq`, after one, or the newest."""

    room: Key
    before: Count | None = None
    after: Count | None = None
    limit: Limit = 50


class MessageUnread(Command, tag="message.unread"):
    """What I have not read; `mark` moves my read mark behind it."""

    room: Key
    mark: bool = False


class MessageChanges(Command, tag="message.changes"):
    """What the room has become since a revision."""

    room: Key
    since: Count


class MessageSearch(Command, tag="message.search"):
    """Messages that hold all these words, in one room or wherever I may read."""

    query: Annotated[str, Meta(max_length=1000)]
    room: Key | None = None
    cursor: Annotated[str, Meta(max_length=200)] | None = None
    limit: Limit = 50


class TypingStart(Command, tag="typing.start"):
    """I am writing something; say it again every few seconds."""

    room: Key


class TypingStop(Command, tag="typing.stop"):
    """I have stopped writing."""

    room: Key


class ServerStats(Command, tag="server.stats"):
    """How much is there on this server?"""


class ReadMark(Command, tag="read.mark"):
    """I have read up to `seq`."""

    room: Key
    seq: Count


AnyCommand = (
    Hello
    | ProfileSee
    | ProfileChange
    | PasswordChange
    | UserSee
    | UserFind
    | SessionListing
    | SignOut
    | RoomCreate
    | RoomSee
    | RoomListing
    | RoomJoin
    | RoomLeave
    | RoomOpen
    | MemberListing
    | MessageSend
    | MessageEdit
    | MessageDelete
    | MessageReact
    | MessageUnreact
    | MessagePage
    | MessageUnread
    | MessageChanges
    | MessageSearch
    | ReadMark
    | TypingStart
    | TypingStop
    | ServerStats
)


class Welcome(Model):
    """The answer to `hello`: who you are, which rooms you are in and where each of them stands."""

    user: User
    session_id: str
    epoch: str
    rooms: list[Room]
    ping_seconds: int


class MessageAnswer(Model):
    """The answer to whatever stores or changes a message."""

    message: Message


class Done(Model):
    """The answer where there is nothing to say."""


class ErrorBody(Model):
    """What went wrong, for a program (`code`) and for a person (`detail`)."""

    code: str
    kind: str
    detail: str
    retryable: bool
    retry_after: float | None = None


class Answer(Model):
    """A command that worked."""

    ref: Ref
    ok: Any


class Refusal(Model):
    """A command that did not, and changed nothing."""

    ref: Ref
    error: ErrorBody


class _Ref(msgspec.Struct):
    ref: Ref = None


class _Op(msgspec.Struct):
    op: str


_decode_command = msgspec.json.Decoder(AnyCommand).decode
_decode_ref = msgspec.json.Decoder(_Ref).decode
_decode_op = msgspec.json.Decoder(_Op).decode
OPS = frozenset(str(command.__struct_config__.tag) for command in AnyCommand.__args__)
"""The name of every operation that the socket offers."""


def decode(line: str) -> AnyCommand:
    """Read one command. Raises `InvalidJson`, `UnknownOp`, `InvalidField`."""
    try:
        command: AnyCommand = _decode_command(line)
    except msgspec.ValidationError as error:
        raise _refused(line, error) from None
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise InvalidJson from None
    return command


def _refused(line: str, error: msgspec.ValidationError) -> ParleyError:
    try:
        op = _decode_op(line).op
    except (msgspec.MsgspecError, RecursionError):
        return InvalidField("A command is a JSON object with an `op`.")
    return InvalidField(str(error)) if op in OPS else UnknownOp(f"There is no operation {op[:64]!r}.")


def ref_of(line: str) -> Ref:
    """The `ref` of a command that could not be read, as far as there is one."""
    try:
        return _decode_ref(line).ref
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None


def answer(ref: Ref, ok: Any) -> bytes:
    """One line that says that a command worked."""
    return events.encode(Answer(ref=ref, ok=ok))


def refusal(ref: Ref, error: ParleyError) -> bytes:
    """One line that says why a command did not work."""
    return events.encode(Refusal(ref=ref, error=error_body(error)))


def error_body(error: ParleyError) -> ErrorBody:
    """An error as clients see it."""
    return ErrorBody(
        code=error.code,
        kind=error.kind,
        detail=error.detail,
        retryable=error.retryable,
        retry_after=error.retry_after,
    )
