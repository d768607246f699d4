"""Applying a batch of changes on PostgreSQL: the hot path, one round trip on the driver's connection.

The rules run in the database, in the function `parley_append` (`migrations/versions/0003_append.sql`),
because a batch that asked for each thing it must know would hold its rooms for a hundred round trips.
"""

from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from parley.errors import (
    IdTaken,
    LimitReached,
    MessageNotFound,
    NotAMember,
    NotYourMessage,
    ParleyError,
    ReadOnlyRoom,
    RoomNotFound,
)
from parley.ids import to_ms
from parley.models import Applied, Change, Delete, Edit, Send
from parley.stores.base import MAX_REACTIONS
from parley.stores.rules import resent, sent
from parley.stores.sql import rows

_APPEND = """
    SELECT place, outcome, given_seq, given_revision, stored
    FROM parley_append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""

_REFUSALS: dict[str, type[ParleyError]] = {
    each.code: each for each in (MessageNotFound, NotAMember, NotYourMessage, ReadOnlyRoom, RoomNotFound)
}

_decode = msgspec.json.decode


async def apply(connection: asyncpg.Connection, changes: Sequence[Change]) -> list[Applied | ParleyError]:
    results: list[Applied | ParleyError | None] = [None] * len(changes)
    if changes:
        columns = zip(*map(_row, changes), strict=True)
        for place, *answer in await connection.fetch(_APPEND, *columns, MAX_REACTIONS):
            results[place - 1] = _result(changes[place - 1], *answer)
    return [result if result is not None else IdTaken() for result in results]


def _row(change: Change) -> tuple[Any, ...]:
    """What the function is told of a change: op, room, id, user, name, kind, words, reply_to, time."""
    if isinstance(change, Send):
        return (
            "send",
            change.room_id,
            change.id,
            change.author_id,
            change.author_name,
            change.kind,
            change.text,
            change.reply_to,
            to_ms(change.sent_at),
        )
    whose = (change.room_id, change.id, change.user_id, None, None)
    if isinstance(change, Edit):
        return ("edit", *whose, change.text, None, to_ms(change.at))
    if isinstance(change, Delete):
        return ("delete", *whose, None, None, to_ms(change.at))
    return ("react" if change.on else "unreact", *whose, change.emoji, None, None)


def _result(
    change: Change, outcome: str, seq: int | None, revision: int | None, stored: str | None
) -> Applied | ParleyError:
    if stored is not None:
        message = rows.message(_decode(stored))
        if isinstance(change, Send):
            try:
                return resent(change, message)
            except IdTaken as error:
                return error
        return Applied(message=message, fresh=outcome == "fresh")
    if isinstance(change, Send) and seq is not None and revision is not None:
        return Applied(message=sent(change, seq, revision), fresh=True)
    if outcome == "reply_not_found":
        return MessageNotFound("The message that this one answers is not there.")
    if outcome == "limit_reached":
        return LimitReached(f"A message takes at most {MAX_REACTIONS} different reactions.")
    return _REFUSALS[outcome]()
