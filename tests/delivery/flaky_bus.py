"""A bus that is worse than any broker: between it and its node payloads are lost, repeated and held back."""

import asyncio
import random
from collections.abc import Callable, Collection
from typing import cast

from parley.buses.base import LOOK, Bus, Deliver

DROPPED = 0.05
REPEATED = 0.05
HELD = 0.2
"""How much of what goes out, and of what comes in, meets with that."""
MAX_HELD_SECONDS = 0.1


class FlakyBus:
    """Keeps the promises of `Bus`, as badly as they allow. `cut` takes it off the broker altogether."""

    def __init__(self, bus: Bus, chance: random.Random) -> None:
        self.dropped = self.repeated = self.held = 0
        self.is_cut = False
        self.loses_all = False
        """Nothing arrives any more, and nobody can see that."""
        self._bus = bus
        self._chance = chance
        self._cuts = 0
        self._unsaid: set[str] = set()
        self._wanted: set[str] = set()
        self._deliver: Deliver = lambda topic, payload: None
        self._held: set[asyncio.TimerHandle] = set()

    async def start(self, deliver: Deliver) -> None:
        self._deliver = deliver
        await self._bus.start(self._arrived)

    async def stop(self) -> None:
        for handle in self._held:
            handle.cancel()
        await self._bus.stop()

    def publish(self, topic: str, payload: bytes) -> None:
        if self.is_cut:
            self._unsaid.add(topic)
        self._pass(self._bus.publish, topic, payload)

    def want(self, topic: str) -> None:
        self._wanted.add(topic)
        self._bus.want(topic)

    def unwant(self, topic: str) -> None:
        self._wanted.discard(topic)
        self._bus.unwant(topic)

    def healthy(self) -> bool:
        return not self.is_cut and self._bus.healthy()

    def cut(self) -> None:
        """From now on nothing goes out or comes in, and the node can see that."""
        self.is_cut = True

    def mend(self) -> None:
        """Connected again. What could not be said is told as a hint, as every bus does."""
        if self.is_cut:
            self.is_cut = False
            self._cuts += 1
            for topic in self._unsaid:
                self._bus.publish(topic, LOOK)
            self._unsaid.clear()
            self.on_subscribed(list(self._wanted))

    @property
    def on_subscribed(self) -> Callable[[Collection[str]], None]:
        return self._bus.on_subscribed

    @on_subscribed.setter
    def on_subscribed(self, call: Callable[[Collection[str]], None]) -> None:
        self._bus.on_subscribed = call

    @property
    def breaks(self) -> int:
        return self._bus.breaks + self._cuts

    def __getattr__(self, name: str) -> object:
        """Its counters, and whatever else a bus has."""
        return getattr(self._bus, name)

    def _arrived(self, topic: str, payload: bytes) -> None:
        self._pass(self._deliver, topic, payload)

    def _pass(self, on: Callable[[str, bytes], None], topic: str, payload: bytes) -> None:
        dice = self._chance.random()
        if self.is_cut or self.loses_all or dice < DROPPED:
            self.dropped += 1
            return
        copies = 2 if dice < DROPPED + REPEATED else 1
        self.repeated += copies - 1
        for _ in range(copies):
            if self._chance.random() < HELD:
                self._hold(on, topic, payload)
            else:
                on(topic, payload)

    def _hold(self, on: Callable[[str, bytes], None], topic: str, payload: bytes) -> None:
        self.held += 1

        def let_go() -> None:
            self._held.discard(handle)
            if not self.is_cut:
                on(topic, payload)

        seconds = self._chance.uniform(0, MAX_HELD_SECONDS)
        handle = asyncio.get_running_loop().call_later(seconds, let_go)
        self._held.add(handle)


def as_bus(bus: FlakyBus) -> Bus:
    """It has all that a bus has, though some of it only by looking it up."""
    return cast(Bus, bus)
