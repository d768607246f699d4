"""What Parley talks about: users, rooms, members and messages, and the changes that rooms go through.

Each model is defined once, here, and serves JSON over HTTP, the WebSocket frames, the bus and the OpenAPI
page. They are msgspec structs: immutable, quick to make and to encode, and invisible to the garbage
collector.
"""

import dataclasses
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, dataclass_transform, get_args, get_origin, get_type_hints

import msgspec

from parley.ids import Time

LOBBY = "lobby"


class _ByKeyword(msgspec.StructMeta):
    """Makes every field of every model a keyword; msgspec does not inherit that one option."""

    def __new__(mcls, name: str, bases: tuple[type, ...], fields: dict[str, Any], **options: Any) -> Any:
        return super().__new__(mcls, name, bases, fields, **{"kw_only": True, **options})


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Model(msgspec.Struct, metaclass=_ByKeyword, frozen=True, gc=False):
    """The base of every model."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Describe the model to FastAPI, which documents answers but does not encode them."""
        hints = get_type_hints(cls)
        fields: list[Any] = []
        for field in msgspec.structs.fields(cls):
            hint = _documented(hints[field.name])
            fields.append((field.name, hint) if field.required else (field.name, hint, None))
        return handler(
            dataclasses.make_dataclass(cls.__name__, fields, namespace={"__doc__": cls.__doc__}, kw_only=True)
        )


def _documented(hint: Any) -> Any:
    """The type that the OpenAPI page shows: times as date-times, optional keys without `UNSET`."""
    if hint is Time:
        return datetime
    if get_origin(hint) is None or get_origin(hint) is Literal:
        return hint
    arguments = tuple(_documented(each) for each in get_args(hint) if each is not msgspec.UnsetType)
    if get_origin(hint) in (list, dict, tuple):
        return get_origin(hint)[arguments]
    union = arguments[0]
    for each in arguments[1:]:
        union = union | each
    return union


class Role(StrEnum):
    """What a member may do in a room, from most to least."""

    OWNER = "owner"
    MODERATOR = "moderator"
    MEMBER = "member"
    READER = "reader"


UserKind = Literal["person", "guest", "agent"]
RoomKind = Literal["public", "private", "direct"]
MessageKind = Literal["text", "agent", "system"]


class User(Model):
    """Somebody who takes part. `name` is unique; `display_name` is what others read."""

    id: str
    name: str
    display_name: str
    kind: UserKind
    online: bool = False
    last_seen_at: Time | None = None


class Session(Model):
    """Somebody signed in on one device, and when that ends. `label` says which device.

    Tokens name their session. A guest's one token is known by its SHA-256; of a person's, `generation` counts
    how often the refresh token was changed for a new one, the last time at `rotated_at`.
    """

    id: str
    user_id: str
    token_hash: bytes
    created_at: Time
    expires_at: Time
    label: str = ""
    generation: int = 0
    rotated_at: Time | None = None


class UserList(Model):
    """Some users; `next` asks for more."""

    items: list[User]
    next: str | None = None


class Device(Model):
    """One of the caller's sessions; `current` is the one that asks."""

    id: str
    label: str
    created_at: Time
    expires_at: Time
    current: bool


class DeviceList(Model):
    """Where the caller is signed in."""

    items: list[Device]


class Room(Model):
    """A numbered history and its settings.

    `last_seq` counts its messages, `revision` its changes, both without holes. `history_limit` and `capacity`
    are None where there is no limit. `role`, `read_seq` and `unread` are there for its members only, and in a
    direct room `peer`, the other one of the two.
    """

    id: str
    name: str | None
    title: str
    kind: RoomKind
    created_by: str | None
    created_at: Time
    expires_at: Time | None = None
    capacity: int | None = None
    history_limit: int | None = None
    read_only: bool = False
    close_when_empty: bool = False
    member_count: int = 0
    online_count: int = 0
    message_count: int = 0
    last_message_at: Time | None = None
    last_seq: int = 0
    revision: int = 0
    closed_at: Time | None = None
    role: Role | msgspec.UnsetType = msgspec.UNSET
    read_seq: int | msgspec.UnsetType = msgspec.UNSET
    unread: int | msgspec.UnsetType = msgspec.UNSET
    peer: User | msgspec.UnsetType = msgspec.UNSET


class RoomChange(Model):
    """Other settings for a room; what is `UNSET` stays as it is."""

    title: str | msgspec.UnsetType = msgspec.UNSET
    kind: RoomKind | msgspec.UnsetType = msgspec.UNSET
    capacity: int | msgspec.UnsetType | None = msgspec.UNSET
    history_limit: int | msgspec.UnsetType | None = msgspec.UNSET
    read_only: bool | msgspec.UnsetType = msgspec.UNSET
    expires_at: Time | msgspec.UnsetType | None = msgspec.UNSET
    close_when_empty: bool | msgspec.UnsetType = msgspec.UNSET


class Member(Model):
    """Somebody in a room, or somebody who was (`left_at`). `revision` is that of their last change, as far as
    it was a change of the room."""

    room_id: str
    user_id: str
    name: str
    display_name: str
    role: Role
    joined_at: Time
    left_at: Time | None = None
    read_seq: int = 0
    revision: int = 0
    online: bool = False


class Mark(Model):
    """A member has read a room up to `seq`."""

    room_id: str
    user_id: str
    seq: int


class Marked(Model):
    """Where a read mark is now, whether it was moved there just now, and how many members the room has."""

    seq: int
    moved: bool
    member_count: int


class Message(Model):
    """One entry of a room's history. A deleted one keeps its place, without its text.

    `revision` is that of its last change; `reactions` maps an emoji to the ids of the users who chose it, in
    order.
    """

    id: str
    room_id: str
    seq: int
    revision: int
    author_id: str
    author_name: str
    kind: MessageKind
    text: str
    sent_at: Time
    reply_to: str | None = None
    edited_at: Time | None = None
    deleted_at: Time | None = None
    reactions: dict[str, list[str]] = {}


class Changes(Model):
    """What a room has become since a revision: whatever is stamped later, as it is now, in order.

    With `reset`, the history before is gone or is another one: forget what you know of this room; here is its
    newest page. Remember `revision` for the next time.
    """

    revision: int
    messages: list[Message] = []
    members: list[Member] = []
    room: Room | None = None
    reset: bool = False


class Page(Model):
    """Some messages of a room, in `seq` order; `next` asks for the page further on in the same direction."""

    items: list[Message]
    next: str | None = None


class RoomList(Model):
    """Some rooms; `next` asks for more."""

    items: list[Room]
    next: str | None = None


class MemberList(Model):
    """Some members; `next` asks for more."""

    items: list[Member]
    next: str | None = None


class SearchResult(Model):
    """Messages that hold the words, the newest first; `next` asks for more. `complete` is False where this
    store did not look at older messages."""

    items: list[Message]
    next: str | None = None
    complete: bool = True


class Stats(Model):
    """How much there is on this server. `online` counts users who are connected now."""

    users: int
    guests: int
    rooms: int
    messages: int
    messages_last_hour: int
    online: int = 0


class Limits(Model):
    """What this server allows; None, and for the rate 0, where there is no limit. `session_ttl` is in
    seconds, `rate_limit` in requests a second of one user in the long run."""

    guests: bool
    registration: bool
    session_ttl: int
    max_users: int | None
    max_rooms: int | None
    max_room_members: int | None
    max_history: int | None
    max_message_bytes: int
    lobby_history: int
    rate_limit: float


class Send(Model):
    """A message on its way into a room. `id` was chosen by the client."""

    room_id: str
    id: str
    author_id: str
    author_name: str
    kind: MessageKind
    text: str
    sent_at: Time
    reply_to: str | None = None


class Edit(Model):
    """New text for a message, from its author."""

    room_id: str
    id: str
    user_id: str
    text: str
    at: Time


class Delete(Model):
    """A message is taken back, by its author or by whoever keeps order in the room."""

    room_id: str
    id: str
    user_id: str
    at: Time


class React(Model):
    """A user adds an emoji to a message, or with `on=False` takes it back."""

    room_id: str
    id: str
    user_id: str
    emoji: str
    on: bool = True


Change = Send | Edit | Delete | React
"""What the journal takes: everything that gives a room its next revision."""


class Applied(Model):
    """What became of a change: the message as it is stored now, and whether this change is what made it so.

    `fresh` is False where there was nothing left to do: the same id sent again, the same reaction given
    twice.
    """

    message: Message
    fresh: bool
