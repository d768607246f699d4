"""Who is writing something, right now. Nothing of it is kept, and it ends by itself."""

import asyncio

from msgspec import UNSET

from parley.errors import NotAMember, Overloaded
from parley.models import User
from parley.permissions import may_send
from parley.services.live import Live
from parley.services.rooms import Rooms

SECONDS = 6.0
"""How long somebody counts as writing after having said so; programs say it again every few seconds."""

MAX_AT_ONCE = 10_000


class Typing:
    """Tells the others in a room when somebody begins to write and when they stop."""

    def __init__(self, rooms: Rooms, live: Live) -> None:
        self._rooms = rooms
        self._live = live
        self._loop = asyncio.get_running_loop()
        self._timers: dict[tuple[str, str], asyncio.TimerHandle] = {}

    async def start(self, user: User, key: str) -> None:
        """The user is writing in a room. Raises `RoomNotFound`, `NotAMember`, `ReadOnlyRoom`,
        `Overloaded`."""
        room = await self._rooms.see(key, user.id)
        if room.role is UNSET:
            raise NotAMember
        may_send(room.role, read_only=room.read_only)
        timer = self._timers.pop((room.id, user.id), None)
        if timer is not None:
            timer.cancel()
        elif len(self._timers) >= MAX_AT_ONCE:
            raise Overloaded(retry_after=SECONDS)
        else:
            self._live.typing(user, room.id, True)
        self._timers[room.id, user.id] = self._loop.call_later(SECONDS, self._end, user, room.id)

    async def stop(self, user: User, key: str) -> None:
        """The user has stopped writing. Raises `RoomNotFound`."""
        room = await self._rooms.see(key, user.id)
        if self._forget(user, room.id):
            self._live.typing(user, room.id, False)

    def said(self, user: User, room_id: str) -> None:
        """The user has said it: the message itself tells that they no longer write."""
        if self._timers:
            self._forget(user, room_id)

    def close(self) -> None:
        """End everything without a word."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _forget(self, user: User, room_id: str) -> bool:
        timer = self._timers.pop((room_id, user.id), None)
        if timer is not None:
            timer.cancel()
        return timer is not None

    def _end(self, user: User, room_id: str) -> None:
        del self._timers[room_id, user.id]
        self._live.typing(user, room_id, False)
