"""CPU that a bus takes for an event, on the end that publishes and on one that receives."""

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from parley.bench.target import CORES
from parley.bench.wire import SCHEME
from parley.errors import StartError
from parley.ids import new_id

TOGETHER = (1, 8, 32, 128)
"""Events of one room in one turn of the loop."""
WARM_TICKS = 200
IDLE_SECONDS = 2.0
HEARD_SECONDS = 10.0


class End:
    """One end of a bus in a process of its own, on a core of its own where there are two."""

    def __init__(self, url: str, room_id: str, core: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "parley.bench.bus_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for us; it ends with its input
        )
        if len(CORES) > 1:
            os.sched_setaffinity(self._process.pid, {CORES[core % len(CORES)]})
        try:
            self.url: str = self.ask(bus=url, room_id=room_id)["url"]
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def ask(self, **what: object) -> dict[str, Any]:
        """Ask for something and wait for the answer. Raises `StartError`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise StartError("one end of the bus has died")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise StartError(answer["error"])
        return answer

    def counters(self) -> dict[str, Any]:
        return self.ask(counters=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            self._process.communicate(timeout=10)
        except (subprocess.TimeoutExpired, OSError):
            self._process.kill()
            self._process.wait()


class Pair:
    """A publisher and a receiver on one bus."""

    def __init__(self, url: str, stack: ExitStack) -> None:
        room_id = new_id()
        self.receiver, self.publisher = (stack.enter_context(End(url, room_id, core)) for core in (1, 0))

    def publish(self, together: int, ticks: int) -> dict[str, float]:
        """Publish so many events in each of so many ticks; what each end used for one. Raises `StartError`
        if they do not arrive."""
        published, received = self.publisher.counters(), self.receiver.counters()
        count = together * ticks
        sent = self.publisher.ask(publish={"together": together, "ticks": ticks})
        deadline = time.monotonic() + HEARD_SECONDS
        while (heard := self.receiver.counters())["heard"] < received["heard"] + count:
            if time.monotonic() > deadline:
                raise StartError(f"{count} events did not all arrive within {HEARD_SECONDS:g} s")
            time.sleep(0.05)
        return {
            "events_per_frame": count / (sent["frames"] - published["frames"]),
            "published_cpu_us": _cpu_us(published, sent) / count,
            "received_cpu_us": _cpu_us(received, heard) / count,
        }

    def idle_cpu_ms(self) -> float:
        """What one end uses in a second with nothing to do."""
        ends = self.publisher, self.receiver
        before = [end.counters() for end in ends]
        time.sleep(IDLE_SECONDS)
        used = [_cpu_us(was, end.counters()) for was, end in zip(before, ends, strict=True)]
        return sum(used) / len(used) / IDLE_SECONDS / 1000


def measure(url: str, ticks: int) -> dict[str, object]:
    """CPU of each end of a bus for an event, at each number of events in a tick, by turns with that of bare
    TCP; and of an idle one. Raises `StartError`."""
    with ExitStack() as stack:
        relay = stack.enter_context(End(SCHEME, "", 0))
        bus, wire = Pair(url, stack), Pair(relay.url, stack)
        for pair in (bus, wire):
            pair.publish(1, WARM_TICKS)
        events = [
            {"together": each, "bus": bus.publish(each, ticks), "tcp": wire.publish(each, ticks)}
            for each in TOGETHER
        ]
        return {"events": events, "idle_cpu_ms_per_second": bus.idle_cpu_ms()}


def _cpu_us(before: dict[str, Any], after: dict[str, Any]) -> float:
    return float(after["cpu_seconds"] - before["cpu_seconds"]) * 1e6
