"""Rooms and who is in them, in the memory."""

from msgspec.structs import replace

from parley import permissions
from parley.errors import NameTaken, RoomFull, RoomNotFound, UserNotFound
from parley.ids import Time
from parley.models import Member, Role, Room, RoomChange
from parley.stores.memory.chat import Chat, Entry
from parley.stores.rules import is_left_alone, resettled, too_many


def add(chat: Chat, room: Room, owner_id: str | None, peer_id: str | None, most: int | None) -> None:
    if room.id in chat.rooms or (room.name is not None and room.name in chat.room_names):
        raise NameTaken
    if most is not None and sum(entry.room.closed_at is None for entry in chat.rooms.values()) >= most:
        raise too_many("PARLEY_MAX_ROOMS", most)
    coming = [each for each in (owner_id, peer_id) if each is not None]
    if any(each not in chat.users for each in coming):
        raise UserNotFound
    if room.capacity is not None and len(coming) > room.capacity:
        raise RoomFull
    entry = chat.rooms[room.id] = Entry(room)
    if room.name is not None:
        chat.room_names[room.name] = room.id
    for user_id in coming:
        enter(chat, entry, user_id, Role.OWNER if peer_id is None else Role.MEMBER, room.created_at)


def open_room(chat: Chat, room_id: str) -> Entry:
    entry = chat.rooms.get(room_id)
    if entry is None or entry.room.closed_at is not None:
        raise RoomNotFound
    return entry


def seen_by(chat: Chat, entry: Entry, user_id: str | None) -> Room:
    """The room as that user sees it, with the other one where it is a direct room of theirs."""
    room = entry.seen_by(user_id)
    others = [each for each in entry.members.values() if each.user_id != user_id]
    if room.kind != "direct" or not others or entry.present(user_id) is None:
        return room
    other = others[0].user_id
    return replace(room, peer=chat.users.get(other) or chat.removed[other].user)


def change(chat: Chat, room_id: str, change: RoomChange, by: str | None) -> Room | None:
    entry = open_room(chat, room_id)
    if by is not None:
        permissions.may_change(entry.room.kind, entry.role_of(by))
    room = resettled(entry.room, change)
    if room == entry.room:
        return None
    turns_private = room.kind != entry.room.kind == "public"
    revision = entry.settings_revision = room.revision + 1
    entry.room = replace(room, revision=revision)
    if turns_private:
        for member in entry.members.values():
            if member.left_at is None:
                entry.members[member.user_id] = replace(member, revision=revision)
    trim(entry)
    return entry.seen_by(None)


def close(chat: Chat, entry: Entry, at: Time) -> Room:
    revision = entry.settings_revision = entry.room.revision + 1
    entry.room = replace(entry.room, closed_at=at, revision=revision)
    if entry.room.name is not None:
        del chat.room_names[entry.room.name]
    return entry.seen_by(None)


def close_due(chat: Chat, at: Time, limit: int) -> list[Room]:
    entries = [each for each in chat.rooms.values() if each.room.closed_at is None]
    due = [
        entry
        for entry in entries
        if (entry.room.expires_at and entry.room.expires_at <= at) or is_left_alone(entry.room)
    ]
    return [close(chat, entry, at) for entry in due[:limit]]


def close_by_hand(chat: Chat, room_id: str, at: Time, by: str | None, only_if_empty: bool) -> Room | None:
    entry = open_room(chat, room_id)
    if by is not None:
        permissions.may_close(entry.room.kind, entry.role_of(by))
    return None if only_if_empty and not is_left_alone(entry.room) else close(chat, entry, at)


def rooms_of(chat: Chat, user_id: str) -> list[Room]:
    entries = [chat.rooms[room_id] for room_id in chat.joined.get(user_id, ())]
    entries.sort(key=lambda entry: (entry.members[user_id].joined_at, entry.room.id))
    return [seen_by(chat, entry, user_id) for entry in entries if entry.room.closed_at is None]


def join(
    chat: Chat, room_id: str, user_id: str, role: Role, at: Time, by: str | None, most: int | None
) -> Member | None:
    entry = open_room(chat, room_id)
    is_in = entry.present(user_id) is not None
    if by == user_id and not is_in:
        permissions.may_join(entry.room.kind, role)
    elif by is not None and by != user_id:
        permissions.may_add(entry.room.kind, entry.role_of(by), role)
    if user_id not in chat.users:
        raise UserNotFound
    if is_in:
        return None
    if entry.is_full():
        raise RoomFull
    if most is not None and entry.room.member_count >= most:
        raise too_many("PARLEY_MAX_ROOM_MEMBERS", most)
    return enter(chat, entry, user_id, role, at)


def enter(chat: Chat, entry: Entry, user_id: str, role: Role, at: Time) -> Member:
    user, former = chat.users[user_id], entry.members.get(user_id)
    member = Member(
        room_id=entry.room.id,
        user_id=user_id,
        name=user.name,
        display_name=user.display_name,
        role=role,
        joined_at=at,
        read_seq=former.read_seq if former else 0,
        revision=former.revision if former else 0,
    )
    entry.room = replace(entry.room, member_count=entry.room.member_count + 1)
    chat.joined.setdefault(user_id, set()).add(entry.room.id)
    chat.moved[user_id] = at
    return entry.set_member(member, stamped=entry.room.kind != "public")


def leave(chat: Chat, room_id: str, user_id: str, at: Time, by: str | None) -> Member | None:
    entry = chat.rooms.get(room_id)
    if entry is None or (by is not None and entry.room.closed_at is not None):
        if by is not None:
            raise RoomNotFound
        return None
    member = entry.present(user_id)
    if by is not None and by != user_id:
        role = member.role if member is not None else None
        permissions.may_remove(entry.room.kind, entry.role_of(by), role)
    if member is None:
        return None
    if by == user_id:
        permissions.may_leave(
            entry.room.kind, member.role, owners=entry.owners(), members=entry.room.member_count
        )
    entry.room = replace(entry.room, member_count=entry.room.member_count - 1)
    chat.joined[user_id].discard(room_id)
    chat.moved[user_id] = at
    return entry.set_member(replace(member, left_at=at), stamped=entry.room.kind != "public")


def change_role(chat: Chat, room_id: str, user_id: str, role: Role, by: str | None) -> Member | None:
    entry = open_room(chat, room_id)
    member = entry.present(user_id)
    if by is not None:
        was = member.role if member is not None else role
        permissions.may_change_role(entry.room.kind, entry.role_of(by), was, role, owners=entry.owners())
    if member is None:
        raise UserNotFound
    return None if member.role is role else entry.set_member(replace(member, role=role), stamped=True)


def trim(entry: Entry) -> None:
    if entry.room.history_limit is None:
        return
    for seq in list(entry.messages)[: max(0, len(entry.messages) - entry.room.history_limit)]:
        gone = entry.messages.pop(seq)
        del entry.seq_of[gone.id]
        entry.trimmed_revision = max(entry.trimmed_revision, gone.revision)
