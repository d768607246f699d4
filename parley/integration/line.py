"""Staying in touch with a broker: one connection after the other, and what is done over each."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

import structlog

from parley.buses.linked import CLOSE_SECONDS, CONNECT_SECONDS, GIVE_UP_SECONDS, answered, ended

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0
REFUSED_SECONDS = 30.0
"""How long to wait where somebody has to do something about it first."""
PING_SECONDS = 5.0

log = structlog.get_logger()


class Refused(Exception):
    """Raised when the broker does not let us do what we must; its text is one line that says what to do."""


class Link(Protocol):
    """One connection to a broker. Whatever is raised here, it is closed and another one is made."""

    async def open(self) -> None:
        """Connect, and make what must be there. Raises `Refused`, or whatever is wrong."""

    async def ended(self) -> None:
        """Return, or raise, when the connection is lost."""

    async def ping(self) -> None:
        """Return when the broker has answered."""

    async def close(self) -> None:
        """Disconnect, however far `open` came."""


L = TypeVar("L", bound=Link)


class Line(Generic[L]):
    """Does `work` over one link after the other, for ever. A trouble is logged when it begins, when it turns
    into another one and when it is over."""

    def __init__(
        self,
        use: str,
        new_link: Callable[[], L],
        reason: Callable[[BaseException], str],
        work: Callable[[L], Awaitable[None]],
    ) -> None:
        self.is_linked = False
        self.breaks = 0
        self._use = use
        self._new_link = new_link
        self._reason = reason
        self._work = work
        self._trouble = ""
        self._away_since = 0.0
        self._closing: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Never returns, and raises nothing that a broker may cause."""
        tries = 0
        while True:
            began = time.monotonic()
            longest = LONGEST_DELAY_SECONDS
            try:
                await self._over_one_link()
            except Exception as error:
                if self.is_linked:
                    self.is_linked = False
                    self.breaks += 1
                    tries = 0 if time.monotonic() - began > longest else tries
                if isinstance(error, Refused):
                    longest = REFUSED_SECONDS
                self._say(self._reason(error))
            delay = longest if longest == REFUSED_SECONDS else min(longest, FIRST_DELAY_SECONDS * 2**tries)
            tries = min(tries + 1, 10)
            await asyncio.sleep(delay * random.uniform(0.5, 1))

    def works(self) -> None:
        """Something was done over the link, so that whatever was the trouble is over."""
        self._say("")

    async def let_go(self) -> None:
        """Wait a moment for goodbyes that are still being said."""
        if self._closing:
            await asyncio.wait(self._closing, timeout=CLOSE_SECONDS)

    async def _over_one_link(self) -> None:
        link = self._new_link()
        opening = asyncio.create_task(link.open(), name=f"{self._use} opening")
        jobs: list[asyncio.Task[None]] = []
        try:
            # It goes on: drivers leave things behind when they are called off in the midst of it.
            if not (await asyncio.wait([opening], timeout=CONNECT_SECONDS))[0]:
                raise TimeoutError
            _look(opening)
            self.is_linked = True
            jobs = [
                asyncio.create_task(each, name=self._use)
                for each in (_awaited(self._work(link)), link.ended(), self._watch(link))
            ]
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            for job in done:
                _look(job)
            raise ConnectionError("the connection ended")
        finally:
            await ended(jobs)
            closing = asyncio.create_task(_closed(link, opening), name=f"{self._use} closing")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            await asyncio.wait([closing], timeout=CLOSE_SECONDS)

    async def _watch(self, link: L) -> None:
        """A peer that died without saying so answers nothing."""
        while True:
            await asyncio.sleep(PING_SECONDS)
            await answered(link.ping())
            self.works()

    def _say(self, trouble: str) -> None:
        if trouble == self._trouble:
            return
        if not self._trouble:
            self._away_since = time.monotonic()
        self._trouble = trouble
        if trouble:
            log.warning("other services cannot be reached for now", over=self._use, reason=trouble)
        else:
            seconds = round(time.monotonic() - self._away_since, 1)
            log.info("other services can be reached again", over=self._use, seconds=seconds)


def _look(task: asyncio.Task[None]) -> None:
    """Raise what a task raised. Drivers call off whoever waits for them when a connection ends."""
    if task.cancelled():
        raise ConnectionError("the connection ended")
    task.result()


async def _awaited(work: Awaitable[None]) -> None:
    await work


async def _closed(link: Link, opening: asyncio.Task[None]) -> None:
    try:
        await asyncio.wait([opening], timeout=GIVE_UP_SECONDS)
        opening.cancel()
        await link.close()
    except Exception as error:
        log.debug("the broker was not left cleanly", error=str(error))
    if opening.done() and not opening.cancelled():
        opening.exception()  # it was looked at, or came too late to matter
