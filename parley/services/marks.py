"""Read marks: written together, because many people read the same message at the same moment."""

import asyncio
from asyncio import Future

import structlog

from parley import background
from parley.errors import InternalError, Overloaded, ParleyError, StoreUnavailable
from parley.models import Mark, Marked, User
from parley.services.live import Live
from parley.services.rooms import Rooms
from parley.stores.base import Store

AT_ONCE = 256
"""Marks that are moved in one step of the store."""
MAX_WAITING = 10_000
MAX_RECEIPTS = 50
"""Members of a room in which everybody sees who has read; in a larger one it would be told too often."""

log = structlog.get_logger()

_Key = tuple[str, str]


class Marks:
    """Moves read marks forward. While some are being written others gather, and of one member's only the
    furthest counts."""

    def __init__(self, store: Store, rooms: Rooms, live: Live) -> None:
        self._store = store
        self._rooms = rooms
        self._live = live
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[_Key, tuple[int, list[Future[int]]]] = {}
        self._writing: asyncio.Task[None] | None = None

    async def mark(self, user: User, key: str, seq: int) -> int:
        """Move a read mark forward, at most to the last message, and return where it is; the user's other
        devices follow, and in rooms that are not too large everybody sees it.

        Raises `RoomNotFound`, `NotAMember`, `Overloaded`, `StoreUnavailable`.
        """
        room_id = await self._rooms.id_of(key, user.id)
        furthest, futures = self._waiting.get((room_id, user.id), (seq, []))
        if not futures and len(self._waiting) >= MAX_WAITING:
            raise Overloaded(retry_after=1)
        future: Future[int] = self._loop.create_future()
        self._waiting[room_id, user.id] = max(furthest, seq), [*futures, future]
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        return await future

    async def stop(self) -> None:
        """Write what is waiting, and end."""
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=1)
            await background.stop(self._writing)

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch = [(key, self._waiting.pop(key)) for key in list(self._waiting)[:AT_ONCE]]
                marks = [Mark(room_id=room, user_id=user, seq=seq) for (room, user), (seq, _) in batch]
                for (key, (_, futures)), result in zip(batch, await self._moved(marks), strict=True):
                    self._settle(key, futures, result)
        finally:
            self._writing = None

    async def _moved(self, marks: list[Mark]) -> list[Marked | ParleyError]:
        try:
            return await self._store.mark_read(marks)
        except ParleyError as error:
            log.warning("read marks were not written", marks=len(marks), code=error.code)
            return [StoreUnavailable(retry_after=1) for _ in marks]
        except Exception:
            log.exception("read marks were not written", marks=len(marks))
            return [InternalError() for _ in marks]

    def _settle(self, key: _Key, futures: list[Future[int]], result: Marked | ParleyError) -> None:
        room_id, user_id = key
        if isinstance(result, Marked) and result.moved:
            self._live.read(user_id, room_id, result.seq, to_all=result.member_count <= MAX_RECEIPTS)
        for future in futures:
            if future.done():  # whoever asked gave up
                continue
            if isinstance(result, ParleyError):
                future.set_exception(result)
            else:
                future.set_result(result.seq)
