"""Group commit: changes from everywhere go through here, and are acknowledged after they are durable.

While one batch commits, the next one fills, and the writers of the one before are told. An idle server
commits a change at once; a busy one commits hundreds together, for the price of one.
"""

import asyncio
from asyncio import Future
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from parley import background, events
from parley.errors import Draining, InternalError, Overloaded, ParleyError, StoreUnavailable
from parley.models import Applied, Change, Edit, Send
from parley.stores.base import Store

TURNS = 4
"""Turns of the loop in which a batch is on its way to any store: it goes through some tasks."""

_WITH_TEXT = (Send, Edit)
_FAILURES = (StoreUnavailable, InternalError)

log = structlog.get_logger()


class Journal:
    """Applies changes to the store in batches, in the order in which they came.

    What is fresh is published, and `refused` hears of the rest, before its writer does. At most `max_changes`
    changes, with `max_characters` of text, wait; what comes beyond is refused with `Overloaded`.

    `batches` counts those that the store was given, and `changes` what became of changes: stored, now or
    before; refused by the rules; failed with the store; or overloaded, and never taken.
    """

    def __init__(
        self,
        store: Store,
        publish: Callable[[events.RoomEvent], None],
        *,
        refused: Callable[[Change, ParleyError], None] = lambda change, error: None,
        max_batch: int = 512,
        max_changes: int = 10_000,
        max_characters: int = 32 * 1024 * 1024,
    ) -> None:
        self._store = store
        self._publish = publish
        self._refused = refused
        self._max_batch = max_batch
        self._max_changes = max_changes
        self._max_characters = max_characters
        self._waiting: deque[tuple[Change, Future[Applied]]] = deque()
        self._characters = 0
        self._filled = asyncio.Event()
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self.batches = 0
        self.changes = {"stored": 0, "refused": 0, "failed": 0, "overloaded": 0}

    @property
    def waiting(self) -> int:
        """How many changes wait for the next batch."""
        return len(self._waiting)

    def start(self, on_death: Callable[[str], None]) -> None:
        """Begin to write; `on_death` hears if that ever ends by itself."""
        self._task = background.start(self._run(), "journal", on_death)

    async def stop(self, seconds: float) -> None:
        """Refuse what comes from now on, write what was taken, and end; what takes longer is refused too."""
        self._closed = True
        self._filled.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=seconds)
            await background.stop(self._task)

    def write(self, change: Change) -> Future[Applied]:
        """Take a change. The future is done when it is durable, or holds what refused it.

        Raises `Overloaded`, `Draining`. Never waits, so that changes are applied in the order of the calls.
        """
        if self._closed:
            raise Draining(retry_after=1)
        size = _length(change)
        if len(self._waiting) >= self._max_changes or self._characters + size > self._max_characters:
            self.changes["overloaded"] += 1
            raise Overloaded(retry_after=0.5)
        future: Future[Applied] = self._loop.create_future()
        self._waiting.append((change, future))
        self._characters += size
        self._filled.set()
        return future

    async def _run(self) -> None:
        batch: _Batch | None = None
        following: _Batch | None = None
        try:
            while self._waiting or not self._closed:
                if not self._waiting:
                    self._filled.clear()
                    await self._filled.wait()
                batch = self._begin()
                while batch is not None:
                    outcomes = await batch.outcomes
                    # The store works on the next batch while the writers of this one are told.
                    following = self._begin()
                    for _ in range(TURNS):
                        if following is None or following.outcomes.done():
                            break
                        await asyncio.sleep(0)
                    self._settle(batch, outcomes)
                    batch, following = following, None
        finally:  # whatever ended it, nobody is left waiting
            self._closed = True
            left = [each for each in (batch, following) if each is not None]
            for each in left:
                each.outcomes.cancel()
            for _, future in (*(write for each in left for write in each.writes), *self._waiting):
                if not future.done():
                    future.set_exception(Draining(retry_after=1))

    def _begin(self) -> "_Batch | None":
        """Hand what waits to the store, as much as fits into one batch."""
        count = min(len(self._waiting), self._max_batch)
        if not count:
            return None
        writes = [self._waiting.popleft() for _ in range(count)]
        self._characters -= sum(_length(change) for change, _ in writes)
        self.batches += 1
        return _Batch(writes, asyncio.create_task(self._apply([change for change, _ in writes])))

    async def _apply(self, changes: list[Change]) -> list[Applied | ParleyError]:
        try:
            return await self._store.apply(changes)
        except ParleyError as error:
            log.warning("a batch was not written", changes=len(changes), code=error.code)
            return [StoreUnavailable(retry_after=1) for _ in changes]
        except Exception:
            log.exception("a batch was not written", changes=len(changes))
            return [InternalError() for _ in changes]

    def _settle(self, batch: "_Batch", outcomes: list[Applied | ParleyError]) -> None:
        """Publish what became of a batch, and tell its writers."""
        errors = 0
        for (change, future), outcome in zip(batch.writes, outcomes, strict=True):
            # A repeated id is told again: the first telling may have died with its process, and the hub
            # drops what it knows.
            if isinstance(outcome, Applied) and outcome.fresh:
                self._publish(events.of_change(change, outcome.message))
            elif isinstance(outcome, Applied) and isinstance(change, Send):
                self._publish(events.again(outcome.message))
            if isinstance(outcome, ParleyError):
                errors += 1
                self.changes["failed" if isinstance(outcome, _FAILURES) else "refused"] += 1
                self._refused(change, outcome)
            if future.done():  # its writer gave up; the change stands all the same
                continue
            if isinstance(outcome, ParleyError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        self.changes["stored"] += len(outcomes) - errors


@dataclass(slots=True)
class _Batch:
    """Changes that the store has been given, and what will have become of them."""

    writes: list[tuple[Change, Future[Applied]]]
    outcomes: asyncio.Task[list[Applied | ParleyError]]


def _length(change: Change) -> int:
    return len(change.text) if isinstance(change, _WITH_TEXT) else 0
