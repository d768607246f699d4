"""Searching, counting and deleting in the memory."""

from collections.abc import Iterable

from msgspec.structs import replace

from parley.ids import Time, to_ms
from parley.models import Session, Stats
from parley.stores.base import DELETED, MAX_SCAN, Found, Query
from parley.stores.memory.chat import Chat, Entry
from parley.stores.rules import newest_first
from parley.words import holds

MINUTE_MS = 60_000


def search(chat: Chat, query: Query) -> Found:
    found = [
        message
        for entry in _readable(chat, query)
        for message in entry.messages.values()
        if query.before is None or newest_first(message) < query.before
    ]
    found.sort(key=newest_first, reverse=True)
    held = [message for message in found[:MAX_SCAN] if holds(message.text, query.words)]
    complete = len(found) <= MAX_SCAN or len(held) >= query.limit
    return Found(messages=held[: query.limit], complete=complete)


def _readable(chat: Chat, query: Query) -> Iterable[Entry]:
    entries = [entry for entry in chat.rooms.values() if query.room_id in (None, entry.room.id)]
    return [
        entry
        for entry in entries
        if entry.room.closed_at is None and (entry.room.kind == "public" or entry.present(query.user_id))
    ]


def stats(chat: Chat, at: Time) -> Stats:
    minute = to_ms(at) // MINUTE_MS
    chat.sent_in = {each: sent for each, sent in chat.sent_in.items() if each > minute - 60}
    guests = sum(user.kind == "guest" for user in chat.users.values())
    entries = [entry for entry in chat.rooms.values() if entry.room.closed_at is None]
    return Stats(
        users=len(chat.users) - guests,
        guests=guests,
        rooms=len(entries),
        messages=sum(len(entry.messages) for entry in entries),
        messages_last_hour=sum(chat.sent_in.values()),
    )


def ended_sessions(chat: Chat, before: Time, limit: int) -> list[Session]:
    ended = (each for each in chat.sessions.values() if each.expires_at <= before)
    return [each for each in ended if chat.users[each.user_id].kind != "guest"][:limit]


def purge_rooms(chat: Chat, before: Time) -> int:
    chat.moved = {user_id: at for user_id, at in chat.moved.items() if at > before}
    entries = list(chat.rooms.values())
    closed = [each for each in entries if each.room.closed_at and each.room.closed_at <= before]
    for entry in closed:
        del chat.rooms[entry.room.id]
        for joined in chat.joined.values():
            joined.discard(entry.room.id)
    return sum(1 + len(entry.messages) for entry in closed)


def disown(chat: Chat, room_id: str, user_id: str, after: int, limit: int) -> int | None:
    entry = chat.rooms.get(room_id)
    if entry is None:
        return None
    seqs = range(after + 1, min(after + limit, entry.room.last_seq) + 1)
    theirs = [entry.messages[seq] for seq in seqs if seq in entry.messages]
    theirs = [each for each in theirs if each.author_id == user_id and each.author_name != DELETED]
    for message in theirs:
        entry.messages[message.seq] = replace(message, author_name=DELETED)
    if theirs:
        revision = entry.trimmed_revision = entry.room.revision + 1
        entry.room = replace(entry.room, revision=revision)
    return after + limit if after + limit < entry.room.last_seq else None
