"""What a node has published and the broker has not got yet."""

from parley.buses.base import EVERYTHING, LOOK
from parley.buses.frames import HEAD_BYTES, Frame, new_head, packed

MAX_WAITING_BYTES = 8 * 1024 * 1024
MAX_TOPICS = 10_000
"""Most topics that wait, and most that are remembered as lost."""

MAX_BATCH_BYTES = 1024 * 1024
MAX_BATCH_FRAMES = 1000
"""How much goes out at once: what fails is lost together."""


class Outbox:
    """Joins payloads by topic, within bounds; what does not fit is dropped and its topic remembered as lost.

    Safe because nothing here awaits.
    """

    def __init__(self, max_frame_bytes: int) -> None:
        self.head = new_head()
        self.dropped = 0
        self._max_frame_bytes = max_frame_bytes - HEAD_BYTES
        self._is_open = False
        self._waiting: dict[str, list[bytes]] = {}
        self._bytes = 0
        self._lost: set[str] = set()

    def __bool__(self) -> bool:
        """Whether there is something to send."""
        return bool(self._waiting or self._lost)

    def open(self) -> None:
        """The broker can be reached: keep what comes."""
        self._is_open = True

    def close(self) -> None:
        """The broker is away: what waits, and what comes, is lost."""
        self._is_open = False
        for topic, payloads in self._waiting.items():
            self._lose(topic, len(payloads))
        self._waiting.clear()
        self._bytes = 0

    def put(self, topic: str, payload: bytes) -> None:
        """Let a payload wait, or drop it."""
        size = len(payload) + 1
        waiting = self._waiting.get(topic)
        if (
            not self._is_open
            or size > self._max_frame_bytes
            or self._bytes + size > MAX_WAITING_BYTES
            or (waiting is None and len(self._waiting) >= MAX_TOPICS)
        ):
            self._lose(topic, 1)
            return
        self._bytes += size
        if waiting is None:
            self._waiting[topic] = [payload]
        else:
            waiting.append(payload)

    def take(self) -> list[Frame]:
        """What to send next. Those who want a lost topic are told to look before they are told anything
        else about it."""
        frames: list[Frame] = []
        size = 0
        while self and len(frames) < MAX_BATCH_FRAMES and size < MAX_BATCH_BYTES:
            topic = next(iter(self._lost or self._waiting))
            payloads = self._waiting.pop(topic, [])
            self._bytes -= sum(map(len, payloads)) + len(payloads)
            if topic in self._lost:
                self._lost.remove(topic)
                payloads.insert(0, LOOK)
            for part in self._parts(payloads):
                frames.append(packed(self.head, topic, part))
                size += len(frames[-1].body)
        return frames

    def lose(self, frames: list[Frame]) -> None:
        """What was taken may not have arrived."""
        for frame in frames:
            self._lose(frame.topic, frame.payloads)

    def _lose(self, topic: str, payloads: int) -> None:
        self.dropped += payloads
        if EVERYTHING not in self._lost:
            self._lost.add(topic)
            if len(self._lost) > MAX_TOPICS:
                self._lost = {EVERYTHING}

    def _parts(self, payloads: list[bytes]) -> list[list[bytes]]:
        """Payloads in their order, as many together as fit into a frame."""
        parts: list[list[bytes]] = [[]]
        size = 0
        for payload in payloads:
            size += len(payload) + 1
            if size > self._max_frame_bytes and parts[-1]:
                parts.append([])
                size = len(payload) + 1
            parts[-1].append(payload)
        return parts
