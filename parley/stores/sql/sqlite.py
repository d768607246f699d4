"""An SQLite file, and how steps run on it: one transaction each, in a thread, within a deadline.

There is one writer, one reader and one that searches, each with its own connection; in WAL mode
reading goes on while a commit waits for the disk. A step is a plain function of a `Connection`. It stays
in its thread from beginning to end, because changing threads costs more than most statements.
"""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from parley.errors import InternalError, ParleyError, SearchTooBroad, StoreUnavailable
from parley.models import Applied, Change
from parley.stores.sql import append, database
from parley.stores.sql.database import RETRY_AFTER_SECONDS
from parley.stores.sql.file import OpenFile, open_file

P = ParamSpec("P")
T = TypeVar("T")

_UNFIT = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)
"""The driver's errors about what it was given. After all others the same may work later."""

_INSTRUCTIONS = 10_000
"""Of SQLite's virtual machine, between two looks at the clock: well under a millisecond."""

log = structlog.get_logger()


class SqliteDatabase:
    """One SQLite file, opened by one process at a time."""

    def __init__(self, path: str, synchronous: str) -> None:
        self._path = path
        self._synchronous = synchronous
        self._file: OpenFile | None = None
        self._writer: Lane | None = None
        self._reader: Lane | None = None
        self._searcher: Lane | None = None

    async def open(self) -> None:
        """Lock the file, bring its schema up to date and start the threads. Raises `StartError`."""
        self._file = await asyncio.to_thread(open_file, self._path, self._synchronous)
        # IMMEDIATE takes the write lock at once; taken later, it could fail halfway.
        self._writer = Lane("parley-writer", self._file.writer, "BEGIN IMMEDIATE")
        self._reader = Lane("parley-reader", self._file.reader, "BEGIN")
        self._searcher = Lane("parley-searcher", self._file.searcher, "BEGIN")

    async def migrate(self) -> str | None:
        file = await asyncio.to_thread(open_file, self._path, self._synchronous)
        file.writer.close()
        file.reader.close()
        file.searcher.close()
        file.release()
        return file.found

    async def close(self) -> None:
        """Finish the steps under way, then let go of the file."""
        lanes = [lane for lane in (self._searcher, self._reader, self._writer) if lane is not None]
        self._searcher = self._reader = self._writer = None
        ended = [await lane.close() for lane in lanes]
        if self._file is not None and all(ended):
            self._file.release()
            self._file = None

    async def write(
        self, step: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a step that writes. What it wrote is durable when this returns."""
        return await _running(self._writer).run(lambda connection: step(connection, *args, **kwargs))

    async def read(
        self, step: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a step that only reads: one moment, with everything that was written before."""
        return await _running(self._reader).run(lambda connection: step(connection, *args, **kwargs))

    async def search(
        self, step: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a step that may read a lot, while others read. Raises `SearchTooBroad`."""
        return await _running(self._searcher).run(
            _bounded(lambda connection: step(connection, *args, **kwargs))
        )

    async def apply(self, changes: Sequence[Change]) -> list[Applied | ParleyError]:
        return await self.write(append.apply, changes)


class Lane:
    """One thread with one connection, which runs steps in the order in which they came."""

    def __init__(self, name: str, connection: Connection, begin: str) -> None:
        self._connection = connection
        self._begin = begin
        self._steps: SimpleQueue[tuple[Callable[[Connection], Any], Future[Any]] | None] = SimpleQueue()
        # A daemon, so that a disk that hangs cannot keep the process from ending.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, step: Callable[[Connection], T]) -> T:
        """Run a step as one transaction. Raises what it raises, and `StoreUnavailable`."""
        if self._steps.qsize() >= database.MAX_WAITING_STEPS:
            raise StoreUnavailable(retry_after=RETRY_AFTER_SECONDS)
        future: Future[T] = Future()
        self._steps.put((step, future))
        try:
            async with asyncio.timeout(database.DEADLINE_SECONDS):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            # A step that was still waiting is called off. One that has begun goes on, and nobody
            # will hear whether it took effect: that is why messages have ids and may be sent again.
            raise StoreUnavailable(retry_after=RETRY_AFTER_SECONDS) from None

    async def close(self) -> bool:
        """End the thread after the steps that it has; False if it misses the deadline."""
        self._steps.put(None)
        await asyncio.to_thread(self._thread.join, database.DEADLINE_SECONDS)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while self._settle(self._steps.get()):
            pass
        self._connection.close()

    def _settle(self, item: tuple[Callable[[Connection], Any], Future[Any]] | None) -> bool:
        if item is None:
            return False
        step, future = item
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(self._transact(step))
            except BaseException as error:
                future.set_exception(error)
        return True

    def _transact(self, step: Callable[[Connection], T]) -> T:
        with translated():
            try:
                with self._connection.begin():
                    self._connection.exec_driver_sql(self._begin)
                    return step(self._connection)
            finally:
                # A commit that fails may leave its transaction open: the next could not begin.
                driver = self._connection.connection.driver_connection
                if isinstance(driver, sqlite3.Connection) and driver.in_transaction:
                    driver.rollback()


def _bounded(step: Callable[[Connection], T]) -> Callable[[Connection], T]:
    """The step, given up when it takes too long."""

    def run(connection: Connection) -> T:
        driver = cast(sqlite3.Connection, connection.connection.driver_connection)
        end = time.monotonic() + database.SEARCH_SECONDS
        driver.set_progress_handler(lambda: time.monotonic() > end, _INSTRUCTIONS)
        try:
            return step(connection)
        finally:
            driver.set_progress_handler(None, 0)

    return run


@contextmanager
def translated() -> Iterator[None]:
    """The one place where the driver's errors, and our own faults, become those of `errors`."""
    try:
        yield
    except ParleyError:
        raise
    except Exception as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if getattr(cause, "sqlite_errorname", "") == "SQLITE_INTERRUPT":
            raise SearchTooBroad from error
        if isinstance(cause, sqlite3.Error) and not isinstance(cause, _UNFIT):
            log.warning("the database does not answer", error=str(cause))
            raise StoreUnavailable(retry_after=RETRY_AFTER_SECONDS) from error
        log.exception("a step of the store failed")
        raise InternalError from error


def _running(lane: Lane | None) -> Lane:
    if lane is None:
        raise StoreUnavailable("The store is closed.")
    return lane
