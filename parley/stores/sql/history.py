"""Reading a room's history, as steps of one transaction."""

from sqlalchemy import Connection, bindparam, select, update

from parley.models import Changes, Message
from parley.stores.base import NEWEST_PAGE, can_be_told, newest_that_fit, strange
from parley.stores.sql import rows
from parley.stores.sql.rooms import open_room
from parley.stores.sql.schema import members, messages

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
_READ_SEQ = select(members.c.read_seq).where(rows.present(bindparam("room_id"), bindparam("user_id")))


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


def mark_read(connection: Connection, room_id: str, user_id: str, seq: int) -> int:
    room = open_room(connection, room_id)
    read_seq: int | None = connection.execute(_READ_SEQ, {"room_id": room_id, "user_id": user_id}).scalar()
    if read_seq is None:
        raise strange(room.kind)
    seq = min(seq, room.last_seq)
    if seq <= read_seq:
        return read_seq
    # The guard, because on PostgreSQL another node may have moved the mark meanwhile, or ended it.
    here = rows.present(room_id, user_id) & (members.c.read_seq < seq)
    if not connection.execute(update(members).where(here).values(read_seq=seq)).rowcount:
        return mark_read(connection, room_id, user_id, seq)
    return seq
