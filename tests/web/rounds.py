"""Races by the thousand: many rounds, each of which goes on at once in an order of its own."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from parley.stores.base import Store
from parley.stores.memory import MemoryStore
from parley.stores.sql import SqlStore
from tests import backends

STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda folder: MemoryStore(),
    "sqlite": lambda folder: SqlStore(f"sqlite:///{folder}/parley.db", synchronous="OFF"),
    "postgresql": lambda folder: SqlStore(backends.postgres().database(folder)),
}
ROUNDS = {"memory": 1000, "sqlite": 300, "postgresql": 100}
AT_ONCE = 20

NAMES = [pytest.param(name, marks=pytest.mark.servers if name == "postgresql" else ()) for name in STORES]
WITHOUT_SERVERS = ["memory", "sqlite"]


async def by_the_thousand(
    rounds: int, one: Callable[[random.Random], Awaitable[str | None]], at_once: int = AT_ONCE
) -> list[str]:
    """Play so many rounds, some at once, each with dice of its own; what went wrong in which."""
    wrong = []
    for start in range(0, rounds, at_once):
        seeds = range(start, min(start + at_once, rounds))
        found = await asyncio.gather(*(one(random.Random(seed)) for seed in seeds))
        wrong += [
            f"round {seed}: {what}" for seed, what in zip(seeds, found, strict=True) if what is not None
        ]
    return wrong


async def later(dice: random.Random, what: Callable[[], Awaitable[Any]]) -> Any:
    """Begin at some moment of the round."""
    for _ in range(dice.randrange(40)):
        await asyncio.sleep(0)
    return await what()
