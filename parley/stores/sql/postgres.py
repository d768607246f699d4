"""A PostgreSQL database, and how steps run on it: one transaction each, on a pool, within a deadline.

Many nodes may share it. Steps that change a room lock its row first, and rooms in the order of their ids,
so that a step sees what was committed before it and nobody waits in a circle. A server that goes away is
`StoreUnavailable` until it is back; nothing has to be restarted.
"""

import asyncio
from asyncio import Task
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

import asyncpg
import structlog
from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from parley.errors import InternalError, ParleyError, SearchTooBroad, StoreUnavailable
from parley.models import Applied, Change
from parley.stores.sql import append_postgres, database, migrate
from parley.stores.sql.database import RETRY_AFTER_SECONDS
from parley.stores.sql.server import Server, cause_of

P = ParamSpec("P")
T = TypeVar("T")

POOL_SIZE = 8
"""Connections for steps; the append has one more. A server takes 100 unless told otherwise."""

ATTEMPTS = 4
"""How often a transaction is tried that the server gave up in favour of another."""

_UNFIT = ("22", "23", "42")
"""The classes of SQLSTATE about what the server was given. After all others the same may work later."""

_GIVEN_UP = {"40001", "40P01"}
"""Serialization failure and deadlock: nothing was done, and the same may work at once."""

_CANCELLED = "57014"
"""The server ended a statement because of a timeout."""

_DRIVER_ERRORS = (
    DBAPIError,
    PoolTimeout,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
    EOFError,
)

log = structlog.get_logger()


class PostgresDatabase:
    """One database of a PostgreSQL server. Keeps the promises of `Database`."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._engine: AsyncEngine | None = None
        self._appender: asyncpg.Connection | None = None
        self._appending = asyncio.Lock()
        self._running: set[Task[Any]] = set()

    async def open(self) -> None:
        engine = self._new_engine()
        try:
            with self._server.explained():
                async with engine.begin() as connection:
                    await connection.run_sync(migrate.prepare)
        except BaseException:
            await engine.dispose()
            raise
        self._engine = engine

    async def migrate(self) -> str | None:
        engine = self._new_engine()
        try:
            with self._server.explained():
                async with engine.begin() as connection:
                    return await connection.run_sync(migrate.upgrade)
        finally:
            await engine.dispose()

    async def close(self) -> None:
        engine, self._engine = self._engine, None
        if self._running:
            await asyncio.wait(self._running, timeout=database.DEADLINE_SECONDS)
        if self._appender is not None:
            self._appender.terminate()
            self._appender = None
        if engine is not None:
            await engine.dispose()

    async def write(
        self, step: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        engine = self._open_engine()

        async def transact() -> T:
            async with engine.begin() as connection:
                return await connection.run_sync(step, *args, **kwargs)

        return await self._run(lambda: _retried(transact))

    async def read(
        self, step: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._run(lambda: self._look(step, *args, **kwargs))

    async def _look(
        self, step: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        async with self._open_engine().connect() as connection:
            # Otherwise each statement would see a moment of its own.
            moment = await connection.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            return await moment.run_sync(step, *args, **kwargs)

    async def search(
        self, step: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        def look(connection: Connection) -> T:
            # The index of words can be read in no other way.
            connection.exec_driver_sql("SET LOCAL enable_bitmapscan = on")
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {database.SEARCH_SECONDS * 1000:.0f}")
            return step(connection, *args, **kwargs)

        return await self._run(lambda: _told_if_cancelled(self._look(look)))

    async def apply(self, changes: Sequence[Change]) -> list[Applied | ParleyError]:
        self._open_engine()
        return await self._run(lambda: self._append(changes))

    async def _append(self, changes: Sequence[Change]) -> list[Applied | ParleyError]:
        # One at a time: batches of one node meet in the same rooms and would wait there instead.
        async with self._appending:
            if self._appender is None or self._appender.is_closed():
                self._appender = await self._server.connect()
            connection = self._appender
            try:
                return await _retried(lambda: append_postgres.apply(connection, changes))
            except asyncpg.PostgresError:
                raise
            except BaseException:
                # Nobody knows what the server is doing with it.
                connection.terminate()
                raise

    async def _run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run within the deadline. Work that misses it is called off, and nobody will hear whether it
        took effect: that is why messages have ids and may be sent again."""
        if len(self._running) >= database.MAX_WAITING_STEPS:
            raise StoreUnavailable(retry_after=RETRY_AFTER_SECONDS)
        task = asyncio.create_task(_translated(work))
        self._running.add(task)
        task.add_done_callback(self._ended)
        # Not `timeout`, which waits for the end of what it has cancelled.
        await asyncio.wait({task}, timeout=database.DEADLINE_SECONDS)
        if not task.done():
            task.cancel()
            log.warning("the database does not answer", error="deadline")
            raise StoreUnavailable(retry_after=RETRY_AFTER_SECONDS)
        return task.result()

    def _ended(self, task: Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited has it, or has gone

    def _open_engine(self) -> AsyncEngine:
        if self._engine is None:
            raise StoreUnavailable("The store is closed.")
        return self._engine

    def _new_engine(self) -> AsyncEngine:
        # Parameters are hidden because errors are logged and texts must not be.
        engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._server.connect,
            pool_size=POOL_SIZE,
            max_overflow=0,
            pool_timeout=database.DEADLINE_SECONDS,
            pool_use_lifo=True,
            hide_parameters=True,
        )
        event.listen(engine.sync_engine, "checkout", _check)
        return engine


def _check(connection: Any, *_: object) -> None:
    """Have a connection replaced that has ended while nobody used it, such as by the server's restart."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


async def _retried(transact: Callable[[], Coroutine[Any, Any, T]]) -> T:
    for attempt in range(1, ATTEMPTS):
        try:
            return await transact()
        except (DBAPIError, asyncpg.PostgresError) as error:
            if _state(cause_of(error)) not in _GIVEN_UP:
                raise
            log.warning("a transaction is tried again", attempt=attempt)
            await asyncio.sleep(0.01 * attempt)
    return await transact()


async def _told_if_cancelled(looking: Coroutine[Any, Any, T]) -> T:
    """A search that the server ended because it took too long. Raises `SearchTooBroad`."""
    try:
        return await looking
    except DBAPIError as error:
        if _state(cause_of(error)) == _CANCELLED:
            raise SearchTooBroad from None
        raise


async def _translated(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    with translated():
        return await work()


@contextmanager
def translated() -> Iterator[None]:
    """The one place where the driver's errors, and our own faults, become those of `errors`."""
    try:
        yield
    except ParleyError:
        raise
    except _DRIVER_ERRORS as error:
        cause = cause_of(error)
        if _is_fault(cause):
            log.error("a step of the store failed", **_described(cause))
            raise InternalError from None
        log.warning("the database does not answer", **_described(cause))
        raise StoreUnavailable(retry_after=RETRY_AFTER_SECONDS) from None
    except Exception as error:
        log.exception("a step of the store failed")
        raise InternalError from error


def _is_fault(cause: BaseException) -> bool:
    return _state(cause).startswith(_UNFIT)


def _state(cause: BaseException) -> str:
    return getattr(cause, "sqlstate", None) or ""


def _described(cause: BaseException) -> dict[str, str]:
    """An error for the log, without its details, in which the server and the driver repeat values."""
    said = {"error": type(cause).__name__}
    if not isinstance(cause, asyncpg.PostgresError):
        return said | {"message": str(cause)}
    # The driver itself raises a bare DataError, and its message is what it was given.
    message = cause.args[0] if cause.args and type(cause) is not asyncpg.DataError else ""
    return said | {"state": _state(cause), "message": str(message)}
