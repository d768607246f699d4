"""Reading a room's history, and how far its members have read."""

from collections.abc import Sequence
from typing import Any

from parley.errors import ParleyError, RoomNotFound
from parley.models import Changes, Mark, Marked, Message
from parley.stores.base import DELETED, NEWEST_PAGE
from parley.stores.redis import keys, rows, scripts
from parley.stores.redis.append import refusal
from parley.stores.redis.faults import note, translated
from parley.stores.redis.servers import Servers, script
from parley.stores.rules import can_be_told, newest_that_fit

_FAR = 2**53
"""Beyond every number that is counted, and the last one that Lua counts exactly."""


async def page(
    servers: Servers, room_id: str, before: int | None, after: int | None, limit: int
) -> list[Message]:
    bounds = ["" if bound is None else _within(bound) for bound in (before, after)]
    flat = await servers.one(*script(scripts.PAGE, keys.of_room(room_id, "", "messages"), *bounds, limit))
    return rows.messages(room_id, flat)


async def pages_before(
    servers: Servers, wanted: Sequence[tuple[str, int | None, int]]
) -> list[list[Message]]:
    """For each (room, seq, limit), the last messages before that seq, or the newest ones. One round trip."""
    commands = [
        script(
            scripts.PAGE,
            keys.of_room(room_id, "", "messages"),
            *("" if before is None else _within(before), "", limit),
        )
        for room_id, before, limit in wanted
    ]
    replies = await servers.all(commands)
    return [rows.messages(room_id, flat) for (room_id, _, _), flat in zip(wanted, replies, strict=True)]


async def changes(servers: Servers, room_id: str, since: int, limit: int) -> Changes:
    told = await _changes(servers, room_id, since, limit, reset=False)
    if told.reset or can_be_told(told.messages, limit):
        return told
    return await _changes(servers, room_id, since, limit, reset=True)


async def _changes(servers: Servers, room_id: str, since: int, limit: int, *, reset: bool) -> Changes:
    parts = ("", "messages", "revisions", "members", "member-revisions", "roles", "marks")
    arguments = (_within(since), limit, NEWEST_PAGE, int(reset))
    reply = await servers.one(*script(scripts.CHANGES, keys.of_room(room_id, *parts), *arguments))
    if reply is None:
        raise RoomNotFound
    is_reset, fields, has_other_settings, flat, people = reply
    room = rows.room(fields)
    if room is None:
        raise RoomNotFound
    messages = rows.messages(room_id, flat)
    members = sorted(rows.members(room_id, people), key=lambda member: member.revision)
    return Changes(
        revision=room.revision,
        messages=newest_that_fit(messages) if is_reset else messages,
        members=members,
        room=room if is_reset or has_other_settings else None,
        reset=bool(is_reset),
    )


async def mark_read(servers: Servers, marks: Sequence[Mark]) -> list[Marked | ParleyError]:
    """One round trip."""
    commands = [
        script(
            scripts.MARK, keys.of_room(each.room_id, "", "roles", "marks"), each.user_id, _within(each.seq)
        )
        for each in marks
    ]
    replies = await servers.ask(commands, at_once=True)
    note(reply for reply in replies if isinstance(reply, Exception))
    return [_marked(reply) for reply in replies]


def _marked(reply: Any) -> Marked | ParleyError:
    """What became of a mark: {seq, 1 if moved, member count}, a code or an error."""
    if isinstance(reply, Exception):
        return translated(reply)
    if isinstance(reply, bytes):
        return refusal(reply)
    seq, moved, member_count = reply
    return Marked(seq=seq, moved=bool(moved), member_count=member_count)


async def disown(servers: Servers, room_id: str, user_id: str, after: int, limit: int) -> int | None:
    arguments = (user_id, DELETED, _within(after), _within(limit))
    following = await servers.one(*script(scripts.DISOWN, keys.of_room(room_id, "", "messages"), *arguments))
    return int(following) if following is not None else None


def _within(number: int) -> int:
    return max(-1, min(number, _FAR))
