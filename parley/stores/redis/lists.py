"""The lists of where to look, read some at a time, so that other commands come in between."""

from collections.abc import AsyncIterator

from parley.ids import Time, to_ms
from parley.stores.redis import keys, scripts
from parley.stores.redis.servers import Command, Servers, script

AT_ONCE = 1000


async def pages(servers: Servers, key: str, after: str | None = None) -> AsyncIterator[list[str]]:
    """The ids in a sorted set of one score, in their order, those after that id."""
    begin = "-" if after is None else f"({after}"
    while True:
        found = await servers.one("ZRANGEBYLEX", key, begin, "+", "LIMIT", 0, AT_ONCE)
        if found:
            yield [each.decode() for each in found]
        if len(found) < AT_ONCE:
            return
        begin = f"({found[-1].decode()}"


async def everything(servers: Servers, key: str, scan: str = "ZSCAN") -> list[str]:
    """The ids in a sorted set of many scores, or with `HSCAN` in a hash, in their order."""
    found: set[bytes] = set()
    cursor = b"0"
    while True:
        cursor, flat = await servers.one(scan, key, cursor, "COUNT", AT_ONCE)
        found.update(flat[::2])
        if cursor == b"0":
            return sorted(each.decode() for each in found)


async def up_to(servers: Servers, key: str, score: int | str, limit: int, passed: int = 0) -> list[str]:
    """Ids in a sorted set, the lowest scores first, without those passed already."""
    found = await servers.one("ZRANGEBYSCORE", key, "-inf", score, "LIMIT", passed, limit)
    return [each.decode() for each in found]


async def note_coming(servers: Servers, what: str) -> None:
    """Note what is about to be made, before any list names it."""
    await servers.one(*script(scripts.NOTE, [keys.COMING], what))


def noting_move(user_id: str, at: Time) -> Command:
    """What notes that a user is about to come into a room or to leave one."""
    return ("ZADD", keys.MOVED, "GT", to_ms(at), user_id)


def noting_due(room_id: str) -> Command:
    """What notes a room that may soon be due, before it is."""
    return script(scripts.NOTE, [keys.DUE_ROOMS], room_id)
