"""A flaky bus loses, repeats and reorders, and does not lose what it says is on its way for good."""

import asyncio
import random

from parley.buses.base import LOOK
from parley.buses.memory import Exchange, MemoryBus
from tests.delivery.flaky_bus import DROPPED, HELD, REPEATED, FlakyBus
from tests.servers import until

COUNT = 1000
ROOM = "room:kitchen"


async def test_it_loses_repeats_and_reorders_about_as_much_as_it_says() -> None:
    exchange = Exchange()
    bus, other = FlakyBus(MemoryBus(exchange), random.Random("dice")), MemoryBus(exchange)
    heard: list[bytes] = []
    await bus.start(lambda topic, payload: None)
    await other.start(lambda topic, payload: heard.append(payload))
    other.want(ROOM)
    for number in range(COUNT):
        bus.publish(ROOM, b"%d" % number)
    await until(lambda: len(heard) == COUNT - bus.dropped + bus.repeated)
    for counted, share in ((bus.dropped, DROPPED), (bus.repeated, REPEATED), (bus.held, HELD)):
        assert COUNT * share / 2 < counted < COUNT * share * 2
    assert len(set(heard)) == COUNT - bus.dropped
    assert heard != sorted(heard, key=int)
    await bus.stop()
    await other.stop()


async def test_while_it_is_cut_nothing_passes_and_afterwards_all_are_told_to_look() -> None:
    exchange = Exchange()
    bus, other = FlakyBus(MemoryBus(exchange), random.Random("dice")), MemoryBus(exchange)
    came: list[bytes] = []
    heard: list[bytes] = []
    subscribed: list[str] = []
    bus.on_subscribed = subscribed.extend
    await bus.start(lambda topic, payload: came.append(payload))
    await other.start(lambda topic, payload: heard.append(payload))
    for each in (bus, other):
        each.want(ROOM)
    bus.cut()
    assert not bus.healthy()
    for _ in range(100):
        bus.publish(ROOM, b"into the void")
        other.publish(ROOM, b"and back")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert came == heard == []
    bus.mend()
    await until(lambda: heard == [LOOK])
    assert bus.healthy()
    assert bus.breaks == 1
    assert subscribed == [ROOM]
    await bus.stop()
    await other.stop()
