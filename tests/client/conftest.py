"""A running server, and consoles as processes of their own."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.servers import ServerProcess, server

SECONDS = 30
CHAT = [sys.executable, "-W", "error", "-m", "parley", "chat"]


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server that keeps what it is told in a file."""
    async with server(tmp_path) as process:
        yield process


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Come back and try again at once."""
    monkeypatch.setattr("parley.client.backoff.random.uniform", lambda low, high: 0.0)


class Console:
    """`parley chat` in plain mode, between pipes."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def write(self, *lines: str) -> None:
        """Type lines into it."""
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{line}\n" for line in lines).encode())
        await self.process.stdin.drain()

    async def read(self, count: int = 1) -> list[str]:
        """The next lines that it prints."""
        assert self.process.stdout is not None
        async with asyncio.timeout(SECONDS):
            return [(await self.process.stdout.readline()).decode().removesuffix("\n") for _ in range(count)]

    async def complaint(self) -> str:
        """The next line on its standard error."""
        assert self.process.stderr is not None
        async with asyncio.timeout(SECONDS):
            return (await self.process.stderr.readline()).decode().removesuffix("\n")

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    async def end(self) -> tuple[int, list[str], list[str]]:
        """Close its input and wait for its end: exit code, what else it printed, its complaints."""
        async with asyncio.timeout(SECONDS):
            printed, complained = await self.process.communicate(b"")
        assert self.process.returncode is not None
        return self.process.returncode, printed.decode().splitlines(), complained.decode().splitlines()


OpenConsole = Callable[[str, str, str], Awaitable[Console]]


@pytest.fixture
async def console() -> AsyncIterator[OpenConsole]:
    """Opens consoles and ends those that are still there."""
    opened: list[Process] = []

    async def open_console(name: str, room: str, url: str) -> Console:
        process = await asyncio.create_subprocess_exec(
            *(*CHAT, name, room, "--server", url, "--plain"),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        opened.append(process)
        return Console(process)

    yield open_console
    for process in opened:
        if process.returncode is None:
            process.kill()
        await process.communicate(b"")
