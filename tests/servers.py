"""Starts the real server for tests: a process of its own on a free port, ended by its id."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import URLError
from urllib.request import urlopen

START_SECONDS = 20
LOWEST_PORT = 12_000


def free_port() -> int:
    """A port that nobody listens on.

    It is none of those that the system gives to connections: those who call a server that was killed could
    get its very port, and be connected to themselves.
    """
    while True:
        port = random.randrange(LOWEST_PORT, max(_ports_of_connections(), LOWEST_PORT + 1000))
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _ports_of_connections() -> int:
    """The first of the ports that the system gives to connections."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return 49152


class ServerProcess:
    """`parley serve` in a folder of its own. Settings are given without their prefix: `store="memory://"`."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ws = f"ws://127.0.0.1:{self.port}/ws"
        self.log = folder / "server.log"
        given = {
            "port": self.port,
            "log_format": "json",
            "rate_limit": 0,  # tests ask faster than people do; those of the limit itself set one
            "store": f"sqlite:///{folder / 'parley.db'}",
        } | settings
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")},
            **{f"PARLEY_{name.upper()}": str(value) for name, value in given.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *, before: tuple[str, ...] = ()) -> Self:
        """Start, and return when it answers. `before` is a command that runs it, such as a tracer."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*before, sys.executable, "-m", "parley", "serve"],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the server did not start:\n{self.log.read_text()}")
            time.sleep(0.02)
        return self

    def is_ready(self) -> bool:
        try:
            with urlopen(f"{self.url}/readyz", timeout=1) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def kill(self) -> None:
        """End it as a power cut would: no goodbye."""
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end, and wait for nothing."""
        assert self._process is not None
        self._process.terminate()

    def stop(self) -> int:
        """Ask it to end and return its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        if self._process is None:
            return 0
        process, self._process = self._process, None
        process.send_signal(how)
        try:
            return process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._end(signal.SIGTERM)


@asynccontextmanager
async def server(folder: Path, **settings: object) -> AsyncIterator[ServerProcess]:
    """A running server for one test."""
    process = await asyncio.to_thread(ServerProcess(folder, **settings).start)
    try:
        yield process
    finally:
        await asyncio.to_thread(process.__exit__, None, None, None)


async def until(condition: Any, seconds: float = 10, what: str = "the condition") -> None:
    """Wait until `condition()` is true, and fail after a deadline."""
    deadline = time.monotonic() + seconds
    turns = 0
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds} s")
        turns += 1
        await asyncio.sleep(0 if turns < 100 else 0.01)


class Forwarder:
    """An address that stays while the servers behind it change: what comes in goes to `port`."""

    def __init__(self, port: int) -> None:
        self.port = 0
        """Where it listens."""
        self._target = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    def switch(self, port: int, *, cut: bool = True) -> None:
        """From now on lead to that port. `cut` ends the connections that lead elsewhere."""
        self._target = port
        if cut:
            for writer in self._writers:
                writer.transport.abort()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            ends.append(back)
            self._writers.update(ends)
            ways = [asyncio.create_task(_copy(reader, back)), asyncio.create_task(_copy(there, writer))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
        except OSError:
            pass  # nobody is there, which the caller learns by the end of the connection
        finally:
            for end in ends:
                self._writers.discard(end)
                end.transport.abort()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.switch(self._target)
        await self._server.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while some := await reader.read(65536):
            writer.write(some)
            await writer.drain()
    except OSError:
        pass
