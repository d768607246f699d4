"""Models to what Redis keeps, and back."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from parley.ids import Time
from parley.models import Member, Message, MessageKind, Role, Room, RoomChange, Send, Session, User
from parley.stores.base import RoomState, UserState

_COUNTERS = ("first_seq", "trimmed_revision", "settings_revision")
"""Fields of a room that are nobody's business but the scripts'."""

_MADE_UP = {"message_count", "role", "read_seq", "unread", "peer"}
"""Fields of a room that follow from others."""


class _Row(msgspec.Struct, array_like=True, gc=False):
    """A message without what stands before it: revision and id. `apply.lua` knows the places."""

    author_id: str
    author_name: str
    kind: MessageKind
    text: str
    sent_at: Time
    reply_to: str | None = None
    edited_at: Time | None = None
    deleted_at: Time | None = None
    # Pairs, because the order matters and Lua's tables have none.
    reactions: list[tuple[str, list[str]]] | None = None


_encode = msgspec.json.Encoder().encode
_row = msgspec.json.Decoder(_Row).decode
_user = msgspec.json.Decoder(User).decode


def row_of(send: Send) -> bytes:
    """A new message's row."""
    return _encode(_Row(send.author_id, send.author_name, send.kind, send.text, send.sent_at, send.reply_to))


def message_value(message: Message) -> bytes:
    """A message as it is kept, with what stands before its row."""
    row = _Row(
        message.author_id,
        message.author_name,
        message.kind,
        message.text,
        message.sent_at,
        message.reply_to,
        message.edited_at,
        message.deleted_at,
        list(message.reactions.items()) or None,
    )
    return f"{message.revision} {message.id} ".encode() + _encode(row)


def message(room_id: str, seq: int | bytes, value: bytes) -> Message:
    revision, id_, row = value.split(b" ", 2)
    fields = _row(row)
    return Message(
        id=id_.decode(),
        room_id=room_id,
        seq=int(seq),
        revision=int(revision),
        author_id=fields.author_id,
        author_name=fields.author_name,
        kind=fields.kind,
        text=fields.text,
        sent_at=fields.sent_at,
        reply_to=fields.reply_to,
        edited_at=fields.edited_at,
        deleted_at=fields.deleted_at,
        reactions=dict(fields.reactions or ()),
    )


def messages(room_id: str, flat: Sequence[Any]) -> list[Message]:
    """From seq, value, seq, value, …"""
    return [message(room_id, *each) for each in zip(flat[::2], flat[1::2], strict=True)]


def user_text(user: User, deleted_at: Time | None = None) -> bytes:
    """A user's JSON; before that of one who was removed stands when."""
    return _encode(user) if deleted_at is None else f"{deleted_at} ".encode() + _encode(user)


def user(value: bytes | None) -> User | None:
    """A user who was not removed."""
    return _user(value) if value is not None and value.startswith(b"{") else None


def user_state(value: bytes | None) -> UserState | None:
    """A user, removed or not."""
    if value is None:
        return None
    removed, brace, rest = value.partition(b"{")
    return UserState(
        user=_user(brace + rest), deleted_at=Time(removed.split()[0].decode()) if removed else None
    )


def freed_name(value: bytes | None) -> str | None:
    """The name of a user who was removed, if it was not given back yet."""
    removed = value.partition(b"{")[0].split() if value is not None else []
    return removed[1].decode() if len(removed) > 1 else None


def session_fields(session: Session) -> list[str | bytes]:
    return _flat({**msgspec.to_builtins(session), "token_hash": session.token_hash.hex()})


def session(flat: Sequence[bytes]) -> Session | None:
    if not flat:
        return None
    fields = {name.decode(): value.decode() for name, value in _pairs(flat)}
    return Session(
        id=fields["id"],
        user_id=fields["user_id"],
        token_hash=bytes.fromhex(fields["token_hash"]),
        created_at=Time(fields["created_at"]),
        expires_at=Time(fields["expires_at"]),
        label=fields["label"],
        generation=int(fields["generation"]),
        rotated_at=Time(fields["rotated_at"]) if "rotated_at" in fields else None,
    )


def room_fields(room: Room) -> list[str | bytes]:
    """A new room's fields, with its counters at their beginning."""
    state = RoomState(room=room, first_seq=room.last_seq + 1, trimmed_revision=0, settings_revision=0)
    return state_fields(state)


def state_fields(state: RoomState) -> list[str | bytes]:
    """A room's fields and its counters."""
    fields = {name: value for name, value in msgspec.to_builtins(state.room).items() if name not in _MADE_UP}
    counters = {name: value for name, value in msgspec.to_builtins(state).items() if name != "room"}
    return _flat({**fields, **counters})


def changed_fields(change: RoomChange) -> tuple[list[str | bytes], list[str]]:
    """The fields of a room with their new values, and those that become none."""
    fields = msgspec.to_builtins(change)
    return _flat(fields), [name for name, value in fields.items() if value is None]


def room(flat: Sequence[bytes]) -> Room | None:
    """An open room, as a stranger sees it."""
    state = room_state(flat)
    return state.room if state is not None and state.room.closed_at is None else None


def room_state(flat: Sequence[bytes]) -> RoomState | None:
    """A room, open or closed."""
    stored = {name.decode(): value.decode() for name, value in _pairs(flat)}
    if not stored:
        return None
    counters = {name: int(stored.pop(name)) for name in _COUNTERS}
    fields: dict[str, str | None] = {"name": None, "created_by": None, **stored}
    fields["message_count"] = str(int(stored["last_seq"]) - counters["first_seq"] + 1)
    return RoomState(room=msgspec.convert(fields, Room, strict=False), **counters)


def room_of_member(room: Room, member: Member, peer: User | msgspec.UnsetType) -> Room:
    """The room as one of its members sees it."""
    unread = room.last_seq - member.read_seq
    return replace(room, role=member.role, read_seq=member.read_seq, unread=unread, peer=peer)


def member_text(user: User, role: Role, at: Time) -> bytes:
    """A new membership, without what is kept elsewhere."""
    return _encode({"name": user.name, "display_name": user.display_name, "role": role, "joined_at": at})


def member_value(member: Member) -> bytes:
    """A membership as it is kept, ended or not."""
    fields = {
        "name": member.name,
        "display_name": member.display_name,
        "role": member.role,
        "joined_at": member.joined_at,
    }
    ended = {"left_at": member.left_at} if member.left_at is not None else {}
    return f"{member.revision} ".encode() + _encode({**fields, **ended})


def member(room_id: str, user_id: bytes, value: bytes, mark: bytes | None) -> Member:
    revision, json = value.split(b" ", 1)
    ids = {"room_id": room_id, "user_id": user_id.decode()}
    counters = {"read_seq": int(mark or 0), "revision": int(revision)}
    return msgspec.convert({**msgspec.json.decode(json), **ids, **counters}, Member)


def members(room_id: str, flat: Sequence[Any]) -> list[Member]:
    """From user, value, mark, user, value, mark, …"""
    return [member(room_id, *each) for each in zip(flat[::3], flat[1::3], flat[2::3], strict=True)]


def _pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _flat(fields: dict[str, Any]) -> list[str | bytes]:
    """Fields and values one after the other, without those that are None."""
    flat: list[str | bytes] = []
    for name, value in fields.items():
        if value is not None:
            flat += name, value if isinstance(value, str) else _encode(value)
    return flat
