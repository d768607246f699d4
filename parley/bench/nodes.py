"""What a second node costs: the time across each bus beside that on one node, and CPU for each event."""

import asyncio
from collections.abc import Sequence

import uvloop

from parley import config
from parley.app import bus_from
from parley.bench import bus_cost, latency
from parley.bench.target import Target
from parley.errors import StartError

SHARED = ("postgresql://", "redis://", "rediss://")
"""How stores begin that two processes can share."""


def run(
    store: str | None, buses: Sequence[str], rates: Sequence[float], seconds: float, ticks: int
) -> dict[str, object]:
    """Each bus between two nodes on one store. Raises `StartError`, before anything is measured where it
    can."""
    if store is None or not store.startswith(SHARED):
        raise StartError(f"name a store that two nodes can share: --store {' or '.join(SHARED)}…")
    if not buses:
        raise StartError(
            "name at least one bus: --bus redis://…, amqp://…, kafka://… or postgresql://…; "
            "scripts/bench-nodes starts servers for all of them"
        )
    for bus in buses:
        if bus.startswith("memory:"):
            raise StartError("memory:// connects no two processes; name another bus")
        asyncio.run(_try(bus))
    return {
        "store": config.masked(store),
        "rooms": latency.ROOMS,
        "seconds": seconds,
        "buses": {config.masked(bus): _measure(store, bus, rates, seconds, ticks) for bus in buses},
    }


async def _try(url: str) -> None:
    """Raise `StartError` where nobody answers, rather than in the midst of the measurement."""
    bus = bus_from(config.read(bus=url))
    await bus.start(lambda topic, payload: None)
    await bus.stop()


def _measure(store: str, bus: str, rates: Sequence[float], seconds: float, ticks: int) -> dict[str, object]:
    with Target(0, store=store, bus=bus) as here, Target(1, store=store, bus=bus) as there:
        latencies = uvloop.run(latency.measure([here, there], rates, seconds))
    repairs = here.counted["repairs"] + there.counted["repairs"]
    return {"latency": latencies, "repairs": repairs, "cost": bus_cost.measure(bus, ticks)}
