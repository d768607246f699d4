"""One end of a bus in a process of its own, which does what it reads and says what that took."""

import asyncio
import itertools
import json
import sys
import time
from typing import Any, Protocol

import uvloop

from parley import config, events
from parley.app import bus_from
from parley.bench.latency import TEXT
from parley.bench.wire import SCHEME, Relay, Wire
from parley.buses.base import Deliver
from parley.errors import StartError
from parley.events import MessageSent
from parley.ids import new_id, now
from parley.models import Message
from parley.server import collect_rarely

TICK_SECONDS = 0.002
SENT_SECONDS = 60.0
"""How long all ticks may take. What a bus drops, because it lost its broker, would be waited for in vain."""


class Carrier(Protocol):
    """What a bus and a wire have in common."""

    published_frames: int
    published_payloads: int

    async def start(self, deliver: Deliver) -> None: ...
    async def stop(self) -> None: ...
    def publish(self, topic: str, payload: bytes) -> None: ...
    def want(self, topic: str) -> None: ...


class End:
    """What is asked for by name, and answered with the counters so far."""

    def __init__(self, carrier: Carrier, room_id: str) -> None:
        self._carrier = carrier
        self._topic = f"room:{room_id}"
        self._events = itertools.cycle(_events(room_id))
        self._heard = 0

    async def start(self) -> None:
        # Whoever publishes wants it too, as a node does with people on both ends of a room.
        self._carrier.want(self._topic)
        await self._carrier.start(self._deliver)

    async def stop(self) -> None:
        await self._carrier.stop()

    def counters(self) -> dict[str, object]:
        return {
            "cpu_seconds": time.process_time(),
            "frames": self._carrier.published_frames,
            "payloads": self._carrier.published_payloads,
            "heard": self._heard,
        }

    async def publish(self, together: int, ticks: int) -> None:
        """Publish so many events in each of so many ticks, each when the one before is sent."""
        sent = self._carrier.published_payloads
        async with asyncio.timeout(SENT_SECONDS):
            for _ in range(ticks):
                for _ in range(together):
                    self._carrier.publish(self._topic, next(self._events))
                sent += together
                await asyncio.sleep(TICK_SECONDS)
                while self._carrier.published_payloads < sent:
                    await asyncio.sleep(TICK_SECONDS)

    def _deliver(self, topic: str, payload: bytes) -> None:
        self._heard += 1


def _events(room_id: str) -> list[bytes]:
    """What one node tells the others of messages. No two are the same: PostgreSQL tells what is only once."""
    author_id = new_id()
    return [
        events.encode(
            MessageSent(
                room_id=room_id,
                revision=number,
                message=Message(
                    id=new_id(),
                    room_id=room_id,
                    seq=number,
                    revision=number,
                    author_id=author_id,
                    author_name="Ann",
                    kind="text",
                    text=TEXT,
                    sent_at=now(),
                ),
            )
        )
        for number in range(10_000, 11_000)
    ]


async def _serve() -> None:
    asked = await _read()
    url = asked["bus"]
    if url == SCHEME:
        _say(url=await Relay().start())
        await _read()
        return
    try:
        carrier: Carrier = Wire(url) if url.startswith(SCHEME) else bus_from(config.read(bus=url))
        end = End(carrier, asked["room_id"])
        await end.start()
    except StartError as error:
        _say(error=str(error))
        return
    collect_rarely()  # as a server does
    _say(url=url)
    while asked := await _read():
        if "publish" in asked:
            try:
                await end.publish(**asked["publish"])
            except TimeoutError:
                _say(error=f"the bus did not take everything within {SENT_SECONDS:g} s")
                continue
        _say(**end.counters())
    await end.stop()


def _say(**what: object) -> None:
    print(json.dumps(what), flush=True)


async def _read() -> dict[str, Any]:
    """The next thing to do; nothing when there is no more."""
    line = await asyncio.to_thread(sys.stdin.readline)
    return dict(json.loads(line)) if line else {}


if __name__ == "__main__":
    uvloop.run(_serve())
