"""When to ask the store: soon where something may have been missed, and of everything every few seconds."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from parley.errors import ParleyError

HEALTHY_SECONDS = 5.0
"""How often everything is looked at while the bus works: the last hint of all leaves no hole to see."""
AWAY_SECONDS = 0.9
"""How often while it does not: nothing else tells what happens on the other nodes."""
SOON_SECONDS = 0.03
"""How long those gather who are to be looked at now, so that nodes that are asked at once do not ask the
store at once."""

log = structlog.get_logger()


class Rounds:
    """Calls `look` with what was asked about, and with None, for everything, every few seconds.

    `is_healthy` says whether hints arrive. What fails is tried again in the next round.
    """

    def __init__(
        self, look: Callable[[set[str] | None], Awaitable[None]], is_healthy: Callable[[], bool]
    ) -> None:
        self._look = look
        self._is_healthy = is_healthy
        self._asked: set[str] = set()
        self._everything = False
        self._wake = asyncio.Event()
        self._fails = False

    def ask(self, what: str) -> None:
        """Look at this one soon."""
        self._asked.add(what)
        self._wake.set()

    def ask_all(self) -> None:
        """Look at everything soon."""
        self._everything = True
        self._wake.set()

    async def run(self) -> None:
        """Go round for ever."""
        loop = asyncio.get_running_loop()
        looked_at = loop.time()
        next_round = looked_at + AWAY_SECONDS * random.uniform(0.8, 1)
        while True:
            try:
                # Whoever asks meanwhile does not put it off.
                async with asyncio.timeout_at(next_round):
                    await self._wake.wait()
                await asyncio.sleep(random.uniform(0, SOON_SECONDS))
            except TimeoutError:
                pass
            self._wake.clear()
            asked, self._asked = self._asked, set()
            due = loop.time() >= next_round
            if due:
                next_round = loop.time() + AWAY_SECONDS * random.uniform(0.8, 1)
                since = loop.time() - looked_at
                due = not self._is_healthy() or since > HEALTHY_SECONDS * random.uniform(0.8, 1)
            if self._everything or due:
                self._everything = False
                looked_at = loop.time()
                await self._try(None)
            elif asked:
                await self._try(asked)

    async def _try(self, asked: set[str] | None) -> None:
        try:
            await self._look(asked)
            self._fails = False
        except ParleyError as error:
            if not self._fails:  # while it is away it is asked again and again
                log.warning("the store could not be compared with", code=error.code)
            self._fails = True
            if asked is not None:
                self._asked |= asked
