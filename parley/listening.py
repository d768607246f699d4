"""The socket where a server listens."""

import socket

from parley.errors import StartError

BACKLOG = 2048
"""How many connections may wait until somebody takes them."""


def listen(host: str, port: int) -> socket.socket:
    """Listen there; port 0 is any free one. Raises `StartError`."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (")[0]
        raise StartError(
            f"cannot listen on {host}:{port}: {reason}; choose with PARLEY_HOST and PARLEY_PORT"
        ) from None


def url_of(listening: socket.socket) -> str:
    """Where it is reached."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
