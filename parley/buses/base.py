"""What every bus promises, which is little: it is a hint, the store is the truth."""

from collections.abc import Callable
from typing import Protocol

Deliver = Callable[[str, bytes], None]
"""Called with a topic and a payload, on the event loop; it never waits."""


class Bus(Protocol):
    """Carries bytes between nodes, at most once, perhaps twice, in no order: the hub repairs all of that.

    A topic is `room:<id>`, `user:<id>` or `nodes`. A payload may come back to the node that published it.
    """

    async def start(self, deliver: Deliver) -> None:
        """Connect and begin to deliver what is wanted. Raises `StartError`."""

    async def stop(self) -> None:
        """Hand over what was published, within a deadline, and disconnect."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Send to every node that wants the topic. Never waits; what does not fit is dropped."""

    def want(self, topic: str) -> None:
        """Ask for a topic. Never waits: the bus brings the broker's subscriptions in line by itself."""

    def unwant(self, topic: str) -> None:
        """No longer ask for a topic."""

    def healthy(self) -> bool:
        """Whether what is published now will probably arrive."""
