"""A PostgreSQL server: how to connect to it, and in one line why it does not work."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from parley.errors import StartError
from parley.security import masked

CONNECT_SECONDS = 4.0
"""How long connecting may take."""

COMMAND_SECONDS = 8.0
"""How long a statement may take; a caller is told before the deadline of its step."""

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

_REASONS = {
    "08P01": "it does not speak as PostgreSQL does; check host and port",
    "28": "it refuses that user or password; check both",
    "3D000": "there is no such database; make it with createdb",
    "42501": "that user may not make or change its tables; make it their owner, and that of the database",
    "53300": "it has too many connections already; raise max_connections",
    "57P03": "it is starting or stopping; try again in a moment",
    "25006": "it is read-only; name the primary server",
}
"""By SQLSTATE, or by the class that it begins with."""

_OF_THE_DRIVER = (asyncpg.InterfaceError, asyncpg.InternalClientError)


class Server:
    """Where a database is and how to get in. Raises `StartError` for a URL that makes no sense."""

    def __init__(self, url: URL) -> None:
        self.name = masked(url.render_as_string(hide_password=True))
        if not url.host or not url.database:
            raise self.refusal("write postgresql://user:password@host/database")
        ssl = url.query.get("sslmode", "prefer")
        if set(url.query) - {"sslmode"} or ssl not in SSL_MODES:
            raise self.refusal(f"after ? only sslmode may follow, one of {', '.join(SSL_MODES)}")
        self._options: dict[str, Any] = {
            "host": url.host,
            "port": url.port or 5432,
            "user": url.username,
            "password": url.password,
            "database": url.database,
            "ssl": ssl,
        }

    async def connect(self) -> asyncpg.Connection:
        """A new connection. Raises the driver's errors."""
        return await asyncpg.connect(
            **self._options,
            timeout=CONNECT_SECONDS,
            command_timeout=COMMAND_SECONDS,
            # Whoever were connected to a standby would stay there when the address leads elsewhere again.
            target_session_attrs="read-write",
            server_settings={
                "application_name": "parley",
                # A plan that is kept may be one that was made for empty tables.
                "plan_cache_mode": "force_custom_plan",
                # Everything read here is a short stretch in the order of an index.
                "enable_bitmapscan": "off",
                # A node that hangs in a transaction must not keep its rooms locked.
                "idle_in_transaction_session_timeout": f"{COMMAND_SECONDS:.0f}s",
            },
        )

    def refusal(self, reason: str) -> StartError:
        return StartError(f"cannot use {self.name}: {reason}")

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what goes wrong at the start into `StartError`."""
        try:
            yield
        except StartError as error:
            raise self.refusal(str(error)) from None
        except (SQLAlchemyError, asyncpg.PostgresError, *_OF_THE_DRIVER, OSError) as error:
            raise self.refusal(_reason(cause_of(error))) from error


def cause_of(error: BaseException) -> BaseException:
    """The driver's own error inside what SQLAlchemy made of it."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


def _reason(cause: BaseException) -> str:
    if isinstance(cause, asyncpg.TargetServerAttributeNotMatched):
        return _REASONS["25006"]
    state = getattr(cause, "sqlstate", None) or ""
    for start, reason in _REASONS.items():
        if state.startswith(start):
            return reason
    if isinstance(cause, TimeoutError):
        return "it does not answer; check host and port"
    if isinstance(cause, socket.gaierror):
        return "there is no such host; check its name"
    if isinstance(cause, ConnectionError) and "SSL" in str(cause):
        return "it takes no TLS; write sslmode=disable, or switch TLS on there"
    if isinstance(cause, OSError):
        return "nobody answers there; start the server, or check host and port"
    return " ".join(str(cause).split()) or type(cause).__name__
