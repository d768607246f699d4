"""How much there is on this server, and how much it takes."""

import time

from msgspec.structs import replace

from parley.config import Settings
from parley.ids import now
from parley.models import Limits, Stats
from parley.services.live import Live
from parley.stores.base import Store

FRESH_SECONDS = 1.0
"""How long an answer is good for all who ask."""


class Statistics:
    """Counts, from the store at most once a second."""

    def __init__(self, store: Store, settings: Settings, live: Live) -> None:
        self._store = store
        self._settings = settings
        self._live = live
        self._known: Stats | None = None
        self._known_at = 0.0

    def limits(self) -> Limits:
        """What this server allows."""
        settings = self._settings
        return Limits(
            guests=settings.guests,
            registration=settings.registration,
            session_ttl=settings.session_ttl,
            max_users=settings.max_users,
            max_rooms=settings.max_rooms,
            max_room_members=settings.max_room_members,
            max_history=settings.max_history,
            max_message_bytes=settings.max_message_bytes,
            lobby_history=settings.lobby_history,
            rate_limit=settings.rate_limit,
        )

    async def see(self) -> Stats:
        """The counts of now, or of a moment ago. Raises `StoreUnavailable`."""
        if self._known is None or time.monotonic() - self._known_at > FRESH_SECONDS:
            self._known = await self._store.stats(now())
            self._known_at = time.monotonic()
        return replace(self._known, online=self._live.users_online())
