"""How `parley serve` runs: uvicorn around one node, with a start and a stop that say what they do."""

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType

import structlog
import uvicorn
import uvloop

from parley.app import node_from
from parley.config import Settings, masked
from parley.listening import BACKLOG, listen, url_of
from parley.node import Node
from parley.realtime.transport import PING_SECONDS, PONG_SECONDS
from parley.web import app as web

MAX_FRAME_BYTES = 256 * 1024
"""The largest frame that a client may send."""

log = structlog.get_logger()


class Server(uvicorn.Server):
    """Uvicorn, with the node's own way to end: what was acknowledged is safe, and clients are told to come
    back."""

    title = "parley"
    """What ends, in the log."""

    def __init__(self, node: Node) -> None:
        super().__init__(_config(node))
        self._node = node
        self._ready: Callable[[], None] = lambda: None
        self.failed = False
        node.on_death = self._give_up

    async def serve_on(self, listening: socket.socket, ready: Callable[[], None]) -> int:
        """Start the node, serve until a signal says otherwise, stop the node; the exit code.

        `ready` is called once connections and signals are taken. The socket is closed at the end. Raises
        `StartError`.
        """
        self._ready = ready
        try:
            await self._node.start()
            collect_rarely()
            _allow_many_connections()
            await self.serve([listening])
        finally:
            listening.close()
            await self._node.stop()
        return 1 if self.failed else 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log.info(f"{self.title} is stopping")
        for listening in (*self.servers, *(sockets or ())):
            listening.close()
        until = asyncio.get_running_loop().time() + self._node.settings.drain_seconds
        await self._node.drain()
        # Each client is given the time to hear why it is sent away.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                while self.server_state.tasks and not self.force_exit:
                    await asyncio.sleep(0.02)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGINT and SIGTERM, and let that be the end of it: uvicorn would raise them again."""
        signals = signal.SIGINT, signal.SIGTERM
        before = [(each, signal.signal(each, self.handle_exit)) for each in signals]
        try:
            yield
        finally:
            for each, handler in before:
                signal.signal(each, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal asks to stop, the second ends it at once; what was acknowledged is stored."""
        if self.should_exit:
            os._exit(128 + sig)
        self.should_exit = True

    def _give_up(self, task: str) -> None:
        # Rather stop than go on without a part; a supervisor starts us anew.
        self.failed = True
        self.should_exit = True


def serve(settings: Settings) -> int:
    """Serve until a signal says otherwise; return the exit code. Raises `StartError`."""
    return uvloop.run(run(node_from(settings)))


def _allow_many_connections() -> None:
    """Take all the open files that the system lets a process have; each connection is one."""
    with contextlib.suppress(OSError, ValueError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def run(node: Node) -> int:
    """Listen, start a node, serve it until a signal says otherwise, stop it. Raises `StartError`."""
    listening = listen(node.settings.host, node.settings.port)
    url, store = url_of(listening), masked(node.settings.store)
    code = await Server(node).serve_on(listening, lambda: log.info("parley is ready", url=url, store=store))
    log.info("parley has stopped")
    return code


def _config(node: Node) -> uvicorn.Config:
    return uvicorn.Config(
        web.create(node),
        log_config=None,
        access_log=False,
        lifespan="off",
        backlog=BACKLOG,
        ws="websockets-sansio",
        ws_max_size=MAX_FRAME_BYTES,
        ws_per_message_deflate=False,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PONG_SECONDS,
        timeout_graceful_shutdown=max(1, round(node.settings.drain_seconds)),
        server_header=False,
    )


def collect_rarely() -> None:
    """Let the garbage collector leave alone what the start has made, and look for cycles now and then only.

    Nothing that is made for a message lies in a cycle; looking for some took a seventh of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
