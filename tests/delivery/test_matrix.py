"""Everybody is told everything once and in order, and ends up with what the store has, whatever breaks.

Each cell is a store and a bus with as many nodes as make sense: three processes where they can share the
store, else one, and for the memory store three nodes in one process. People on all of them send, edit,
delete and react; meanwhile the bus loses, repeats and reorders, and one thing after the other is broken.
`PARLEY_TEST_DELIVERY=long` gives every fault more time.
"""

import asyncio
import os
import random
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests import backends
from tests.delivery.brokers import Broker, Brokers
from tests.delivery.crowd import Crowd
from tests.delivery.delays import Delays
from tests.delivery.faults import LONG, SHORT, Course
from tests.delivery.nodes import NodeProcess, Nodes
from tests.delivery.table import BUSES, Row
from tests.delivery.truth import Truth
from tests.redis_servers import a_redis

PLAN = LONG if os.environ.get("PARLEY_TEST_DELIVERY") == "long" else SHORT
IDENTICAL_SECONDS = 15
"""How soon after the last fault everybody has what the store has."""
MOST_SECONDS = 1
"""How soon nine of ten messages are shown to others, as long as there is a bus."""
HALF_AWAY_SECONDS = 1.5
"""How soon half of them are while there is none, where it takes a look at the store to notice them."""
RUN_SECONDS = 110
"""A run that takes longer hangs."""

STORES: dict[str, Callable[[Path], str]] = {
    "memory": lambda folder: "memory://",
    "sqlite": lambda folder: f"sqlite:///{folder / 'parley.db'}",
    "postgresql": lambda folder: backends.postgres().database(folder),
    "redis": a_redis,
}
KINDS = {"message.send", "message.edit", "message.delete", "message.react"}
SHARED = ("postgresql", "redis")
"""The stores that several nodes can share."""

CELLS = [("memory", "memory"), ("sqlite", "memory"), *((store, bus) for store in SHARED for bus in BUSES)]


def nodes_for(store: str, bus: str, broker: Broker, folder: Path, seed: str) -> Nodes:
    url = STORES[store](folder)
    if store == "memory":
        return Nodes([NodeProcess(folder / "nodes", nodes=3, seed=seed, store=url, bus=broker.url(0))])
    return Nodes(
        [
            NodeProcess(folder / f"node{number}", seed=f"{seed} {number}", store=url, bus=broker.url(number))
            for number in range(1 if bus == "memory" else 3)
        ]
    )


def row_for(store: str, bus: str, broker: Broker) -> Row:
    if store == "memory":
        return Row(store, bus, "3 in one process", f"{broker.faults} L")
    if bus == "memory":
        return Row(store, bus, "1", "N N")
    return Row(store, bus, "3", f"{broker.faults} N L")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("store", "bus"),
    [
        pytest.param(*cell, marks=[] if cell[0] in ("memory", "sqlite") else pytest.mark.servers)
        for cell in CELLS
    ],
)
async def test_everybody_is_told_everything_once_and_ends_up_with_what_the_store_has(
    store: str, bus: str, tmp_path: Path, brokers: Brokers, rows: list[Row]
) -> None:
    seed = str(random.randrange(10**6))
    print(f"seed {seed}")
    several = store == "memory" or bus != "memory"
    async with AsyncExitStack() as stack, asyncio.timeout(RUN_SECONDS):
        broker = await stack.enter_async_context(brokers.broker(bus, 3 if several else 1))
        nodes = nodes_for(store, bus, broker, tmp_path, seed)
        row = row_for(store, bus, broker)
        rows.append(row)
        stack.push_async_callback(nodes.end)
        await nodes.start()
        crowd = Crowd(nodes, seed)
        stack.push_async_callback(crowd.leave)
        await crowd.come()
        crowd.begin()
        course = Course(PLAN, nodes, broker, crowd, may_kill=store != "memory")
        await course.run()
        await go_home(crowd)
        await settled(crowd, nodes, course, row)

        await check_that_it_was_bad(nodes, broker, crowd, row, several=several)
        measure(crowd, course, row)
        truth = Truth()
        await truth.look(nodes[0], crowd)
        wrong = [*await truth.read(nodes[-1], crowd), *truth.missed_by(crowd), *crowd.wrong()]
        assert wrong == []
        row.result = "passed"


async def go_home(crowd: Crowd) -> None:
    """Those whose node was killed go back to it: it knows less than they do."""
    for number, person in enumerate(crowd.people):
        home = number % len(crowd.nodes)
        if person.at != home:
            await person.move(home)


async def settled(crowd: Crowd, nodes: Nodes, course: Course, row: Row) -> None:
    """Wait until everything is answered and everybody stands where the store does."""
    deadline = course.last_mended + IDENTICAL_SECONDS
    await crowd.finish(deadline)
    truth = Truth()
    await truth.look(nodes[0], crowd)
    while behind := crowd.behind(truth.heads):
        crowd.check_that_all_go_on()
        assert time.monotonic() < deadline, f"not like the store {IDENTICAL_SECONDS} s after: {behind}"
        await asyncio.sleep(0.02)
    row.identical_after = time.monotonic() - course.last_mended


def measure(crowd: Crowd, course: Course, row: Row) -> None:
    """Count, and see how late messages were in each kind of time."""
    row.acknowledged = sum(len(person.answered) for person in crowd.people)
    row.acknowledged += sum(len(talker.written) for talker in crowd.talkers)
    row.deliveries = sum(len(person.shown) for person in crowd.people)
    row.deliveries += sum(len(talker.shown) for talker in crowd.talkers)
    delays = Delays(crowd, course.spans)
    row.latest = delays.latest("away"), delays.latest("cut"), delays.latest()
    assert delays.most() < MOST_SECONDS
    if PLAN is LONG:  # else it is over before it is noticed that a broker hangs
        assert delays.half_of_heard_only("away") < HALF_AWAY_SECONDS


async def check_that_it_was_bad(
    nodes: Nodes, broker: Broker, crowd: Crowd, row: Row, *, several: bool
) -> None:
    """The faults of the table did happen, and people did everything that they can do."""
    assert {op.kind for person in crowd.people for op in person.answered if op.error is None} == KINDS
    if several:
        row.repairs = await nodes.total("repairs")
        assert row.repairs > 0
        for name in ("dropped", "repeated", "held"):
            assert await nodes.total(name) > 0
    if broker.may_go_away:
        assert await nodes.total("breaks") >= len(nodes) + 1
