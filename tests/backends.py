"""Private servers for the tests, from the system's packages: started when first asked for, one of each,
ended by their ids with the test run."""

import asyncio
import atexit
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
from sqlalchemy import URL, make_url

from parley.stores.sql import SqlStore
from tests.servers import free_port

T = TypeVar("T")

PASSWORD = "a pass:word/with @ signs"  # everything that a URL must escape


class Postgres:
    """A PostgreSQL server: our own, or the one that PARLEY_TEST_POSTGRESQL names."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self._run = secrets.token_hex(4)
        self._count = 0
        self.shared: str | None = None
        self._last: object = None

    def address(self, database: str) -> str:
        return self.url.set(database=database).render_as_string(hide_password=False)

    def database(self, name: object) -> str:
        """The URL of a database with Parley's tables: empty, unless the last call was with that name.

        It is always the same one, because making a database takes longer than most tests.
        """
        if self.shared is None:
            self.shared = self.new()
            in_thread(lambda: _opened_and_closed(self.address(self.shared or "")))
        if name != self._last:
            self._last = name
            tables = (
                "words",
                "connected",
                "nodes",
                "indexed",
                "counters",
                "messages",
                "members",
                "rooms",
                "sessions",
                "users",
                "meta",
            )
            self.execute(*(f"DELETE FROM {table}" for table in tables), database=self.shared)
        return self.address(self.shared)

    def new(self) -> str:
        """The name of a new database with nothing in it."""
        self._count += 1
        name = f"parley_{self._run}_{self._count}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return name

    def execute(self, *statements: str, database: str | None = None) -> list[Any]:
        """Run statements and return what the last one found."""
        return in_thread(lambda: _execute(self.address(database or self.url.database or ""), statements))


class OwnPostgres(Postgres):
    """A server of our own, in a folder that goes away with it. `kill` and `start` may follow each other."""

    def __init__(self, binaries: Path) -> None:
        self.binaries = binaries
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="parley-postgresql-"))
        # It refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        self._fill()
        super().__init__(URL.create("postgresql", "parley", PASSWORD, "127.0.0.1", self.port, "postgres"))

    def _fill(self) -> None:
        """Make the files that the server begins with."""
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        options = "--username=parley --encoding=UTF8 --locale=C.UTF-8 --no-sync --auth=scram-sha-256"
        self._run_tool("initdb", *options.split(), f"--pwfile={password}", "-D", self.folder / "data")

    def _run_tool(self, name: str, *arguments: str | Path) -> None:
        with self.log.open("ab") as log:
            subprocess.run(
                [self.binaries / name, *arguments],
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
                env={**os.environ, "PGPASSWORD": PASSWORD},
                stdout=log,
                stderr=log,
                cwd=self.folder,
                check=True,
                timeout=60,
            )

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def settings(self) -> dict[str, object]:
        """What this one needs besides."""
        return {}

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and return when it answers."""
        deadline = time.monotonic() + 30
        while True:
            if self._process is None or self._process.poll() is not None:
                # After a kill, the children of the one before may need a moment to notice.
                self._spawn()
            try:
                self.execute("SELECT 1")
                return
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                if time.monotonic() > deadline:
                    said = self.log.read_text()[-2000:]
                    raise AssertionError(f"PostgreSQL did not start: {error}\n{said}") from None
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it at once, and remove its folder."""
        self._end(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _spawn(self) -> None:
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.folder,
            "max_connections": 100,
            **self.settings,
        }
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self.binaries / "postgres", "-D", self.folder / "data", *options],
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(how)
            process.wait(timeout=30)


class Standby(OwnPostgres):
    """A copy of another server that follows it, and waits to take over. It can be read meanwhile."""

    def __init__(self, primary: OwnPostgres) -> None:
        self._primary = primary
        super().__init__(primary.binaries)

    @property
    def settings(self) -> dict[str, object]:
        return {"primary_conninfo": f"{self._where} password='{PASSWORD}' application_name=standby"}

    @property
    def _where(self) -> str:
        return f"host=127.0.0.1 port={self._primary.port} user=parley"

    def _fill(self) -> None:
        options = "--checkpoint=fast --no-sync --wal-method=stream"
        self._run_tool("pg_basebackup", *options.split(), "-d", self._where, "-D", self.folder / "data")
        (self.folder / "data" / "standby.signal").touch()

    def be_waited_for(self) -> None:
        """From now on the primary commits nothing that is not here too."""
        self._primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        self._primary.execute("SELECT pg_reload_conf()")
        state = "SELECT sync_state FROM pg_stat_replication"
        deadline = time.monotonic() + 30
        while self._primary.execute(state) != [("sync",)]:
            if time.monotonic() > deadline:
                raise AssertionError(f"the standby does not follow:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    def promote(self) -> None:
        """Become the primary, and return when it is one."""
        assert self.execute("SELECT pg_promote(wait => true, wait_seconds => 30)") == [(True,)]


@cache
def postgres() -> Postgres:
    """The PostgreSQL of this test run."""
    given = os.environ.get("PARLEY_TEST_POSTGRESQL")
    if given:
        return Postgres(make_url(given))
    server = own_postgres()
    atexit.register(server.stop)
    return server


def own_postgres() -> OwnPostgres:
    """A server to break, which the caller stops."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=_version)
    if not found:
        raise AssertionError(
            "the tests need PostgreSQL: install the package postgresql (`make test` does so as root), "
            "or set PARLEY_TEST_POSTGRESQL to a server where databases may be made"
        )
    server = OwnPostgres(found[-1].parent)
    server.start()
    return server


def _version(binary: Path) -> float:
    return float(binary.parts[-3])


def in_thread(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on a loop of its own, also from within another loop."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(asyncio.run(work()))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    for error in errors:
        raise error
    return results[0]


async def _execute(address: str, statements: tuple[str, ...]) -> list[Any]:
    connection = await asyncpg.connect(address, timeout=5)
    try:
        found: list[Any] = []
        for statement in statements:
            found = await connection.fetch(statement)
        return [tuple(row) for row in found]
    finally:
        await connection.close()


async def _opened_and_closed(address: str) -> None:
    store = SqlStore(address)
    await store.open()
    await store.close()
