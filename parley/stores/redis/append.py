"""Applying a batch of changes: one round trip, one script for each room."""

from collections.abc import Sequence
from typing import Any

from parley.errors import (
    InternalError,
    LimitReached,
    MessageNotFound,
    NotAMember,
    NotYourMessage,
    ParleyError,
    ReadOnlyRoom,
    RoomFull,
    RoomNotFound,
    StoreUnavailable,
    UserNotFound,
)
from parley.models import Applied, Change, Delete, Edit, Send
from parley.stores.base import MAX_REACTIONS
from parley.stores.redis import keys, rows, scripts
from parley.stores.redis.faults import note, translated
from parley.stores.redis.servers import Servers, script
from parley.stores.rules import resent, sent

_REFUSALS: dict[bytes, type[ParleyError]] = {
    refusal.code.encode(): refusal
    for refusal in (
        InternalError,
        MessageNotFound,
        NotAMember,
        NotYourMessage,
        ReadOnlyRoom,
        RoomFull,
        RoomNotFound,
        UserNotFound,
    )
}


async def apply(servers: Servers, changes: Sequence[Change]) -> list[Applied | ParleyError]:
    places: dict[str, list[int]] = {}
    for place, change in enumerate(changes):
        places.setdefault(change.room_id, []).append(place)
    commands = [_command(room_id, [changes[place] for place in here]) for room_id, here in places.items()]
    results: list[Applied | ParleyError] = [StoreUnavailable()] * len(changes)
    replies = await servers.ask(commands, at_once=True)
    note(reply for reply in replies if isinstance(reply, Exception))
    for here, reply in zip(places.values(), replies, strict=True):
        # One answer for all where there is no such room, or where its server failed.
        answers: list[Any] = reply if isinstance(reply, list) else [reply] * len(here)
        for place, answer in zip(here, answers, strict=True):
            results[place] = _result(changes[place], answer)
    return results


def sent_now(changes: Sequence[Change], results: Sequence[Applied | ParleyError]) -> int:
    """How many new messages a batch has stored."""
    return sum(
        isinstance(change, Send) and isinstance(result, Applied) and result.fresh
        for change, result in zip(changes, results, strict=True)
    )


def refusal(code: bytes) -> ParleyError:
    """The error that a script means by this code."""
    if code == b"limit_reached":
        return LimitReached(f"A message takes at most {MAX_REACTIONS} different reactions.")
    if code == b"question_not_found":
        return MessageNotFound("The message that this one answers is not there.")
    return _REFUSALS[code]()


def _command(room_id: str, changes: Sequence[Change]) -> tuple[Any, ...]:
    arguments: list[str | bytes | int] = [MAX_REACTIONS]
    for change in changes:
        if isinstance(change, Send):
            row = rows.row_of(change)
            arguments += (
                "send",
                change.id,
                change.author_id,
                change.reply_to or "",
                change.sent_at,
                row,
            )
        elif isinstance(change, Edit):
            arguments += ("edit", change.id, change.user_id, change.text, change.at, "")
        elif isinstance(change, Delete):
            arguments += ("delete", change.id, change.user_id, "", change.at, "")
        else:
            what = "react" if change.on else "unreact"
            arguments += (what, change.id, change.user_id, change.emoji, "", "")
    parts = ("", "roles", "messages", "ids", "revisions")
    return script(scripts.APPLY, keys.of_room(room_id, *parts), *arguments)


def _result(change: Change, answer: Any) -> Applied | ParleyError:
    """What became of a change: {seq, revision}, {seq, value, 1 if fresh}, a code or an error."""
    if isinstance(answer, Exception):
        return translated(answer)
    if isinstance(answer, bytes):
        return refusal(answer)
    if len(answer) == 2 and isinstance(change, Send):
        return Applied(message=sent(change, *answer), fresh=True)
    seq, value, fresh = answer
    stored = rows.message(change.room_id, seq, value)
    if not isinstance(change, Send):
        return Applied(message=stored, fresh=bool(fresh))
    try:
        return resent(change, stored)
    except ParleyError as error:
        return error
