"""What other services have not been told yet: lines that wait, and which rooms have to be read again."""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import structlog

from parley import events
from parley.events import RoomClosed, RoomEvent, RoomReset

MAX_WAITING = 20_000
MAX_WAITING_BYTES = 32 * 1024 * 1024
MAX_GAPS = 10_000
"""Rooms of which it is remembered what is missing."""

BATCH = 500
BATCH_BYTES = 1024 * 1024
"""How much goes to the broker at once; if that fails, all of it is sent again."""

Told = RoomEvent | RoomReset | RoomClosed

log = structlog.get_logger()


class Letter(NamedTuple):
    """One event on its way out: `body` is its line."""

    event: str
    room_id: str
    mark: str
    """What tells it from all others of its room: its revision, or the revisions that it covers."""
    body: bytes

    def id(self, epoch: str) -> str:
        """The same whenever and by whomever it is sent, so that whoever hears it twice can know."""
        return f"{epoch}:{self.room_id}:{self.mark}"


def letter(event: Told, line: bytes) -> Letter:
    """The letter that carries an event."""
    mark = "closed"
    if isinstance(event, events.RoomChanges):
        mark = f"{event.since}-{event.revision}"
    elif isinstance(event, RoomReset):
        mark = f"reset-{event.revision}"
    elif not isinstance(event, RoomClosed):
        mark = str(event.revision)
    return Letter(str(event.__struct_config__.tag), event.room_id, mark, line)


class Gap(NamedTuple):
    """What was forgotten of a room: all after `since`, at least up to `until`."""

    since: int
    until: int


class Backlog:
    """Lines in their order, within bounds; of what does not fit, the room is remembered instead.

    Safe because nothing here awaits.
    """

    def __init__(self) -> None:
        self.forgotten = 0
        """Lines that did not fit."""
        self.lost = 0
        """Lines that did not fit, of rooms that could not be remembered either."""
        self._waiting: deque[Letter] = deque()
        self._bytes = 0
        self._gaps: dict[str, Gap] = {}
        self._overflowed = False

    def __len__(self) -> int:
        """How many lines wait."""
        return len(self._waiting)

    @property
    def gaps(self) -> int:
        """How many rooms have to be read again."""
        return len(self._gaps)

    @property
    def is_roomy(self) -> bool:
        """Whether there is space enough for what is read again."""
        return len(self._waiting) < MAX_WAITING // 2 and self._bytes < MAX_WAITING_BYTES // 2

    def put(self, event: Told, line: bytes) -> None:
        """Let an event wait. What comes of a room while something of it is missing, is missing too: reading
        the room tells it as well, and in order."""
        fits = len(self._waiting) < MAX_WAITING and self._bytes + len(line) <= MAX_WAITING_BYTES
        if fits and event.room_id not in self._gaps:
            self.append(letter(event, line))
            return
        self.forgotten += 1
        since, until = 0, 0
        if not isinstance(event, RoomClosed | RoomReset):
            since, until = events.before(event), event.revision
        self._miss(event.room_id, since, until)

    def append(self, letter: Letter) -> None:
        """Let a letter wait, even where there is hardly space."""
        self._waiting.append(letter)
        self._bytes += len(letter.body)

    def batch(self) -> list[Letter]:
        """What to send next. It waits on, until it is said to be `sent`."""
        return list(self._first())

    def sent(self, count: int) -> None:
        """The broker has the first ones."""
        for _ in range(count):
            self._bytes -= len(self._waiting.popleft().body)

    def a_gap(self) -> tuple[str, Gap] | None:
        """A room that has to be read again."""
        return next(iter(self._gaps.items()), None)

    def read(self, room_id: str, revision: int) -> None:
        """A room was read up to there: it is whole, unless more of it came meanwhile."""
        gap = self._gaps.pop(room_id)
        if revision < gap.until:
            self._gaps[room_id] = Gap(revision, gap.until)

    def gone(self, room_id: str) -> None:
        """A room is there no more; nothing of it is missing."""
        del self._gaps[room_id]

    def postpone(self, room_id: str) -> None:
        """A room cannot be read now: others first."""
        self._gaps[room_id] = self._gaps.pop(room_id)

    def _miss(self, room_id: str, since: int, until: int) -> None:
        if not self._gaps:
            self._overflowed = False
        gap = self._gaps.get(room_id)
        if gap is not None:
            self._gaps[room_id] = Gap(min(gap.since, since), max(gap.until, until))
        elif len(self._gaps) < MAX_GAPS:
            self._gaps[room_id] = Gap(since, until)
        else:
            self.lost += 1
            if not self._overflowed:
                log.error("more is missing for other services than is remembered", rooms=len(self._gaps))
            self._overflowed = True

    def _first(self) -> Iterator[Letter]:
        size = 0
        for each in islice(self._waiting, BATCH):
            size += len(each.body)
            if size > BATCH_BYTES and size > len(each.body):
                return
            yield each
