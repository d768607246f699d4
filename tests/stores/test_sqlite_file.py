"""Opening an SQLite file: one process at a time, and one line for the operator where it fails."""

import asyncio
import errno
import fcntl
import sqlite3
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import Connection

from parley.errors import StartError
from parley.stores.sql import SqlStore, file
from tests.stores.conftest import sql, store_at


async def refusal(path: Path) -> str:
    """What the operator reads when the store does not open: one line, which names the file."""
    with pytest.raises(StartError) as raised:
        await store_at(path).open()
    text = str(raised.value)
    assert text.startswith(f"cannot use {path}: ")
    assert "\n" not in text
    return text.removeprefix(f"cannot use {path}: ")


@pytest.mark.parametrize("url", ["", "parley", "sqlite://", "sqlite:///:memory:"])
@pytest.mark.parametrize("suffix", ["", "?mode=ro"])
def test_a_url_must_name_a_file(url: str, suffix: str) -> None:
    with pytest.raises(StartError, match="cannot use the store"):
        SqlStore(url + suffix)


def test_another_database_is_refused_without_repeating_its_password() -> None:
    with pytest.raises(StartError, match="write sqlite:///") as raised:
        SqlStore("oracle://ann:hush@localhost/parley")
    assert "hush" not in str(raised.value)


async def test_a_second_parley_is_refused_while_the_first_one_runs(store: SqlStore, path: Path) -> None:
    assert "in use by another parley" in await refusal(path)
    await store.ping()
    await store.close()
    again = store_at(path)
    await again.open()
    assert again.epoch == store.epoch
    await again.close()


async def test_a_parley_that_is_killed_leaves_no_lock(path: Path) -> None:
    script = """
import asyncio, sys
from parley.stores.sql import SqlStore
async def main():
    await SqlStore(f"sqlite:///{sys.argv[1]}").open()
    print("alembic" in sys.modules, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(path), stdout=asyncio.subprocess.PIPE
    )
    assert other.stdout is not None
    try:
        assert await other.stdout.readline() == b"False\n", "the first start needs no Alembic"
        assert "in use by another parley" in await refusal(path)
    finally:
        other.kill()
        await other.wait()
    store = store_at(path)
    await store.open()
    await store.close()


async def test_a_file_system_without_locks_stops_nobody(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    store = store_at(path)
    with structlog.testing.capture_logs() as logs:
        await store.open()
    await store.ping()
    await store.close()
    assert [(line["log_level"], line["reason"]) for line in logs] == [("warning", "No locks available")]


async def test_a_file_that_is_no_database_is_left_alone(path: Path) -> None:
    diary = b"Dear diary, today I will not be overwritten. " * 100
    overwrite(path, 0, diary)
    assert "not an SQLite database" in await refusal(path)
    assert content(path) == diary


async def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    sql(path, "CREATE TABLE recipes (name TEXT)")
    assert "something else than a Parley" in await refusal(path)
    assert sql(path, "SELECT count(*) FROM sqlite_master") == [(1,)]


async def test_a_damaged_file_is_refused(path: Path) -> None:
    store = store_at(path)
    await store.open()
    await store.close()
    overwrite(path, 100, b"\xff" * 3996)
    assert "damaged" in await refusal(path)


async def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    assert "directory does not exist" in await refusal(tmp_path / "missing" / "parley.db")


async def test_a_path_that_cannot_be_a_file_is_refused(tmp_path: Path, path: Path) -> None:
    assert "is a directory" in await refusal(tmp_path)
    overwrite(path, 0, b"")
    assert "not a directory" in await refusal(path / "parley.db")


async def test_a_place_that_may_not_be_written_is_refused() -> None:
    assert "permission denied" in await refusal(Path("/sys/parley.db"))  # not even root may


async def test_a_file_that_another_program_is_writing_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "BUSY_SECONDS", 0)
    store = store_at(path)
    await store.open()
    await store.close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert "another program is writing" in await refusal(path)
    other.close()
    await store.open()
    await store.close()


async def test_a_relative_path_is_taken_from_the_working_directory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    store = SqlStore("sqlite:///parley.db")
    await store.open()
    await store.close()
    assert sql(path, "SELECT count(*) FROM users") == [(0,)]


async def test_nobody_else_may_read_the_file(store: SqlStore, path: Path) -> None:
    modes = {each.name: stat.filemode(each.stat().st_mode) for each in path.parent.iterdir()}
    assert set(modes.values()) == {"-rw-------"}
    assert path.name in modes


async def test_what_is_acknowledged_is_on_the_disk(path: Path) -> None:
    store = SqlStore(f"sqlite:///{path}")
    await store.open()
    pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")

    def settings(connection: Connection) -> list[Any]:
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]

    assert await store._database.write(settings) == ["wal", 2, 1, 5000]
    await store.close()


def overwrite(path: Path, start: int, content: bytes) -> None:
    """Write into a file, which is made if it is not there."""
    with path.open("r+b" if path.exists() else "wb") as open_file:
        open_file.seek(start)
        open_file.write(content)


def content(path: Path) -> bytes:
    return path.read_bytes()
