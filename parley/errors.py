"""Everything that Parley can refuse to do, as one tree of exceptions.

    ParleyError
    ├── Invalid          the request makes no sense as it stands
    ├── Unauthenticated  who are you?
    ├── Forbidden        you may not do that
    ├── NotFound         no such thing, or none that you may see
    ├── Conflict         it is taken, full or at its limit
    ├── TooMany          slow down
    └── Unavailable      not now; the same request may work later

A concrete error adds a `code`, which is stable and which programs may rely on, and a sentence for people.
The core knows no status numbers: each transport maps the seven kinds in one table of its own.
"""

from typing import ClassVar


class ParleyError(Exception):
    """A request was refused and changed nothing.

    `retryable` says whether sending the same request again can help, `retry_after` in how many seconds.
    """

    kind: ClassVar[str]
    code: ClassVar[str]
    retryable: ClassVar[bool] = False
    sentence: ClassVar[str] = "The request was refused."

    def __init__(self, detail: str | None = None, *, retry_after: float | None = None) -> None:
        self.detail = detail or self.sentence
        self.retry_after = retry_after
        super().__init__(self.detail)


class Invalid(ParleyError):
    """Raised when the request makes no sense as it stands."""

    kind = "invalid"
    code = "invalid"


class Unauthenticated(ParleyError):
    """Raised when the caller did not say, or could not prove, who they are."""

    kind = "unauthenticated"
    code = "unauthenticated"


class Forbidden(ParleyError):
    """Raised when the caller is known and may not do that."""

    kind = "forbidden"
    code = "forbidden"


class NotFound(ParleyError):
    """Raised when there is no such thing, or none that the caller may see."""

    kind = "not_found"
    code = "not_found"


class Conflict(ParleyError):
    """Raised when the request clashes with what is there already."""

    kind = "conflict"
    code = "conflict"


class TooMany(ParleyError):
    """Raised when the caller is asking too often."""

    kind = "too_many"
    code = "too_many"
    retryable = True


class Unavailable(ParleyError):
    """Raised when the server cannot do it now; the same request may work later."""

    kind = "unavailable"
    code = "unavailable"
    retryable = True


class InvalidField(Invalid):
    """Raised when a field is missing, of the wrong type or out of range."""

    code = "invalid_field"
    sentence = "A field is missing, of the wrong type or out of range."


class InvalidJson(Invalid):
    """Raised when the input is not JSON at all."""

    code = "invalid_json"
    sentence = "That is not valid JSON."


class UnknownOp(Invalid):
    """Raised when a command names an operation that does not exist."""

    code = "unknown_op"
    sentence = "There is no such operation."


class BodyTooLarge(Invalid):
    """Raised when a request body or frame is larger than the server reads."""

    code = "body_too_large"
    sentence = "The request is larger than this server reads."


class EmptyMessage(Invalid):
    """Raised when a message has no text."""

    code = "empty_message"
    sentence = "A message needs some text."


class MessageTooLong(Invalid):
    """Raised when a message's text exceeds `max_message_bytes` in UTF-8."""

    code = "message_too_long"
    sentence = "The message is too long."


class SearchTooBroad(Invalid):
    """Raised when there is too much to look through for what was searched for."""

    code = "search_too_broad"
    sentence = "There is too much of that; search for longer or rarer words, or in one room."


class TokenMissing(Unauthenticated):
    """Raised when no token came with the request."""

    code = "token_missing"
    sentence = "Sign in first: no token came with the request."


class TokenInvalid(Unauthenticated):
    """Raised when the token is not one of ours, or its session was ended."""

    code = "token_invalid"
    sentence = "The token is not valid."


class TokenExpired(Unauthenticated):
    """Raised when the token's session has run out."""

    code = "token_expired"
    sentence = "The session has expired."


class WrongPassword(Unauthenticated):
    """Raised when name and password do not belong together, whichever of them is wrong."""

    code = "wrong_password"
    sentence = "There is no account of that name and password."


class NotAllowed(Forbidden):
    """Raised when the caller's role does not permit the operation."""

    code = "not_allowed"
    sentence = "You may not do that here."


class NotAMember(Forbidden):
    """Raised when the caller would have to join the (public) room first."""

    code = "not_a_member"
    sentence = "Join the room first."


class ReadOnlyRoom(Forbidden):
    """Raised when only owners and moderators write in the room."""

    code = "read_only_room"
    sentence = "Only the owner and moderators write in this room."


class NotYourMessage(Forbidden):
    """Raised when the message belongs to somebody else."""

    code = "not_your_message"
    sentence = "That message is somebody else's."


class GuestsNotAllowed(Forbidden):
    """Raised when this server takes no guests."""

    code = "guests_not_allowed"
    sentence = "This server takes no guests."


class RegistrationClosed(Forbidden):
    """Raised when this server lets nobody make an account."""

    code = "registration_closed"
    sentence = "This server takes no new accounts."


class RoomNotFound(NotFound):
    """Raised when the room does not exist, is closed, or is none of the caller's business."""

    code = "room_not_found"
    sentence = "There is no such room."


class UserNotFound(NotFound):
    """Raised when the user does not exist."""

    code = "user_not_found"
    sentence = "There is no such user."


class SessionNotFound(NotFound):
    """Raised when there is no such session of the caller."""

    code = "session_not_found"
    sentence = "There is no such session."


class MessageNotFound(NotFound):
    """Raised when the message does not exist in that room, or was deleted."""

    code = "message_not_found"
    sentence = "There is no such message."


class PathNotFound(NotFound):
    """Raised when the address names nothing."""

    code = "path_not_found"
    sentence = "There is nothing at this address."


class MethodNotAllowed(Invalid):
    """Raised when the address exists but does not take that method."""

    code = "method_not_allowed"
    sentence = "This address does not take that method."


class NameTaken(Conflict):
    """Raised when the name belongs to another user or room."""

    code = "name_taken"
    sentence = "That name is taken."


class IdTaken(Conflict):
    """Raised when a message id was already used for another author or another text."""

    code = "id_taken"
    sentence = "That id was already used for another message."


class RoomFull(Conflict):
    """Raised when the room holds as many members as it takes."""

    code = "room_full"
    sentence = "The room is full."


class LimitReached(Conflict):
    """Raised when a limit of the server is reached; the detail names it."""

    code = "limit_reached"
    sentence = "A limit of this server is reached."


class RateLimited(TooMany):
    """Raised when the caller must wait before asking again."""

    code = "rate_limited"
    sentence = "Too many requests; wait a moment."


class Overloaded(Unavailable):
    """Raised when a bounded queue is full."""

    code = "overloaded"
    sentence = "The server is busy; try again in a moment."


class StoreUnavailable(Unavailable):
    """Raised when the store does not answer, cannot write, or broke off; what was asked may or may not be
    done."""

    code = "store_unavailable"
    sentence = "The store does not answer; try again in a moment."


class Draining(Unavailable):
    """Raised when the server is about to stop."""

    code = "draining"
    sentence = "The server is restarting; try again in a moment."


class InternalError(Unavailable):
    """Raised in place of a fault of ours, so that no client ever sees a traceback."""

    code = "internal_error"
    retryable = False
    sentence = "Something went wrong here; it has been logged."


class StartError(Exception):
    """Raised when the server cannot start; its text is one line that says why and what to do."""
