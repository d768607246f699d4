"""What it costs to tell one room's events to many connections, and how often each is encoded."""

import asyncio
import time
from dataclasses import dataclass

from parley.bench.load import LoadClient, connect
from parley.bench.target import Target


@dataclass
class Fanout:
    """What one room's fan-out took."""

    deliveries: int
    frames: int
    seconds: float
    cpu_us_per_delivery: float


async def measure(target: Target, members: int, messages: int, together: int) -> Fanout:
    """Send `messages` into a room that `members` connections follow, `together` at a time, each time to the
    last one."""
    lines = frames = 0

    def on_frame(client: LoadClient, frame: bytes) -> None:
        nonlocal lines, frames
        lines += frame.count(b'{"event":"message.sent"')
        frames += 1

    token = await asyncio.to_thread(target.guest, "Everybody")
    clients = [await connect(target.url, token, on_frame) for _ in range(members)]
    command = b'{"op":"message.send","ref":1,"room":"lobby","text":"hello, everybody"}'
    cpu, began = target.cpu_seconds(), time.perf_counter()
    for number in range(messages // together):
        clients[0].send(b"\n".join([command] * together))
        async with asyncio.timeout(30):
            while lines < members * together * (number + 1):
                await asyncio.sleep(0)
    took, cpu = time.perf_counter() - began, target.cpu_seconds() - cpu
    for client in clients:
        client.close()
    return Fanout(deliveries=lines, frames=frames, seconds=took, cpu_us_per_delivery=cpu / lines * 1e6)


def run(members: int, messages: int) -> dict[str, object]:
    """One message at a time, and eight together; the counts are the server's own."""
    results: dict[str, object] = {"members": members, "messages": messages}
    for together in (1, 8):
        with Target(store="memory://") as target:
            told = asyncio.run(measure(target, members, messages, together))
        results[f"{together}_at_a_time"] = {
            "deliveries_per_second": told.deliveries / told.seconds,
            "cpu_us_per_delivery": told.cpu_us_per_delivery,
            "encodings_per_event": target.counted["encoded"] / messages,
        }
    return results
