"""`python -m tests.delivery.flaky_node`: `parley serve`, but with a `FlakyBus`, and told what to do by its
input.

`FLAKY_PORTS` names the port, or the ports of as many nodes of one process, which then share a store and an
exchange of the memory bus. `FLAKY_SEED` seeds the dice. Each line of the input is answered with one of JSON;
the end of the input is the end of the process, so that none outlives the test.
"""

import asyncio
import json
import os
import random
import sys
import threading
from collections.abc import Callable

import uvloop

from parley import config, server, telemetry
from parley.app import node_from
from parley.buses.memory import Exchange, MemoryBus
from parley.config import Settings
from parley.node import Node
from parley.stores.memory import MemoryStore
from tests.delivery.flaky_bus import FlakyBus, as_bus

Counts = dict[str, object]


class Flaky:
    """One node and its bus."""

    def __init__(self, node: Node, seed: str) -> None:
        self.node = node
        self.bus = FlakyBus(node.bus, random.Random(seed))
        node.bus = as_bus(self.bus)

    def counts(self) -> Counts:
        return {
            "repairs": sum(self.node.repair.repairs.values()),
            "dropped": self.bus.dropped,
            "repeated": self.bus.repeated,
            "held": self.bus.held,
            "breaks": self.bus.breaks,
            "healthy": self.bus.healthy(),
        }


def nodes(settings: Settings, ports: list[int]) -> list[Node]:
    each = [settings.model_copy(update={"port": port}) for port in ports]
    if len(ports) == 1:
        return [node_from(each[0])]
    store, exchange = MemoryStore(), Exchange()
    return [Node(own, store, MemoryBus(exchange)) for own in each]


def obey(all_of_them: list[Flaky], said: str) -> object:
    """Do what a line says: `cut 0`, `mend 0`, `lose` or `counts`."""
    word, _, number = said.partition(" ")
    if word == "cut":
        all_of_them[int(number)].bus.cut()
    elif word == "mend":
        all_of_them[int(number)].bus.mend()
    elif word == "lose":
        for flaky in all_of_them:
            flaky.bus.loses_all = True
    elif word != "counts":
        raise ValueError(f"nobody knows {word!r}")
    return [flaky.counts() for flaky in all_of_them]


def listen(loop: asyncio.AbstractEventLoop, heard: Callable[[str], object]) -> None:
    """Read the input for ever, and end with it."""
    for line in sys.stdin:
        answer = asyncio.run_coroutine_threadsafe(_called(heard, line.strip()), loop)
        print(json.dumps(answer.result()), flush=True)
    os._exit(0)


async def _called(heard: Callable[[str], object], line: str) -> object:
    return heard(line)


async def main() -> None:
    settings = config.read()
    telemetry.configure("json")
    ports = [int(port) for port in os.environ["FLAKY_PORTS"].split(",")]
    seed = os.environ["FLAKY_SEED"]
    all_of_them = [Flaky(node, f"{seed} {number}") for number, node in enumerate(nodes(settings, ports))]
    loop = asyncio.get_running_loop()
    listener = threading.Thread(target=listen, args=(loop, lambda line: obey(all_of_them, line)), daemon=True)
    listener.start()
    await asyncio.gather(*(server.run(flaky.node) for flaky in all_of_them))


if __name__ == "__main__":
    uvloop.run(main())
