"""How `parley serve` runs: uvicorn around one node, with a start and a stop that say what they do."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import Iterator
from types import FrameType

import structlog
import uvicorn
import uvloop

from parley.app import node_from
from parley.config import Settings, masked
from parley.errors import StartError
from parley.node import Node
from parley.realtime.transport import PING_SECONDS, PONG_SECONDS
from parley.web import app as web

MAX_FRAME_BYTES = 256 * 1024
"""The largest frame that a client may send."""

log = structlog.get_logger()


class Server(uvicorn.Server):
    """Uvicorn, with the node's own way to end: what was acknowledged is safe, and clients are told to come
    back."""

    def __init__(self, config: uvicorn.Config, node: Node) -> None:
        super().__init__(config)
        self._node = node
        self.failed = False
        node.on_death = self._give_up

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log.info("parley is stopping")
        for listening in (*self.servers, *(sockets or ())):
            listening.close()
        await self._node.drain()
        # Each client is given the time to hear why it is sent away.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._node.settings.drain_seconds):
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


def _collect_rarely() -> None:
    """Let the garbage collector leave alone what the start has made, and look for cycles now and then only.

    Nothing that is made for a message lies in a cycle; looking for some took a seventh of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


async def run(node: Node) -> int:
    """Start a node, serve it until a signal says otherwise, stop it. Raises `StartError`."""
    settings = node.settings
    listening = _listen(settings.host, settings.port)
    config = uvicorn.Config(
        web.create(node),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="websockets-sansio",
        ws_max_size=MAX_FRAME_BYTES,
        ws_per_message_deflate=False,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PONG_SECONDS,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
        server_header=False,
    )
    server = Server(config, node)
    try:
        await node.start()
        _collect_rarely()
        host, port = listening.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        log.info("parley is ready", url=url, store=masked(settings.store))
        await server.serve([listening])
    finally:
        listening.close()
        await node.stop()
    log.info("parley has stopped")
    return 1 if server.failed else 0


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (")[0]
        raise StartError(
            f"cannot listen on {host}:{port}: {reason}; choose with PARLEY_HOST and PARLEY_PORT"
        ) from None
