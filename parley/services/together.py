"""Asks the store once for what many ask for at the same moment, as they do when all come back at once."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

MOST = 500
"""How much is asked for at once."""

T = TypeVar("T")


class _Batch(Generic[T]):
    """Keys that will be read together, and what comes of it."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.answer: asyncio.Task[Mapping[str, T]] | None = None


class Together(Generic[T]):
    """Gathers keys while others are being read, and reads them with one query.

    What is read is never older than the question.
    """

    def __init__(self, read: Callable[[list[str]], Awaitable[Mapping[str, T]]]) -> None:
        self._read = read
        self._one_at_a_time = asyncio.Lock()
        self._gathering: _Batch[T] | None = None

    async def get(self, key: str) -> T | None:
        """What there is under a key. Raises what reading raises."""
        batch = self._gathering
        if batch is None or len(batch.keys) >= MOST:
            batch = self._gathering = _Batch()
        batch.keys.add(key)
        if batch.answer is None:
            batch.answer = asyncio.create_task(self._answer(batch))
            batch.answer.add_done_callback(_looked_at)
        return (await asyncio.shield(batch.answer)).get(key)

    async def _answer(self, batch: _Batch[T]) -> Mapping[str, T]:
        async with self._one_at_a_time:
            if self._gathering is batch:
                self._gathering = None
            return await self._read(sorted(batch.keys))


def _looked_at(answer: asyncio.Task[Mapping[str, T]]) -> None:
    """What went wrong is told to those who asked, who may all have given up."""
    if not answer.cancelled():
        answer.exception()
