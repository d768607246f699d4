"""Applying a batch of changes to an SQLite file: the hot path, on the driver's own cursor."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from sqlalchemy import Connection

from parley import permissions
from parley.errors import IdTaken, MessageNotFound, ParleyError, RoomNotFound
from parley.ids import now_ms, to_ms
from parley.models import Applied, Change, Delete, Edit, Message, React, Role, RoomKind, Send
from parley.stores.rules import resent, revised, sent, strange
from parley.stores.sql import rows
from parley.stores.sql.counters import MINUTE_MS

_ROOM = """
    SELECT kind, read_only, history_limit, first_seq, last_seq, last_message_at, revision,
        trimmed_revision
    FROM rooms WHERE id = ? AND closed_at IS NULL
"""
_ROLE = "SELECT role FROM members WHERE room_id = ? AND user_id = ? AND left_at IS NULL"
_MESSAGE = """
    SELECT room_id, seq, id, revision, author_id, author_name, kind, text, reply_to, sent_at,
        edited_at, deleted_at, reactions
    FROM messages WHERE room_id = ? AND id = ?
"""
_INSERT = """
    INSERT INTO messages
        (room_id, seq, id, revision, author_id, author_name, kind, text, reply_to, sent_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (room_id, id) DO NOTHING
"""
_UPDATE = """
    UPDATE messages SET revision = ?, text = ?, edited_at = ?, deleted_at = ?, reactions = ?
    WHERE room_id = ? AND seq = ?
"""
_TRIM = "DELETE FROM messages WHERE room_id = ? AND seq < ? RETURNING revision"
_BUMP = """
    UPDATE rooms
    SET first_seq = ?, last_seq = ?, last_message_at = ?, revision = ?, trimmed_revision = ?
    WHERE id = ?
"""
_COUNT = """
    INSERT INTO counters (name, minute, shard, value) VALUES (?, ?, 0, ?)
    ON CONFLICT (name, minute, shard) DO UPDATE SET value = value + excluded.value
"""


def apply(connection: Connection, changes: Sequence[Change]) -> list[Applied | ParleyError]:
    batch = _Batch(cast(sqlite3.Connection, connection.connection.driver_connection).cursor())
    results: list[Applied | ParleyError] = []
    for change in changes:
        try:
            results.append(batch.apply(change))
        except ParleyError as error:
            results.append(error)
    batch.finish()
    return results


@dataclass(slots=True)
class _Room:
    """A room as the batch has made it so far."""

    id: str
    kind: RoomKind
    read_only: bool
    history_limit: int | None
    first_seq: int
    last_seq: int
    last_message_at: int | None
    revision: int
    trimmed_revision: int
    changed: bool = False
    roles: dict[str, Role | None] = field(default_factory=dict)


class _Batch:
    """One transaction's view of the rooms that it touches.

    Each room and role is read once: there is one writer, so that what a transaction has read stays
    true until it ends. The numbers move here and reach the room's row at the end, once per batch
    instead of once per message; a change that is refused has moved none.
    """

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self._rooms: dict[str, _Room] = {}
        self._sent = 0

    def apply(self, change: Change) -> Applied:
        room = self._rooms.get(change.room_id) or self._read_room(change.room_id)
        return self._send(room, change) if isinstance(change, Send) else self._revise(room, change)

    def finish(self) -> None:
        trimmed = 0
        for room in self._rooms.values():
            if room.changed:
                trimmed += self._trim(room)
                values = (room.first_seq, room.last_seq, room.last_message_at, room.revision)
                self._cursor.execute(_BUMP, (*values, room.trimmed_revision, room.id))
        if self._sent or trimmed:
            minute = now_ms() // MINUTE_MS
            counts = (("messages", 0, self._sent - trimmed), ("sent", minute, self._sent))
            self._cursor.executemany(_COUNT, counts)

    def _send(self, room: _Room, send: Send) -> Applied:
        refusal = self._refusal(room, send)
        if refusal is None and self._insert(room, send):
            return Applied(message=sent(send, room.last_seq, room.revision), fresh=True)
        # The id may be there already, and then whoever may see the room gets the answer to it.
        stored = self._stored(room, send.id) if not isinstance(refusal, RoomNotFound) else None
        if stored is None:
            raise refusal or IdTaken
        return resent(send, stored)

    def _refusal(self, room: _Room, send: Send) -> ParleyError | None:
        try:
            permissions.may_send(self._role(room, send.author_id), read_only=room.read_only)
        except ParleyError as error:
            return error
        if send.reply_to is not None and self._stored(room, send.reply_to) is None:
            return MessageNotFound("The message that this one answers is not there.")
        return None

    def _insert(self, room: _Room, send: Send) -> bool:
        """Store a new message; False if its id is there already, which takes no look-up before."""
        seq, revision, at = room.last_seq + 1, room.revision + 1, to_ms(send.sent_at)
        words = (send.author_id, send.author_name, send.kind, send.text, send.reply_to, at)
        if self._cursor.execute(_INSERT, (room.id, seq, send.id, revision, *words)).rowcount == 0:
            return False
        room.last_seq, room.revision, room.last_message_at, room.changed = seq, revision, at, True
        self._sent += 1
        return True

    def _revise(self, room: _Room, change: Edit | Delete | React) -> Applied:
        role = self._role(room, change.user_id)
        stored = self._stored(room, change.id)
        message = revised(change, stored, role, room.revision + 1)
        if message is stored:
            return Applied(message=message, fresh=False)
        edited_at, deleted_at = (
            rows.milliseconds(message.edited_at),
            rows.milliseconds(message.deleted_at),
        )
        values = (message.text, edited_at, deleted_at, rows.reactions_text(message.reactions))
        self._cursor.execute(_UPDATE, (message.revision, *values, room.id, message.seq))
        room.revision, room.changed = message.revision, True
        return Applied(message=message, fresh=True)

    def _trim(self, room: _Room) -> int:
        """Delete what is more than the room keeps, and return how many messages that was."""
        if room.history_limit is None:
            return 0
        first_seq = room.last_seq - room.history_limit + 1
        if first_seq <= room.first_seq:
            return 0
        gone = self._cursor.execute(_TRIM, (room.id, first_seq)).fetchall()
        room.first_seq = first_seq
        room.trimmed_revision = max(room.trimmed_revision, *(revision for (revision,) in gone))
        return len(gone)

    def _read_room(self, room_id: str) -> _Room:
        row = self._cursor.execute(_ROOM, (room_id,)).fetchone()
        if row is None:
            raise RoomNotFound
        room = self._rooms[room_id] = _Room(room_id, *row)
        return room

    def _role(self, room: _Room, user_id: str) -> Role:
        if user_id not in room.roles:
            row = self._cursor.execute(_ROLE, (room.id, user_id)).fetchone()
            room.roles[user_id] = Role(row[0]) if row is not None else None
        role = room.roles[user_id]
        if role is None:
            raise strange(room.kind)
        return role

    def _stored(self, room: _Room, id_: str) -> Message | None:
        row = self._cursor.execute(_MESSAGE, (room.id, id_)).fetchone()
        return rows.message(row) if row is not None else None
