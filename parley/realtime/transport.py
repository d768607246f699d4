"""What a session stands on: the node that it belongs to, and whatever carries its frames."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from parley.errors import Draining
from parley.realtime.hub import Hub
from parley.realtime.presence import Presence
from parley.realtime.resume import Resume
from parley.services.core import Core

MAX_PENDING_BYTES = 1024 * 1024
"""What may wait in a connection's outgoing buffer before it is closed as too slow."""
PING_SECONDS = 15
"""How often a client is asked whether it is still there."""
PONG_SECONDS = 10
"""How long it may take to say so; together less than the half minute after which it is gone for everybody."""


class Transport(Protocol):
    """What carries frames to one client. Nothing here waits or raises."""

    @property
    def pending(self) -> int:
        """Bytes that are not yet with the kernel."""

    def send(self, frame: bytes) -> None:
        """Send one text frame."""

    def close(self, code: int, reason: str) -> None:
        """Close, within a deadline of its own, and send nothing more; `Session.closed` follows, once."""

    async def drained(self) -> None:
        """Wait until little is pending, or the connection is gone."""

    def pause(self) -> None:
        """Stop reading from the client."""

    def resume(self) -> None:
        """Read from the client again."""


class From(NamedTuple):
    """Where a connection comes from: a token that came with its opening, an address, and what the client's
    program calls itself."""

    token: str | None = None
    address: str = ""
    label: str = ""


NOWHERE = From()


@dataclass(slots=True)
class Realtime:
    """What the connections of a node share. `clients` are all that are open, before hello too."""

    core: Core
    hub: Hub
    resume: Resume
    presence: Presence
    loop: asyncio.AbstractEventLoop
    clients: set[Any] = field(default_factory=set)
    draining: bool = False

    def admit(self, address: str, user_id: str | None) -> None:
        """Take one command more of a client. Raises `Draining`, `RateLimited`."""
        if self.draining:
            raise Draining(retry_after=1)
        self.core.rates.of_address(address)
        if user_id is not None:
            self.core.rates.of_user(user_id)
