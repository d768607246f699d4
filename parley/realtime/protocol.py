"""The words of the WebSocket protocol: commands, answers, close codes. No I/O.

A frame carries one or more JSON objects, one per line. A client sends commands `{"op", "ref", …}`; the server
sends answers `{"ref", "ok"}` or `{"ref", "error"}` and events `{"event", …}` (see `parley.events`).
docs/protocol.md is the long form.
"""

from enum import IntEnum
from typing import Generic, TypeVar

import msgspec

from parley import events as events  # clients take events and models from here
from parley.errors import InvalidField, InvalidJson, ParleyError, UnknownOp
from parley.models import Member as Member
from parley.models import Message as Message
from parley.models import Model
from parley.models import Room as Room
from parley.models import User as User
from parley.realtime.operations import OPS as OPS
from parley.realtime.operations import AnyCommand as AnyCommand
from parley.realtime.operations import Ref as Ref

SUBPROTOCOL = "parley.v1.json"
HELLO_SECONDS = 10
MAX_COMMANDS_IN_FRAME = 256


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


Ok = TypeVar("Ok", bound=Model)


class Answer(Model, Generic[Ok]):
    """A command that worked. `ref` is that of the command, `ok` what it answers."""

    ref: Ref
    ok: Ok


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


def answer(ref: Ref, ok: Model) -> bytes:
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
