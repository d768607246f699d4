"""One of several workers, as `parley.workers` starts it: `python -m parley.worker NUMBER SOCKET CHANNEL`.

It drains and ends when the parent closes its end of the channel, or is killed, which closes it too.
"""

import contextlib
import json
import math
import os
import signal
import socket
import sys
import threading
from types import FrameType

import structlog
import uvloop

from parley import config, telemetry
from parley.app import node_from
from parley.config import Settings
from parley.errors import StartError
from parley.server import Server
from parley.workers import stop_seconds


class WorkerServer(Server):
    """A server that never ends at once of its own accord: that is for its parent to say."""

    title = "a worker"

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Any signal asks to stop, however many come: the parent may get the same ones."""
        self.should_exit = True


def main() -> int:
    """Serve until the parent says otherwise; return the exit code."""
    number, *descriptors = (int(each) for each in sys.argv[1:])
    for each in descriptors:
        os.set_inheritable(each, False)
    listening, parent = (socket.socket(fileno=each) for each in descriptors)
    line = parent.makefile().readline()
    if not line:
        return 0  # it has ended already
    settings = config.unpacked(line)
    telemetry.configure(settings.log_format)
    structlog.contextvars.bind_contextvars(worker=number)
    try:
        server = WorkerServer(node_from(settings))
        threading.Thread(target=_watch, args=(parent, server, settings), daemon=True).start()
        return uvloop.run(server.serve_on(listening, lambda: _say(parent, None)))
    except StartError as error:
        _say(parent, str(error))
        return 1


def _say(parent: socket.socket, problem: str | None) -> None:
    """That it is ready, or why it is not."""
    with contextlib.suppress(OSError):
        parent.sendall(json.dumps(problem).encode() + b"\n")


def _watch(parent: socket.socket, server: Server, settings: Settings) -> None:
    """Stop the server when the channel ends.

    In a thread of its own, and with an alarm that the system rings, so that whatever hangs leaves no orphan.
    """
    with contextlib.suppress(OSError):
        while parent.recv(1024):
            pass
    if not server.started:
        os._exit(0)
    signal.alarm(math.ceil(stop_seconds(settings)))
    server.should_exit = True


if __name__ == "__main__":
    sys.exit(main())
