"""Events that wait for the program to take them."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable

from parley.client.errors import ChatError
from parley.realtime.protocol import events

MAX_EVENTS = 1000
"""Events that wait before the socket is no longer read."""
MAX_EVENTS_BEFORE_ANSWERS = 10_000
"""As many may wait while an answer is due, which comes over the same socket behind them: a program may
send from within its loop over the events."""
STALL_SECONDS = 10


class Inbox:
    """Keeps events once somebody has asked for them; where too many wait, the reader waits, too."""

    def __init__(self, is_awaiting: Callable[[], bool], on_stall: Callable[[], None]) -> None:
        self._is_awaiting = is_awaiting
        self._on_stall = on_stall
        self._queue: deque[events.Event] = deque()
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()
        self._is_wanted = False
        self._over = False
        self._error: ChatError | None = None

    def put(self, news: Iterable[events.Event]) -> None:
        """Keep events, if anybody wants them."""
        if self._is_wanted:
            self._queue.extend(news)
            self._arrived.set()

    async def settle(self) -> None:
        """Wait until few enough events wait. `on_stall` is called where none is taken for a while."""
        while len(self._queue) >= self._limit():
            self._taken.clear()
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    await self._taken.wait()
            except TimeoutError:
                self._on_stall()

    def nudge(self) -> None:
        """An answer is due from now on, so that more events may wait."""
        self._taken.set()

    def end(self, error: ChatError | None) -> None:
        """Nothing more comes; after the last event `error` is raised."""
        self._over, self._error = True, error
        self._arrived.set()

    def take(self) -> AsyncIterator[events.Event]:
        """The events from this moment on, or, if they were taken before, from where that stopped."""
        self._is_wanted = True
        return self._take()

    async def _take(self) -> AsyncIterator[events.Event]:
        while True:
            while self._queue:
                event = self._queue.popleft()
                self._taken.set()
                yield event
            if self._over:
                break
            self._arrived.clear()
            await self._arrived.wait()
        if self._error is not None:
            raise self._error

    def _limit(self) -> int:
        return MAX_EVENTS_BEFORE_ANSWERS if self._is_awaiting() else MAX_EVENTS
