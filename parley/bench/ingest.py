"""How many messages a second are stored and acknowledged, and what committing in groups is worth."""

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from parley import config
from parley.bench.load import LoadClient, connect
from parley.bench.target import Target

SENDERS = 64
IN_FLIGHT = 16
TEXT = "x" * 200
SQLITE = "sqlite"
"""Stands for a file of the server's own, with `synchronous=FULL`."""


@dataclass(frozen=True)
class Ingest:
    """What one server did."""

    acknowledged_per_second: float
    cpu_us_per_message: float


async def measure(
    target: Target, seconds: float, senders: int = SENDERS, in_flight: int = IN_FLIGHT
) -> Ingest:
    """Keep `senders` connections busy, each with `in_flight` unacknowledged messages in a room of its own."""
    acknowledged = 0
    running = True

    def on_frame(client: LoadClient, frame: bytes) -> None:
        nonlocal acknowledged
        count = frame.count(b'{"ref":')
        acknowledged += count
        if count and running:
            client.send(b"\n".join([commands[client]] * count))

    commands: dict[LoadClient, bytes] = {}
    run = secrets.token_hex(4)  # a store may have the rooms of an earlier one
    for number in range(senders):
        client = await connect(
            target.url, await asyncio.to_thread(target.guest, f"Sender {number}"), on_frame
        )
        await client.ask(op="room.create", name=f"bench-{run}-{number}")
        commands[client] = b'{"op":"message.send","ref":1,"room":"bench-%s-%d","text":"%s"}' % (
            run.encode(),
            number,
            TEXT.encode(),
        )
    await asyncio.sleep(0.5)  # what the rooms' creation still has to say
    for client, command in commands.items():
        client.send(b"\n".join([command] * in_flight))
    await asyncio.sleep(seconds / 5)  # warm up
    before, cpu, began = acknowledged, target.cpu_seconds(), time.perf_counter()
    await asyncio.sleep(seconds)
    count, cpu, took = acknowledged - before, target.cpu_seconds() - cpu, time.perf_counter() - began
    running = False
    for client in commands:
        client.close()
    if not count:
        raise RuntimeError("nothing was acknowledged")
    return Ingest(acknowledged_per_second=count / took, cpu_us_per_message=cpu / count * 1e6)


def run(stores: Sequence[str], seconds: float) -> dict[str, object]:
    """Grouped commits beside one commit per message on each store, a URL or `sqlite` for a new file."""
    return {
        "senders": SENDERS,
        "in_flight": IN_FLIGHT,
        "stores": {config.masked(store): _compare(store, seconds) for store in stores},
    }


def _compare(store: str, seconds: float) -> dict[str, object]:
    where = {} if store == SQLITE else {"store": store}
    with Target(**where) as target:
        grouped = asyncio.run(measure(target, seconds))
    with Target(**where, journal_batch=1) as target:
        single = asyncio.run(measure(target, seconds))
    return {
        "grouped": asdict(grouped),
        "one_commit_per_message": asdict(single),
        "ratio": grouped.acknowledged_per_second / single.acknowledged_per_second,
    }
