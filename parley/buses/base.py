"""What every bus promises, which is little: it is a hint, the store is the truth."""

from collections.abc import Callable, Collection
from typing import Protocol

Deliver = Callable[[str, bytes], None]
"""Called with a topic and a payload, on the event loop; it never waits."""

EVERYTHING = ""
"""The topic of all topics: what is said about it concerns everybody, whatever they want."""

LOOK = b""
"""The payload that says no more than that something happened: look at the store."""


class Bus(Protocol):
    """Carries bytes between nodes, at most once, perhaps twice, in no order: the hub repairs all of that.

    A topic is `room:<id>`, `user:<id>` or `nodes`: printable ASCII, at most 200 characters. A payload is one
    line of UTF-8 text. It may come back to the node that published it.

    What could not be sent is not forgotten: as soon as its topic can be spoken of again, those who want it
    are given the payload `LOOK`. Where that is too many topics to remember, everybody is given `LOOK` about
    `EVERYTHING`.
    """

    on_subscribed: Callable[[Collection[str]], None]
    """Called with wanted topics as soon as all that is published about them arrives, after every reconnect
    too: what was published before did not. Not called where it arrives at once."""
    breaks: int
    """How often the connection was lost. Whenever this grew, anything may have been missed meanwhile."""
    garbage: int
    """How many frames came that no node of ours can have sent."""
    published_frames: int
    published_payloads: int
    published_bytes: int
    received_frames: int
    """Those of topics that nobody here wants too."""

    @property
    def is_alone(self) -> bool:
        """Whether there is no other node that it could carry anything to."""

    @property
    def dropped_payloads(self) -> int:
        """How many were published and not sent; their topics were, or will be, looked at."""

    async def start(self, deliver: Deliver) -> None:
        """Connect, begin to deliver what is wanted, and stay connected by itself from then on.

        Raises `StartError`, one line without passwords.
        """

    async def stop(self) -> None:
        """Hand over what was published, within a deadline, and disconnect."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Send to every node that wants the topic. Never waits and never raises; what does not fit is
        dropped."""

    def want(self, topic: str) -> None:
        """Ask for a topic. Never waits: the bus brings the broker's subscriptions in line by itself."""

    def unwant(self, topic: str) -> None:
        """No longer ask for a topic."""

    def healthy(self) -> bool:
        """Whether what is published now will probably arrive: connected, and all that was wanted when the
        connection was made is subscribed to."""
