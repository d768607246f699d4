"""Opening an SQLite file: lock it, bring it up to date and connect; or say in one line why not."""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection, NullPool, create_engine
from sqlalchemy.exc import DBAPIError

from parley.errors import StartError
from parley.stores.sql import migrate

BUSY_SECONDS = 5.0
"""How long a transaction waits for another program that is writing to the file."""

log = structlog.get_logger()

_PRAGMAS = (
    "journal_mode = WAL",
    "temp_store = MEMORY",
    # In KiB, when negative.
    "cache_size = -16384",
    # In pages of 4 KiB. A checkpoint writes a page once, however often the log has it.
    "wal_autocheckpoint = 4096",
    # In bytes: what the log is cut back to after a burst.
    "journal_size_limit = 67108864",
)

_REMEDIES = {
    "SQLITE_NOTADB": "it is not an SQLite database; name another file",
    "SQLITE_BUSY": "another program is writing to it; stop that one",
    "SQLITE_READONLY": "it may not be written; change its permissions or name another file",
    "SQLITE_CORRUPT": "it is damaged; restore a backup or name another file",
}


@dataclass(frozen=True)
class OpenFile:
    """Three connections to one file, and the lock that keeps other processes out until `release`.

    `found` is the revision of the schema that it had before; None if it was empty.
    """

    writer: Connection
    reader: Connection
    searcher: Connection
    lock: int
    found: str | None

    def release(self) -> None:
        os.close(self.lock)


def open_file(path: str, synchronous: str) -> OpenFile:
    """Open the file, which is made if it is not there. Raises `StartError`."""
    with _explained(path), ExitStack() as undo:
        lock = _lock(os.path.realpath(path))
        undo.callback(os.close, lock)
        # Nobody else's business: it holds the key that signs the tokens.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        # Parameters are hidden because errors are logged and texts must not be.
        engine = create_engine(
            "sqlite://", creator=lambda: _connect(path), poolclass=NullPool, hide_parameters=True
        )
        writer = engine.connect()
        undo.callback(writer.close)
        with writer.begin():
            writer.exec_driver_sql("BEGIN IMMEDIATE")
            found = migrate.upgrade(writer)
        reader, searcher = engine.connect(), engine.connect()
        undo.callback(reader.close)
        undo.callback(searcher.close)
        # Only now, because some migrations must rebuild tables that others refer to.
        _pragmas(writer, f"synchronous = {synchronous}", "foreign_keys = ON")
        _pragmas(reader, "query_only = ON")
        _pragmas(searcher, "query_only = ON")
        undo.pop_all()
        return OpenFile(writer, reader, searcher, lock, found)


@contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except StartError as error:
        raise StartError(f"cannot use {path}: {error}") from None
    except FileNotFoundError:
        raise StartError(f"cannot use {path}: its directory does not exist; make it first") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StartError(f"cannot use {path}: {reason}; name a file that this user may write") from None
    except (DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        code = getattr(cause, "sqlite_errorname", "")
        remedy = next((text for start, text in _REMEDIES.items() if code.startswith(start)), None)
        raise StartError(f"cannot use {path}: {remedy or f'{cause}; check the disk'}") from error


def _lock(path: str) -> int:
    """Lock a file beside the database. The system lets go of it when the process ends, in any way.

    Not the database itself: a process that closes that file loses the locks that SQLite has on it.
    """
    lock = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise StartError(
            "it is in use by another parley, and belongs to one at a time; stop that one, name another file, "
            "or let several share a store postgresql:// or redis://"
        ) from None
    except OSError as error:
        # Some file systems know no locks, which is no reason not to run.
        log.warning("the file cannot be locked; let no other parley use it", path=path, reason=error.strerror)
    return lock


def _connect(path: str) -> sqlite3.Connection:
    # No isolation level: the driver must not begin transactions of its own accord. The threads may
    # differ, because a connection is opened in one and used in another, never in two at once.
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _pragmas(connection: Connection, *pragmas: str) -> None:
    with connection.begin():
        for pragma in pragmas:
            connection.exec_driver_sql(f"PRAGMA {pragma}")
