"""What happens to a run while people talk: one fault after the other, and when each of them was."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.delivery.brokers import Broker
from tests.delivery.crowd import Crowd
from tests.delivery.nodes import NodeProcess, Nodes

BACK_SECONDS = 20
"""How long a broker that is there again may stay unused."""
LAST_SECONDS = 0.5
"""How long everybody writes on when no hint arrives any more: no later one shows the hole."""
CUT, KILLED = 1, 2
"""The nodes that are cut off, and killed."""


@dataclass(frozen=True)
class Plan:
    """How long each part takes."""

    calm_seconds: float
    delay_seconds: float
    away_seconds: float
    cut_seconds: float
    down_seconds: float


SHORT = Plan(calm_seconds=2, delay_seconds=1, away_seconds=3, cut_seconds=2, down_seconds=1)
LONG = Plan(calm_seconds=4, delay_seconds=5, away_seconds=10, cut_seconds=10, down_seconds=5)


class Course:
    """All faults that a cell allows, in turn. `last_mended` is when the last one was over."""

    def __init__(self, plan: Plan, nodes: Nodes, broker: Broker, crowd: Crowd, *, may_kill: bool) -> None:
        self.last_mended = 0.0
        self.spans: dict[str, tuple[float, float]] = {}
        self._plan = plan
        self._nodes = nodes
        self._broker = broker
        self._crowd = crowd
        self._may_kill = may_kill

    async def run(self) -> None:
        plan, broker = self._plan, self._broker
        await asyncio.sleep(plan.calm_seconds)
        if broker.may_delay:
            async with self._span("slow"):
                await broker.delay(plan.delay_seconds)
        if broker.may_reset:
            async with self._span("reset"):
                await broker.reset()
                await asyncio.sleep(plan.calm_seconds / 4)
        if broker.may_go_away:
            async with self._span("away"):
                await broker.go_away(self._nodes)
                await self._meanwhile(plan.away_seconds)
                await broker.come_back(self._nodes)
                await self._are_back()
        if broker.may_cut:
            async with self._span("cut"):
                await broker.cut(CUT, self._nodes[CUT])
                await self._meanwhile(plan.cut_seconds)
                await broker.mend(CUT, self._nodes[CUT])
                await self._are_back()
        if self._may_kill:
            for _ in range(1 if len(self._nodes) > 1 else 2):
                await asyncio.sleep(plan.calm_seconds / 2)
                async with self._span("down"):
                    await self._kill(self._nodes[min(KILLED, len(self._nodes) - 1)].process)
        if len(self._nodes) > 1:
            self.spans["last"] = time.monotonic(), float("inf")
            await self._nodes.lose_all()
            await asyncio.sleep(LAST_SECONDS)
        self.last_mended = time.monotonic()

    async def _meanwhile(self, seconds: float) -> None:
        """Let the time pass. In its midst somebody goes to a node that does not know yet what they know."""
        await asyncio.sleep(seconds / 2)
        await self._crowd.people[0].move(CUT)
        await self._crowd.people[CUT].move(0)
        await asyncio.sleep(seconds / 2)

    async def _kill(self, process: NodeProcess) -> None:
        await process.kill()
        await asyncio.sleep(self._plan.down_seconds)
        await process.start()

    @asynccontextmanager
    async def _span(self, name: str) -> AsyncIterator[None]:
        began = time.monotonic()
        yield
        self.spans[name] = began, time.monotonic()
        self._crowd.check_that_all_go_on()

    async def _are_back(self) -> None:
        """Wait until all nodes are on the bus."""
        deadline = time.monotonic() + BACK_SECONDS
        while not await self._nodes.are_on_the_bus():
            assert time.monotonic() < deadline, "not all nodes came back to the bus"
            await asyncio.sleep(0.05)
        await self._crowd.people[0].move(0)
        await self._crowd.people[CUT].move(CUT)
