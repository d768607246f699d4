"""A store that answers a little later, now and then: what goes on at once meets in ever other orders."""

import asyncio
import inspect
import random
from typing import Any, cast

from parley.stores.base import Store

TURNS = (0, 0, 0, 1, 1, 2, 3, 8)
"""Turns of the loop that a step may wait before and after it."""


class _Jittery:
    def __init__(self, store: Store, dice: random.Random) -> None:
        self._store = store
        self._dice = dice

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def step(*given: Any, **named: Any) -> Any:
            await self._pause()
            try:
                return await found(*given, **named)
            finally:
                await self._pause()

        return step

    async def _pause(self) -> None:
        for _ in range(self._dice.choice(TURNS)):
            await asyncio.sleep(0)


def jittery(store: Store, seed: int) -> Store:
    """The same store, each step of which is as atomic as before."""
    return cast(Store, _Jittery(store, random.Random(seed)))
