"""The other services: what a node tells them and takes from them."""

import asyncio
from collections.abc import Callable

from parley import background
from parley.buses.linked import CLOSE_SECONDS, ended
from parley.integration.announcer import Announcer, EventLink
from parley.integration.backlog import Told
from parley.integration.posting import Posting, PostLink
from parley.services.core import Core

AGAIN_SECONDS = CLOSE_SECONDS + 0.2
"""At first it may take until the goodbye is said."""


class Outside:
    """Events out over one connection, posts in over another. Whatever the broker does, the chat goes on."""

    def __init__(
        self,
        new_event_link: Callable[[], EventLink],
        new_post_link: Callable[[], PostLink],
        reason: Callable[[BaseException], str],
    ) -> None:
        self.announcer = Announcer(new_event_link, reason)
        self.posting = Posting(new_post_link, reason)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, core: Core, on_death: Callable[[str], None]) -> None:
        """Begin to connect; `on_death` hears if that ever ends by itself. Events may be published before."""
        self._tasks = [
            background.start(self.announcer.run(core.store), "events for other services", on_death),
            background.start(self.posting.run(core), "posts of other services", on_death),
        ]

    def publish(self, event: Told, line: bytes) -> None:
        """Tell other services of an event that was just stored, or of a room that was just read because
        something of it was missing. Never waits and never raises."""
        self.announcer.publish(event, line)

    async def stop(self) -> None:
        """Take nothing more, hand over what was published, within a deadline, and disconnect."""
        if self._tasks:
            announcing, posting = self._tasks
            await ended([posting], again_seconds=AGAIN_SECONDS)
            await self.posting.stopped()
            await self.announcer.finish()
            await ended([announcing], again_seconds=AGAIN_SECONDS)
            await self.announcer.stopped()

    def healthy(self) -> bool:
        """Whether other services can be reached, both ways."""
        return self.announcer.healthy() and self.posting.healthy()
