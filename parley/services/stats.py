"""How much there is on this server."""

import time

from msgspec.structs import replace

from parley.ids import now
from parley.models import Stats
from parley.services.live import Live
from parley.stores.base import Store

FRESH_SECONDS = 1.0
"""How long an answer is good for all who ask."""


class Statistics:
    """Counts, from the store at most once a second."""

    def __init__(self, store: Store, live: Live) -> None:
        self._store = store
        self._live = live
        self._known: Stats | None = None
        self._known_at = 0.0

    async def see(self) -> Stats:
        """The counts of now, or of a moment ago. Raises `StoreUnavailable`."""
        if self._known is None or time.monotonic() - self._known_at > FRESH_SECONDS:
            self._known = await self._store.stats(now())
            self._known_at = time.monotonic()
        return replace(self._known, online=self._live.users_online())
