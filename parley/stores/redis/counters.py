"""How much there is: the lengths of lists, the counters of rooms, and a counter for each minute."""

import asyncio

from parley.ids import Time, now_ms, to_ms
from parley.models import Stats
from parley.stores.redis import keys, lists, rooms, scripts
from parley.stores.redis.faults import note
from parley.stores.redis.servers import Command, Servers, script

MINUTE_MS = 60_000
KEPT_SECONDS = 2 * 3600
TOLD_EVERY_SECONDS = 1.0


class Sent:
    """Counts messages by the minute in which they were stored.

    What was counted is told to Redis once in a second, so that no sender waits for it. A crash loses the last
    second of this statistic, and so does a server that is away just then.
    """

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._counted: dict[int, int] = {}
        self._telling: asyncio.Task[None] | None = None
        self._one_tells = asyncio.Lock()

    def add(self, messages: int) -> None:
        """Count messages that were stored just now."""
        minute = now_ms() // MINUTE_MS
        self._counted[minute] = self._counted.get(minute, 0) + messages
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell_soon())

    async def tell(self) -> None:
        """Tell Redis now; when this returns, what was counted before is there."""
        async with self._one_tells:
            counted, self._counted = self._counted, {}
            commands: list[Command] = []
            for minute, messages in counted.items():
                key = keys.SENT + str(minute)
                commands += [("INCRBY", key, messages), ("EXPIRE", key, KEPT_SECONDS)]
            replies = await self._servers.ask(commands) if commands else []
            note(reply for reply in replies if isinstance(reply, Exception))

    async def close(self) -> None:
        """Tell what is left."""
        if self._telling is not None:
            async with self._one_tells:
                self._telling.cancel()
            await asyncio.wait([self._telling])
        await self.tell()

    async def _tell_soon(self) -> None:
        while self._counted:
            await asyncio.sleep(TOLD_EVERY_SECONDS)
            await self.tell()


async def stats(servers: Servers, at: Time) -> Stats:
    """Users by the lengths of the lists, where one whose adding was broken off counts until it is purged;
    rooms and messages by the rooms themselves."""
    people, guests, removed = await servers.one(
        *script(scripts.COUNT, [keys.PEOPLE, keys.GUESTS, keys.REMOVED])
    )
    open_rooms = messages = 0
    async for ids in lists.pages(servers, keys.ROOMS):
        parts = rooms.in_parts(servers, ids)
        sizes = [script(scripts.SIZES, [keys.room(each) for each in part]) for part in parts]
        for rooms_here, messages_here in await servers.all(sizes):
            open_rooms += rooms_here
            messages += messages_here
    minute = to_ms(at) // MINUTE_MS
    sent = await servers.all([("GET", keys.SENT + str(minute - ago)) for ago in range(60)])
    return Stats(
        users=people - guests - removed,
        guests=guests,
        rooms=open_rooms,
        messages=messages,
        messages_last_hour=sum(int(each or 0) for each in sent),
    )
