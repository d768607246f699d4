"""What a client may ask for over the WebSocket: one class per operation. No I/O.

Each takes the fields of its HTTP twin, with what stands in the path as `room`, `message` and `user`.
"""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from parley.models import Model, Role

MAX_MEMBERS = 1_000_000
MAX_HISTORY = 1_000_000
MAX_TTL = 31_536_000
"""A year."""

Key = Annotated[str, Meta(min_length=1, max_length=200)]
"""An id or a name."""
Count = Annotated[int, Meta(ge=0, le=2**53)]
"""A `seq` or a revision, within what every JSON reader keeps exactly."""
Cursor = Annotated[str, Meta(max_length=200)]
Short = Annotated[str, Meta(max_length=200)]
Long = Annotated[str, Meta(max_length=1000)]
Secret = Annotated[str, Meta(max_length=2000)]
Token = Annotated[str, Meta(max_length=4096)]
Limit = Annotated[int, Meta(ge=1, le=200)]
Ref = Annotated[int, Meta(ge=-(2**53), le=2**53)] | Annotated[str, Meta(max_length=64)] | None

Members = Annotated[int, Meta(ge=1, le=MAX_MEMBERS)]
History = Annotated[int, Meta(ge=1, le=MAX_HISTORY)]
Seconds = Annotated[int, Meta(ge=1, le=MAX_TTL)]

# Told by the description of the API; the services check these, and say more when they refuse.
Uuid = Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
Kind = Annotated[str, Meta(extra_json_schema={"enum": ["public", "private"]})]
Scope = Annotated[str, Meta(extra_json_schema={"enum": ["public", "mine"]})]
RoleName = Annotated[str, Meta(extra_json_schema={"enum": [str(role) for role in Role]})]


class Command(Model, tag_field="op"):
    """What a client asks for. The answer repeats `ref`."""

    ref: Ref = None


class Hello(Command, tag="hello"):
    """Say who you are and where you stopped; the first command of every connection."""

    token: Token | None = None
    since: Annotated[dict[Key, Count], Meta(max_length=10_000)] = {}
    epoch: Annotated[str, Meta(max_length=64)] | None = None


class Register(Command, tag="account.register"):
    """Make an account and sign in; possible before hello."""

    name: Short
    password: Secret
    display_name: Long | None = None


class SignIn(Command, tag="session.create"):
    """Sign in with a name and a password; possible before hello."""

    name: Short
    password: Secret


class ComeAsGuest(Command, tag="session.guest"):
    """Come in with nothing but a display name; possible before hello."""

    display_name: Long


class Refresh(Command, tag="session.refresh"):
    """New tokens in place of a refresh token; possible before hello."""

    refresh_token: Token


class AccountExport(Command, tag="account.export"):
    """My own data, page by page."""

    cursor: Cursor | None = None


class AccountDelete(Command, tag="account.delete"):
    """Remove me. What I wrote stays, under nobody's name."""


class ProfileSee(Command, tag="profile.see"):
    """Who am I?"""


class ProfileChange(Command, tag="profile.change"):
    """Be shown under another name."""

    display_name: Long


class PasswordChange(Command, tag="password.change"):
    """Take another password; all my other devices are signed out."""

    password: Secret
    new_password: Secret


class UserSee(Command, tag="user.see"):
    """See somebody, by id or name."""

    user: Key


class UserFind(Command, tag="user.find"):
    """People whose name or display name begins so; without `query`, those who are online."""

    query: Key | None = None
    cursor: Cursor | None = None
    limit: Limit = 50


class SignOut(Command, tag="session.end"):
    """End my session, or another one of mine, or all of them."""

    session: Key | None = None
    everywhere: bool = False


class SessionListing(Command, tag="session.list"):
    """Where am I signed in?"""


class RoomCreate(Command, tag="room.create"):
    """Make a room, `public` or `private`; its owner is whoever asks."""

    name: str | None = None
    title: str | None = None
    kind: Kind = "public"
    capacity: Members | None = None
    history_limit: History | None = None
    read_only: bool = False
    ttl_seconds: Seconds | None = None
    close_when_empty: bool = False


class RoomChange(Command, tag="room.change"):
    """Change a room's settings, those that are given; null takes a limit away."""

    room: Key
    title: str | UnsetType = UNSET
    kind: Kind | UnsetType = UNSET
    capacity: Members | UnsetType | None = UNSET
    history_limit: History | UnsetType | None = UNSET
    read_only: bool | UnsetType = UNSET
    ttl_seconds: Seconds | UnsetType | None = UNSET
    close_when_empty: bool | UnsetType = UNSET


class RoomClose(Command, tag="room.close"):
    """Close a room for everybody."""

    room: Key


class RoomDirect(Command, tag="room.direct"):
    """The room of the two of us, made on first use."""

    user: Key


class RoomSee(Command, tag="room.see"):
    """See one room."""

    room: Key


class RoomListing(Command, tag="room.list"):
    """List the rooms of a scope, `mine` or `public`."""

    scope: Scope = "public"
    cursor: Cursor | None = None
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


class MemberAdd(Command, tag="member.add"):
    """Bring somebody into a room."""

    room: Key
    user: Key
    role: RoleName = "member"


class MemberRemove(Command, tag="member.remove"):
    """Show somebody the door."""

    room: Key
    user: Key


class MemberChange(Command, tag="member.change"):
    """Give a member another role."""

    room: Key
    user: Key
    role: RoleName


class MemberListing(Command, tag="member.list"):
    """List the members of a room."""

    room: Key
    cursor: Cursor | None = None
    limit: Limit = 50


class MessageSend(Command, tag="message.send"):
    """Write into a room, or to somebody: one of `room` and `user` is given. Repeating it under the same `id`
    is safe."""

    text: str
    room: Key | None = None
    user: Key | None = None
    id: Uuid | None = None
    reply_to: Uuid | None = None


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

    query: Long
    room: Key | None = None
    cursor: Cursor | None = None
    limit: Limit = 50


class TypingStart(Command, tag="typing.start"):
    """I am writing something; say it again every few seconds."""

    room: Key


class TypingStop(Command, tag="typing.stop"):
    """I have stopped writing."""

    room: Key


class ServerLimits(Command, tag="server.limits"):
    """What does this server allow? Possible before hello, as it says how to come in."""


class ServerStats(Command, tag="server.stats"):
    """How much is there on this server?"""


class ReadMark(Command, tag="read.mark"):
    """I have read up to `seq`."""

    room: Key
    seq: Count


AnyCommand = (
    Hello
    | Register
    | SignIn
    | ComeAsGuest
    | Refresh
    | AccountExport
    | AccountDelete
    | ProfileSee
    | ProfileChange
    | PasswordChange
    | UserSee
    | UserFind
    | SessionListing
    | SignOut
    | RoomCreate
    | RoomChange
    | RoomClose
    | RoomDirect
    | RoomSee
    | RoomListing
    | RoomJoin
    | RoomLeave
    | RoomOpen
    | MemberAdd
    | MemberRemove
    | MemberChange
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
    | ServerLimits
    | ServerStats
)


Arriving = Register | SignIn | ComeAsGuest | Refresh | ServerLimits
"""Commands of somebody who is not signed in yet; they are taken after hello as well."""

OPS = frozenset(str(command.__struct_config__.tag) for command in AnyCommand.__args__)
"""The name of every operation that the socket offers."""
