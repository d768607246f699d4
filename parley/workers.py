"""`parley serve --workers N`: one process that listens, and N others that serve what comes in there.

Each worker is a whole node. All accept from the same socket, and what waits in its queue waits for whoever
comes next. Parent and worker hold the two ends of a channel. Through it the worker learns its settings and
says that it is ready; when it ends, because the parent stops or was killed, the worker drains and ends too.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from dataclasses import dataclass

import structlog

from parley import config
from parley.config import Settings
from parley.errors import StartError
from parley.listening import listen, url_of

START_SECONDS = 120.0
"""How long a worker may take until it is ready."""
FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""A worker that served for so long did not fail at its start: the next pause is the first one again."""
KILL_SECONDS = 2.0
"""How long the system may take to end what was killed."""

log = structlog.get_logger()


def serve(settings: Settings) -> int:
    """Serve with several workers until a signal says otherwise; return the exit code. Raises `StartError`."""
    with listen(settings.host, settings.port) as listening:
        return asyncio.run(Workers(settings, listening).run())


def stop_seconds(settings: Settings) -> float:
    """How long a stop may take at most: its steps each have the drain time, and the store some more."""
    return 3 * settings.drain_seconds + 15


@dataclass
class Worker:
    """A worker as its parent sees it."""

    process: Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    ready_at: float | None = None

    async def problem(self) -> str | None:
        """Wait until it is ready; why it is not, if so."""
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await self.reader.readline()
        except TimeoutError:
            return f"a worker was not ready after {START_SECONDS:.0f} s; look at what it logs"
        except OSError:
            line = b""
        if not line:
            return "a worker ended before it was ready; look at what it wrote"
        reason: str | None = json.loads(line)
        return reason

    def stop(self) -> None:
        self.writer.close()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()


class Workers:
    """All workers of one parent. `run` runs once."""

    def __init__(self, settings: Settings, listening: socket.socket) -> None:
        self._settings = settings
        self._listening = listening
        self._workers: dict[int, Worker] = {}
        self._stopping = asyncio.Event()
        self._signal = 0

    async def run(self) -> int:
        """Start the workers, replace those that end, and at a signal end all. Raises `StartError`."""
        loop = asyncio.get_running_loop()
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, self._signalled, each)
        tending = asyncio.create_task(self._tend())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([tending, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not self._stopping.is_set():
                tending.result()  # which raises why
            log.info("parley is stopping")
        finally:
            tending.cancel()
            stopping.cancel()
            await asyncio.gather(tending, stopping, return_exceptions=True)
            clean = await self._end()
        if self._signal:
            return 128 + self._signal
        log.info("parley has stopped")
        return 0 if clean else 1

    def _signalled(self, number: int) -> None:
        """The first signal asks to stop, the second ends it at once; what was acknowledged is stored."""
        if not self._stopping.is_set():
            self._stopping.set()
            return
        self._signal = number
        for worker in self._workers.values():
            worker.kill()
        asyncio.get_running_loop().call_later(KILL_SECONDS, os._exit, 128 + number)

    async def _tend(self) -> None:
        # One alone, so that what is wrong is found once, and what is missing is made once.
        await self._start(1)
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(2, self._settings.workers + 1):
                    group.create_task(self._start(number))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        url, store = url_of(self._listening), config.masked(self._settings.store)
        log.info("parley is ready", url=url, store=store, workers=self._settings.workers)
        async with asyncio.TaskGroup() as group:
            for number in self._workers:
                group.create_task(self._keep(number))

    async def _start(self, number: int) -> None:
        """Start a worker, and return when it is ready. Raises `StartError`."""
        worker = self._workers[number] = await self._spawn(number)
        problem = await worker.problem()
        if problem is not None:
            worker.stop()
            worker.kill()
            await worker.process.wait()
            raise StartError(problem)
        worker.ready_at = time.monotonic()
        log.info("a worker is ready", worker=number, pid=worker.process.pid)

    async def _spawn(self, number: int) -> Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_connection(sock=ours)
            handed = self._listening.fileno(), theirs.fileno()
            command = [sys.executable, "-P", "-m", "parley.worker", *map(str, (number, *handed))]
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    pass_fds=handed,
                    # The same modules as here.
                    env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                    stdin=DEVNULL,
                    # Ctrl-C at a terminal is for the parent alone.
                    process_group=0,
                )
            except BaseException as error:
                writer.close()
                if isinstance(error, OSError):
                    raise StartError(f"cannot start a worker: {error.strerror}") from None
                raise
        writer.write(config.packed(self._settings).encode() + b"\n")
        return Worker(process, reader, writer)

    async def _keep(self, number: int) -> None:
        """Replace a worker whenever it ends, the slower the more often."""
        failures = 0
        while True:
            served_seconds = await self._served(number)
            failures = 1 if served_seconds >= STEADY_SECONDS else failures + 1
            pause_seconds = pause(failures)
            log.info("a worker will be replaced", worker=number, in_seconds=round(pause_seconds, 1))
            await asyncio.sleep(pause_seconds)
            try:
                await self._start(number)
            except StartError as error:
                log.error("a worker cannot start", worker=number, reason=str(error))

    async def _served(self, number: int) -> float:
        """Wait until a worker has ended; for how many seconds it was ready."""
        worker = self._workers[number]
        code = await worker.process.wait()
        worker.stop()
        if worker.ready_at is None:
            return 0
        log.warning("a worker has ended", worker=number, pid=worker.process.pid, exit_code=code)
        served_seconds = time.monotonic() - worker.ready_at
        worker.ready_at = None  # it is looked at again if no other can take its place
        return served_seconds

    async def _end(self) -> bool:
        """End all workers; whether each ended well and in time."""
        running = [each for each in self._workers.values() if each.process.returncode is None]
        ends = [asyncio.create_task(each.process.wait()) for each in running]
        if not ends:
            return True
        for worker in running:
            worker.stop()
        late = (await asyncio.wait(ends, timeout=stop_seconds(self._settings)))[1]
        if late:
            log.error("workers did not stop in time and are killed", workers=len(late))
            for worker in running:
                worker.kill()
            await asyncio.wait(ends, timeout=KILL_SECONDS)
        # One that was still starting may have met the signal that stops all.
        return all(each.process.returncode in {0, -signal.SIGTERM} for each in running)


def pause(failures: int) -> float:
    """How many seconds to wait after so many failures in a row: ever longer, and never the same."""
    longest = min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 20))
    return longest * random.uniform(0.5, 1)
