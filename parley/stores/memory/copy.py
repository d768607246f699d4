"""A whole chat out of the memory and into it."""

from collections.abc import AsyncIterator, Sequence

from parley.errors import StartError
from parley.models import Member, Session
from parley.stores.base import Record, RoomState, UserState
from parley.stores.memory.chat import Chat, Entry


async def dump(chat: Chat) -> AsyncIterator[Record]:
    states = [UserState(user=user, password_hash=chat.passwords.get(user.id)) for user in chat.users.values()]
    states += chat.removed.values()
    for state in sorted(states, key=lambda state: state.user.id):
        yield state
    for session in sorted(chat.sessions.values(), key=lambda session: session.id):
        yield session
    for entry in sorted(chat.rooms.values(), key=lambda entry: entry.room.id):
        if entry.room.closed_at is not None:
            continue
        revision = entry.room.revision
        yield RoomState(
            room=entry.seen_by(None),
            first_seq=next(iter(entry.messages), entry.room.last_seq + 1),
            trimmed_revision=entry.trimmed_revision,
            settings_revision=entry.settings_revision,
        )
        for member in sorted(entry.members.values(), key=lambda member: member.user_id):
            yield member
        for message in list(entry.messages.values()):
            yield message
        if entry.room.revision != revision:
            raise StartError(f"room {entry.room.name or entry.room.id} goes on meanwhile")


def load(chat: Chat, records: Sequence[Record]) -> None:
    for record in records:
        _load(chat, record)


def _load(chat: Chat, record: Record) -> None:
    if isinstance(record, UserState):
        user = record.user
        if record.deleted_at is not None:
            chat.removed[user.id] = record
        else:
            chat.users[user.id] = user
            if record.password_hash is not None:
                chat.passwords[user.id] = record.password_hash
            chat.user_names[user.name] = user.id
    elif isinstance(record, Session):
        chat.sessions[record.id] = record
    elif isinstance(record, RoomState):
        entry = Entry(
            record.room,
            trimmed_revision=record.trimmed_revision,
            settings_revision=record.settings_revision,
        )
        chat.rooms[record.room.id] = entry
        if record.room.name is not None:
            chat.room_names[record.room.name] = record.room.id
    elif isinstance(record, Member):
        chat.rooms[record.room_id].members[record.user_id] = record
        if record.left_at is None:
            chat.joined.setdefault(record.user_id, set()).add(record.room_id)
    else:
        entry = chat.rooms[record.room_id]
        entry.messages[record.seq] = record
        entry.seq_of[record.id] = record.seq
