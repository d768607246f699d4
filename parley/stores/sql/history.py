"""Reading a room's history, as steps of one transaction."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, tuple_, update

from parley.errors import ParleyError, RoomNotFound
from parley.models import Changes, Mark, Marked, Message
from parley.stores.base import DELETED, NEWEST_PAGE
from parley.stores.rules import can_be_told, newest_that_fit, strange
from parley.stores.sql import rows
from parley.stores.sql.rooms import open_room
from parley.stores.sql.schema import members, messages, rooms

_MAX_SEQ = 2**63 - 1

_HERE = messages.c.room_id == bindparam("room_id")
_BEFORE = (
    rows.MESSAGES.where(_HERE, messages.c.seq < bindparam("before"))
    .order_by(messages.c.seq.desc())
    .limit(bindparam("limit"))
)
_AFTER = (
    rows.MESSAGES.where(_HERE, messages.c.seq > bindparam("after"), messages.c.seq < bindparam("before"))
    .order_by(messages.c.seq)
    .limit(bindparam("limit"))
)
_CHANGED = (
    rows.MESSAGES.where(_HERE, messages.c.revision > bindparam("since"))
    .order_by(messages.c.revision)
    .limit(bindparam("limit"))
)
_MEMBERS = rows.MEMBERS.where(members.c.room_id == bindparam("room_id")).order_by(members.c.revision)
_MEMBERS_CHANGED = _MEMBERS.where(members.c.revision > bindparam("since"))
_MEMBERS_PRESENT = _MEMBERS.where(members.c.left_at.is_(None))
_ROOMS_MARKED = select(rooms.c.id, rooms.c.kind, rooms.c.last_seq, rooms.c.member_count).where(
    rooms.c.id.in_(bindparam("ids", expanding=True)), rooms.c.closed_at.is_(None)
)
_OF_MEMBERS = tuple_(members.c.room_id, members.c.user_id)
_MARKS = select(members.c.room_id, members.c.user_id, members.c.read_seq).where(
    _OF_MEMBERS.in_(bindparam("whose", expanding=True)), members.c.left_at.is_(None)
)
# The guard, because on PostgreSQL another node may have moved the mark meanwhile.
_MARK = (
    update(members)
    .where(rows.present(bindparam("here"), bindparam("who")), members.c.read_seq < bindparam("seq"))
    .values(read_seq=bindparam("seq"))
)


def page(
    connection: Connection, room_id: str, before: int | None, after: int | None, limit: int
) -> list[Message]:
    before = _MAX_SEQ if before is None else min(before, _MAX_SEQ)
    values = {"room_id": room_id, "before": before, "limit": limit}
    if after is not None:
        found = connection.execute(_AFTER, {**values, "after": min(after, _MAX_SEQ)})
        return [rows.message(row) for row in found]
    return [rows.message(row) for row in connection.execute(_BEFORE, values)][::-1]


def changes(connection: Connection, room_id: str, since: int, limit: int) -> Changes:
    room = open_room(connection, room_id)
    if room.trimmed_revision <= since <= room.revision:
        values = {"room_id": room_id, "since": since}
        found = connection.execute(_CHANGED, {**values, "limit": limit + 1})
        changed = [rows.message(row) for row in found]
        if can_be_told(changed, limit):
            moved = connection.execute(_MEMBERS_CHANGED, values)
            return Changes(
                revision=room.revision,
                messages=changed,
                members=[rows.member(row) for row in moved],
                room=rows.room(room) if room.settings_revision > since else None,
            )
    values = {"room_id": room_id}
    present = connection.execute(_MEMBERS_PRESENT, values).all() if room.kind != "public" else []
    return Changes(
        revision=room.revision,
        messages=newest_that_fit(page(connection, room_id, None, None, NEWEST_PAGE)),
        members=[rows.member(row) for row in present],
        room=rows.room(room),
        reset=True,
    )


def mark_read(connection: Connection, marks: Sequence[Mark]) -> list[Marked | ParleyError]:
    if not marks:
        return []
    ids = sorted({mark.room_id for mark in marks})
    found: dict[str, Any] = {row.id: row for row in connection.execute(_ROOMS_MARKED, {"ids": ids})}
    whose = sorted({(mark.room_id, mark.user_id) for mark in marks})
    seqs = {(row[0], row[1]): row.read_seq for row in connection.execute(_MARKS, {"whose": whose})}
    before = dict(seqs)
    results = [_marked(found.get(mark.room_id), seqs, mark) for mark in marks]
    # In the order of the ids, as nodes may move marks of the same users.
    moved = [
        {"here": room_id, "who": user_id, "seq": seqs[room_id, user_id]}
        for room_id, user_id in sorted(seqs)
        if seqs[room_id, user_id] > before[room_id, user_id]
    ]
    if moved:
        connection.execute(_MARK, moved)
    return results


def _marked(room: Row[Any] | None, seqs: dict[tuple[str, str], int], mark: Mark) -> Marked | ParleyError:
    """Move one mark in `seqs`, where they all stand."""
    if room is None:
        return RoomNotFound()
    before = seqs.get((mark.room_id, mark.user_id))
    if before is None:
        return strange(room.kind)
    seq = seqs[mark.room_id, mark.user_id] = max(before, min(mark.seq, room.last_seq))
    return Marked(seq=seq, moved=seq > before, member_count=room.member_count)


def disown(connection: Connection, room_id: str, user_id: str, after: int, limit: int) -> int | None:
    room = connection.execute(
        select(rooms).where(rooms.c.id == room_id).with_for_update(key_share=True)
    ).first()
    if room is None:
        return None
    here = (messages.c.room_id == room_id) & messages.c.seq.between(after + 1, after + limit)
    theirs = here & (messages.c.author_id == user_id) & (messages.c.author_name != DELETED)
    if connection.execute(update(messages).where(theirs).values(author_name=DELETED)).rowcount:
        values = {"revision": room.revision + 1, "trimmed_revision": room.revision + 1}
        connection.execute(update(rooms).where(rooms.c.id == room_id).values(**values))
    return after + limit if after + limit < room.last_seq else None
