"""How long a message takes to those on the sender's node and to those on another one, in the same run."""

import asyncio
import math
import re
import secrets
import time
from array import array
from collections.abc import Sequence

from parley.bench.load import LoadClient, connect
from parley.bench.target import Target
from parley.errors import StartError

ROOMS = 8
WARM_SECONDS = 1.0
ARRIVE_SECONDS = 15.0
"""How long the last messages may take; longer than a node needs to find in the store what the bus lost."""
TEXT = "x" * 200

_NUMBER = re.compile(rb'"text":"n(\d+) ')


class Run:
    """Messages sent at one rate into rooms that somebody on either node follows; times are those of one
    process, by one clock."""

    def __init__(self) -> None:
        self.sent = array("d")
        self.heard: tuple[dict[int, float], ...] = ({}, {})
        """By node, when each message was first heard there, as an event or repaired from the store."""

    def on_frame(self, node: int, frame: bytes) -> None:
        moment = time.perf_counter()
        heard = self.heard[node]
        for number in _NUMBER.findall(frame):
            heard.setdefault(int(number), moment)

    async def send(self, senders: Sequence[LoadClient], rooms: Sequence[str], rate: float, most: int) -> None:
        """Send so many at that rate, whatever becomes of them."""
        began = time.perf_counter()
        while (count := len(self.sent)) < most:
            moment = time.perf_counter()
            for number in range(count, min(most, int((moment - began) * rate) + 1)):
                each = number % len(senders)
                command = f'{{"op":"message.send","ref":1,"room":"{rooms[each]}","text":"n{number} {TEXT}"}}'
                self.sent.append(time.perf_counter())
                senders[each].send(command.encode())
            await asyncio.sleep(max(0.0, began + len(self.sent) / rate - time.perf_counter()))

    async def all_heard(self) -> None:
        """Wait for the last one on both nodes. Raises `StartError` if it does not come."""
        deadline = time.monotonic() + ARRIVE_SECONDS
        while any(len(heard) < len(self.sent) for heard in self.heard):
            if time.monotonic() > deadline:
                missing = len(self.sent) - min(map(len, self.heard))
                raise StartError(
                    f"{missing} of {len(self.sent)} messages did not arrive within {ARRIVE_SECONDS:g} s: "
                    "try a lower --rate"
                )
            await asyncio.sleep(0.02)

    def result(self, first: int) -> dict[str, object]:
        """What was measured from that message on."""
        numbers = range(first, len(self.sent))
        here, there = (
            sorted((heard[number] - self.sent[number]) * 1000 for number in numbers) for heard in self.heard
        )
        took = max(self.heard[1][number] for number in numbers) - self.sent[first]
        one, across = ({"p50": _quantile(all_, 0.5), "p99": _quantile(all_, 0.99)} for all_ in (here, there))
        return {
            "messages": len(numbers),
            "achieved_per_second": len(numbers) / took,
            "one_node_ms": one,
            "across_ms": across,
            "ratio": {name: across[name] / one[name] for name in one},
        }


async def measure(nodes: Sequence[Target], rates: Sequence[float], seconds: float) -> list[dict[str, object]]:
    """Send to the first of two nodes at each rate, and time who follows the rooms there and on the second."""
    run = Run()
    node_of: dict[LoadClient, int] = {}

    def on_frame(client: LoadClient, frame: bytes) -> None:
        if client in node_of:
            run.on_frame(node_of[client], frame)

    async def come(node: Target, name: str) -> LoadClient:
        return await connect(node.url, await asyncio.to_thread(node.guest, name), on_frame)

    rooms = [f"bench-{secrets.token_hex(4)}-{number}" for number in range(ROOMS)]
    senders = [await come(nodes[0], f"Sender {number}") for number in range(ROOMS)]
    for sender, room in zip(senders, rooms, strict=True):
        await sender.ask(op="room.create", name=room)
    for number, node in enumerate(nodes):
        receiver = await come(node, f"Receiver {number}")
        for room in rooms:
            await receiver.ask(op="room.join", room=room)
        node_of[receiver] = number
    results = []
    for rate in rates:
        run = Run()
        first = math.ceil(rate * WARM_SECONDS)
        cpu = [node.cpu_seconds() for node in nodes]
        await run.send(senders, rooms, rate, first + max(1, round(rate * seconds)))
        used = [node.cpu_seconds() - before for node, before in zip(nodes, cpu, strict=True)]
        await run.all_heard()
        results.append(
            {"offered_per_second": rate, **run.result(first)}
            | {"cpu_us_per_message": [each / len(run.sent) * 1e6 for each in used]}
        )
    for client in (*senders, *node_of):
        client.close()
    return results


def _quantile(ordered: Sequence[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, math.ceil(part * len(ordered)) - 1)]
