"""Commands that are asked and answered, each with a deadline, over whatever connection there is."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import Raw

from parley.client.connection import Connection, command
from parley.client.errors import ChatEnded, ConnectionLost

ANSWER_SECONDS = 10
MAX_ASKED = 64
"""Commands that are in flight at once."""
IDEMPOTENT = frozenset(
    "profile.see room.see room.list room.join room.leave room.open member.list message.edit "
    "message.delete message.react message.unreact message.page message.changes read.mark".split()
)
"""Commands that are asked again when the connection broke before their answer came."""

T = TypeVar("T")


class Requests:
    """Asks over the connection of the moment. `on_ask` is called when an answer begins to be due."""

    def __init__(self, on_ask: Callable[[], None]) -> None:
        self._on_ask = on_ask
        self._connection: Connection | None = None
        self._attached = asyncio.Event()
        self._slots = asyncio.Semaphore(MAX_ASKED)
        self._asking = 0
        self._end: ChatEnded | None = None

    @property
    def is_awaiting(self) -> bool:
        """Whether an answer is due."""
        return self._asking > 0

    @property
    def is_attached(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    def attach(self, connection: Connection) -> None:
        """Ask over this connection from now on."""
        self._connection = connection
        self._attached.set()

    def detach(self) -> None:
        """The connection is gone; what is asked now waits for the next one."""
        self._connection = None
        self._attached.clear()

    def end(self, error: ChatEnded) -> None:
        """There will be no more connections."""
        self._end = error
        self._attached.set()

    async def ask(
        self, op: str, fields: dict[str, Any], read: Callable[[Raw], T], seconds: float = ANSWER_SECONDS
    ) -> T:
        """What `read` makes of the answer; it is called in turn with the events.

        Raises `Refused`, `TimeoutError`, `ChatEnded`, and `ConnectionLost` where it may have been done and
        asking again could do it twice.
        """
        line = command(op, fields)
        self._asking += 1
        self._on_ask()
        try:
            async with asyncio.timeout(seconds), self._slots:
                while True:
                    connection = await self._current()
                    try:
                        return await connection.ask(line, read)
                    except ConnectionLost:
                        if op not in IDEMPOTENT:
                            raise
                        await asyncio.sleep(0)  # until `detach` has been called
        except TimeoutError:
            raise TimeoutError(f"no answer to {op} within {seconds} s") from None
        finally:
            self._asking -= 1

    async def _current(self) -> Connection:
        await self._attached.wait()
        if self._connection is None:
            raise self._end or ConnectionLost("there is no connection")
        return self._connection
