"""Searching messages without an index: a bounded look through the newest ones."""

import heapq
from dataclasses import dataclass

from parley.ids import Time
from parley.models import Message
from parley.stores.base import MAX_SCAN, Found, Query
from parley.stores.redis import history, keys, lists, rooms, rows, scripts
from parley.stores.redis.servers import Servers, script
from parley.stores.rules import newest_first
from parley.words import holds

FIRST_PAGE, LAST_PAGE = 32, 500
"""Messages of a room that are read at once: few at first, then more and more."""

ROOMS_AT_ONCE = 16

MORE = 16
"""Messages that are read once more when a page goes on, because nodes' clocks differ a little."""

Key = tuple[Time, str, int]


@dataclass
class _Reader:
    """Reads a room backwards. All that it has not read yet is older than `ceiling`."""

    room_id: str
    ceiling: Key
    first_seq: int
    before: int | None = None
    size: int = FIRST_PAGE


async def search(servers: Servers, query: Query) -> Found:
    """Reads on in the rooms where the newest unread message may be, until the page is full, all is read, or
    `MAX_SCAN` messages were looked at.

    Within a room, times rise with the seq, as far as the nodes' clocks agree. Only messages are returned than
    which nothing newer is left unread, so that nothing is passed over between one page and the next.
    """
    readers = await _readers(servers, query)
    held: list[Message] = []
    looked = 0
    while readers:
        readers.sort(key=lambda reader: reader.ceiling, reverse=True)
        if len(_settled(held, readers)) >= query.limit or looked >= MAX_SCAN:
            break
        ahead, readers = readers[:ROOMS_AT_ONCE], readers[ROOMS_AT_ONCE:]
        sizes = _sizes(ahead, MAX_SCAN - looked)
        wanted = [(each.room_id, each.before, size) for each, size in zip(ahead, sizes, strict=True)]
        pages = await history.pages_before(servers, wanted)
        for reader, size, page in zip(ahead, sizes, pages, strict=True):
            new = [each for each in page if query.before is None or newest_first(each) < query.before]
            looked += len(new)
            held += [each for each in new if holds(each.text, query.words)]
            if page:
                reader.before, reader.ceiling = page[0].seq, newest_first(page[0])
                reader.size = min(4 * reader.size, LAST_PAGE)
            if len(page) == size and reader.before != reader.first_seq:
                readers.append(reader)
    settled = _settled(held, readers)
    found = heapq.nlargest(query.limit, settled, key=newest_first)
    return Found(messages=found, complete=not readers or len(found) >= query.limit)


async def _readers(servers: Servers, query: Query) -> list[_Reader]:
    """One for each room that the user may read and that has messages."""
    noted = {query.room_id} if query.room_id is not None else await _places(servers, query.user_id)
    room_ids = sorted(noted)
    readers: list[_Reader] = []
    for begin in range(0, len(room_ids), lists.AT_ONCE):
        part = room_ids[begin : begin + lists.AT_ONCE]
        replies = await servers.all([rooms.look(room_id, query.user_id) for room_id in part])
        for room_id, (fields, member, *_) in zip(part, replies, strict=True):
            state = rows.room_state(fields)
            if state is None or state.room.closed_at is not None:
                continue
            newest = state.room.last_message_at
            if newest is None or (state.room.kind != "public" and member is None):
                continue
            ceiling = (newest, room_id, state.room.last_seq + 1)
            readers.append(_Reader(room_id, ceiling, state.first_seq))
    if query.before is not None:
        await _go_back(servers, readers, query.before)
    return readers


async def _places(servers: Servers, user_id: str) -> set[str]:
    """Where to look: the public rooms, and those that the user may be in."""
    places = {each.decode() for each in await servers.one("ZRANGE", *keys.of_user(user_id, "rooms"), 0, -1)}
    async for page in lists.pages(servers, keys.PUBLIC_ROOMS):
        places.update(page)
    return places


async def _go_back(servers: Servers, readers: list[_Reader], before: Key) -> None:
    """Let readers begin where the page before ended."""
    late = [reader for reader in readers if reader.ceiling > before]
    parts = [keys.of_room(reader.room_id, "", "messages") for reader in late]
    for begin in range(0, len(late), lists.AT_ONCE):
        seeking = [script(scripts.SEEK, part, before[0]) for part in parts[begin : begin + lists.AT_ONCE]]
        for reader, seq in zip(late[begin:], await servers.all(seeking), strict=False):
            reader.before, reader.ceiling = seq + MORE, before


def _settled(held: list[Message], readers: list[_Reader]) -> list[Message]:
    """The messages than which nothing newer is unread."""
    ceiling = max((reader.ceiling for reader in readers), default=None)
    return [each for each in held if ceiling is None or newest_first(each) >= ceiling]


def _sizes(readers: list[_Reader], left: int) -> list[int]:
    """How much of each is read next, so that it is not more than that in all; the foremost first."""
    sizes: list[int] = []
    for reader in readers:
        sizes.append(min(reader.size, left))
        left -= sizes[-1]
    return sizes
