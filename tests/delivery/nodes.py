"""The nodes of one run: processes on free ports, told what to do by their input and ended by their ids."""

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.servers import free_port

ROOT = Path(__file__).parent.parent.parent
START_SECONDS = 30
ANSWER_SECONDS = 10

Counts = list[dict[str, int]]


class NodeProcess:
    """A process with one node, or with several. `kill` and `start` may follow each other."""

    def __init__(self, folder: Path, *, nodes: int = 1, seed: str, **settings: str) -> None:
        folder.mkdir()
        self.log = folder / "log"
        self.places = [Place(self, number, free_port()) for number in range(nodes)]
        self.is_up = False
        self.before: Counter[str] = Counter()
        """What those had counted that were killed."""
        given = {"rate_limit": "0", "log_format": "json", **settings}
        self._folder = folder
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")},
            **{f"PARLEY_{name.upper()}": value for name, value in given.items()},
            "FLAKY_PORTS": ",".join(str(place.port) for place in self.places),
            "FLAKY_SEED": seed,
            "PYTHONPATH": str(ROOT),
        }
        self._process: Process | None = None
        self._saying = asyncio.Lock()

    async def start(self) -> None:
        """Start, and return when it answers."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.delivery.flaky_node"),
                cwd=self._folder,
                env=self._environment,
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not all([await place.answers() for place in self.places]):
            if self._process.returncode is not None or time.monotonic() > deadline:
                await self.end()
                raise AssertionError(f"a node did not start:\n{self.log.read_text()[-3000:]}")
            await asyncio.sleep(0.05)
        self.is_up = True

    async def say(self, line: str) -> Counts:
        """Tell it something; it answers with the counts of its nodes."""
        async with self._saying, asyncio.timeout(ANSWER_SECONDS):
            assert self._process is not None
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(line.encode() + b"\n")
            answer = await self._process.stdout.readline()
        assert answer, f"a node ended by itself:\n{self.log.read_text()[-3000:]}"
        counts: Counts = json.loads(answer)
        return counts

    async def kill(self) -> None:
        """End it as a power cut would."""
        for counts in await self.say("counts"):
            self.before.update(counts)
        self.is_up = False
        await self.end()

    async def end(self) -> None:
        """End it, if it has not ended yet."""
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.communicate()


class Place:
    """Where one node is."""

    def __init__(self, process: NodeProcess, number: int, port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.ws = f"ws://127.0.0.1:{port}/ws"
        self._number = number

    async def answers(self) -> bool:
        """Whether it is ready."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = await reader.read(64)
            writer.close()
        except OSError:
            return False
        return b" 200 " in answer

    async def cut(self) -> None:
        """Take it off the bus, but not off the store."""
        await self.process.say(f"cut {self._number}")

    async def mend(self) -> None:
        await self.process.say(f"mend {self._number}")


class Nodes(Sequence[Place]):
    """All nodes of a run."""

    def __init__(self, processes: list[NodeProcess]) -> None:
        self.processes = processes
        self._places = [place for process in processes for place in process.places]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        return self._places[index]

    def __iter__(self) -> Iterator[Place]:
        return iter(self._places)

    async def start(self) -> None:
        """The first one alone, because it may have to make tables; then the others."""
        first, *others = self.processes
        await first.start()
        await asyncio.gather(*(process.start() for process in others))

    async def counts(self) -> Counts:
        """What each node that is up has counted."""
        return [each for process in self.processes if process.is_up for each in await process.say("counts")]

    async def lose_all(self) -> None:
        """From now on let every hint be lost, without a sign of it."""
        for process in self.processes:
            await process.say("lose")

    async def total(self, name: str) -> int:
        """What all nodes have counted together, the killed ones too."""
        before = sum(process.before[name] for process in self.processes)
        return before + sum(each[name] for each in await self.counts())

    async def are_on_the_bus(self) -> bool:
        return all(each["healthy"] for each in await self.counts())

    async def end(self) -> None:
        for process in self.processes:
            await process.end()
