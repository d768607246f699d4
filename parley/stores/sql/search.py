"""Searching messages by an index of their words, which follows the history at a distance.

To index a message takes longer than to store it, so that it is not done while its sender waits: `index` takes
up what is new, room by room, by the same revisions by which clients catch up. What is found is compared with
the message as it is now; where the index is behind, something may be missing but nothing is wrong.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, TextClause, bindparam, insert, select, text, update

from parley.ids import to_ms
from parley.models import Message
from parley.stores.base import Found, Query
from parley.stores.sql import rows
from parley.stores.sql.schema import indexed, messages, rooms
from parley.words import holds, words_of

AT_ONCE = 500
MAX_CHARACTERS = 100_000
"""Messages and rooms, and text, that one step takes up: some milliseconds."""

CATCH_UP_STEPS = 4
"""Steps before a search, so that what was written a moment ago is found."""

_BEHIND = (
    select(
        rooms.c.id, rooms.c.revision, rooms.c.first_seq, indexed.c.number, indexed.c.revision.label("reached")
    )
    .outerjoin_from(rooms, indexed, indexed.c.room_id == rooms.c.id)
    .where(
        rooms.c.closed_at.is_(None),
        rooms.c.last_seq > 0,
        indexed.c.number.is_(None)
        | (indexed.c.revision < rooms.c.revision)
        | (indexed.c.first_seq < rooms.c.first_seq),
    )
    .limit(AT_ONCE)
)
_HELD = (
    select(indexed.c.number, indexed.c.revision)
    .where(indexed.c.room_id == bindparam("room_id"))
    .with_for_update(skip_locked=True)
)
_NEW = (
    select(messages.c.seq, messages.c.revision, messages.c.text)
    .where(messages.c.room_id == bindparam("room_id"), messages.c.revision > bindparam("reached"))
    .order_by(messages.c.revision)
    .limit(bindparam("limit"))
)
_REACHED = update(indexed).where(indexed.c.number == bindparam("of"))

_PUT = {
    "sqlite": text("INSERT OR REPLACE INTO words (rowid, text) VALUES (:place, :words)"),
    "postgresql": text(
        """
        INSERT INTO words (place, words) VALUES (:place, array_to_tsvector(string_to_array(:words, ' ')))
        ON CONFLICT (place) DO UPDATE SET words = excluded.words
        """
    ),
}
_CUT = {
    "sqlite": text("DELETE FROM words WHERE rowid >= :first AND rowid < :last"),
    "postgresql": text("DELETE FROM words WHERE place >= :first AND place < :last"),
}
_PLACES = {
    "sqlite": """
        SELECT rowid AS place FROM words
        WHERE words MATCH :words AND rowid >= :first AND rowid < :last
    """,
    "postgresql": """
        SELECT place FROM words
        WHERE words @@ CAST(:words AS tsquery) AND place >= :first AND place < :last
    """,
}
_MAX_PLACE = 2**63 - 1


def index(connection: Connection) -> bool:
    """Take up some of what is new; True if there is more."""
    left, characters = AT_ONCE, MAX_CHARACTERS
    behind = connection.execute(_BEHIND).all()
    for room in behind:
        taken = _follow(connection, room, left, characters)
        left -= len(taken)
        characters -= sum(map(len, taken))
        if left <= 0 or characters <= 0:
            return True
    return len(behind) == AT_ONCE


def _follow(connection: Connection, room: Any, limit: int, characters: int) -> list[str]:
    """Take up so many messages of a room, and about so much text, at most; return their texts."""
    if room.number is None:
        _add(connection, room.id)
    held = connection.execute(_HELD, {"room_id": room.id}).first()
    if held is None:  # another node is at it
        return []
    new = []
    found = connection.execute(_NEW, {"room_id": room.id, "reached": held.revision, "limit": limit})
    for row in found:
        new.append(row)
        characters -= len(row.text)
        if characters <= 0:
            break
    found.close()
    put = [{"place": _place(held.number, row.seq), "words": " ".join(words_of(row.text))} for row in new]
    if put:
        connection.execute(_PUT[connection.dialect.name], put)
    _cut(connection, held.number, room.first_seq)
    # Revisions may also have gone to members and settings, which have no words.
    is_cut = len(new) == limit or characters <= 0
    reached = new[-1].revision if is_cut else max(room.revision, held.revision)
    connection.execute(_REACHED, {"of": held.number, "revision": reached, "first_seq": room.first_seq})
    return [row.text for row in new]


def _add(connection: Connection, room_id: str) -> None:
    first = {"room_id": room_id, "revision": 0, "first_seq": 1}
    if connection.dialect.name == "sqlite":
        connection.execute(insert(indexed), first)
    else:
        statement = (
            "INSERT INTO indexed (room_id, revision, first_seq) VALUES (:room_id, :revision, :first_seq)"
            " ON CONFLICT (room_id) DO NOTHING"
        )
        connection.execute(text(statement), first)


def forget(connection: Connection, room_id: str) -> None:
    """Delete what is indexed of a room."""
    of_room = select(indexed.c.number).where(indexed.c.room_id == room_id).with_for_update()
    number = connection.execute(of_room).scalar()
    if number is not None:
        _cut(connection, number, 2**32)
        connection.execute(indexed.delete().where(indexed.c.number == number))


def _cut(connection: Connection, number: int, first_seq: int) -> None:
    """Delete what comes before that message of the room."""
    ends = {"first": _place(number, 0), "last": _place(number, first_seq)}
    connection.execute(_CUT[connection.dialect.name], ends)


def search(connection: Connection, query: Query) -> Found:
    """The newest messages that hold the words."""
    dialect = connection.dialect.name
    values: dict[str, Any] = {
        "words": _phrase(dialect, query.words),
        "user_id": query.user_id,
        "room_id": query.room_id,
        "limit": query.limit,
        "first": 0,
        "last": _MAX_PLACE,
    }
    if query.room_id is not None:
        number = connection.execute(
            select(indexed.c.number).where(indexed.c.room_id == query.room_id)
        ).scalar()
        if number is None:
            return Found(messages=[])
        values |= {"first": _place(number, 0), "last": _place(number, 2**32)}
    if query.before is not None:
        at, room_id, seq = query.before
        values |= {"at": to_ms(at), "at_room": room_id, "at_seq": seq}
    statement = _statement(dialect, paged=query.before is not None)
    found = [rows.message(row) for row in connection.execute(statement, values)]
    return Found(messages=_as_now(found, query.words))


def _statement(dialect: str, *, paged: bool) -> TextClause:
    columns = ", ".join(f"m.{column.name}" for column in messages.c)
    before = "AND (m.sent_at, m.room_id, m.seq) < (:at, :at_room, :at_seq)" if paged else ""
    # Nothing in it comes from outside.
    return text(
        f"""
        SELECT {columns} FROM ({_PLACES[dialect]}) AS w
        JOIN indexed AS i ON i.number = w.place >> 32
        JOIN rooms AS r ON r.id = i.room_id AND r.closed_at IS NULL
        JOIN messages AS m ON m.room_id = i.room_id AND m.seq = w.place & 4294967295
        WHERE (r.kind = 'public' OR EXISTS (
            SELECT 1 FROM members AS who
            WHERE who.room_id = r.id AND who.user_id = :user_id AND who.left_at IS NULL
        )) AND m.deleted_at IS NULL {before}
        ORDER BY m.sent_at DESC, m.room_id DESC, m.seq DESC LIMIT :limit
        """  # noqa: S608
    )


def _as_now(found: Iterable[Message], words: tuple[str, ...]) -> list[Message]:
    """Without those that were edited since they were indexed and no longer hold the words."""
    return [message for message in found if message.edited_at is None or holds(message.text, words)]


def _phrase(dialect: str, words: tuple[str, ...]) -> str:
    """All of these words, each by its beginning; a word is letters and digits, nothing to escape."""
    if dialect == "sqlite":
        return " AND ".join(f'"{word}"*' for word in words)
    return " & ".join(f"'{word}':*" for word in words)


def _place(number: int, seq: int) -> int:
    return number << 32 | seq if seq < 2**32 else (number + 1) << 32
