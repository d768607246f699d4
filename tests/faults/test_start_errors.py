"""`parley serve` on a store that it cannot use ends with one line that says why, and no password in it."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from parley.stores.sql import migrate
from tests import backends
from tests.backends import PASSWORD
from tests.redis_servers import redis_server
from tests.servers import ServerProcess, free_port
from tests.test_cli import parley

pytestmark = pytest.mark.slow

HUSH = "hush-hush"
END_OF_PASSWORD = PASSWORD.split()[-1]
"""Looks the same in a URL."""


def refusal(folder: Path, store: str) -> str:
    """The line that the operator reads."""
    done = parley(folder, "serve", store=store, port="0")
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("parley: ")
    assert not any(secret in line for secret in (HUSH, PASSWORD, END_OF_PASSWORD))
    return line


# What needs nothing to be there


@pytest.mark.parametrize(
    ("store", "reason"),
    [
        (f"oracle://ann:{HUSH}@db/parley", "must begin with"),
        ("sqlite://", "name a file"),
        ("sqlite:///parley.db?mode=ro", "write sqlite:///"),
        (f"postgresql://ann:{HUSH}@db", "write postgresql://"),
        (f"postgresql://ann:{HUSH}@db:port/parley", "no URL"),
        (f"redis://:{HUSH}@localhost:port", "localhost"),
        (f"redis://:{HUSH}@nowhere.invalid", "nowhere.invalid"),
        (f"postgresql://ann:{HUSH}@nowhere.invalid/parley", "no such host"),
    ],
)
def test_a_url_that_makes_no_sense(tmp_path: Path, store: str, reason: str) -> None:
    assert reason in refusal(tmp_path, store)


def test_a_server_that_is_away(tmp_path: Path) -> None:
    port = free_port()
    assert "nobody answers there" in refusal(tmp_path, f"postgresql://ann:{HUSH}@127.0.0.1:{port}/parley")
    assert f"127.0.0.1:{port}" in refusal(tmp_path, f"redis://:{HUSH}@127.0.0.1:{port}")


@pytest.mark.parametrize("scheme", ["postgresql", "redis"])
@pytest.mark.parametrize(
    "url", ["ann:x/{}@127.0.0.1:1/0", "ann:x@{}@127.0.0.1:1/0", "ann@127.0.0.1:1/0?password={}"]
)
def test_a_password_in_the_wrong_place_or_not_escaped_is_not_shown(
    tmp_path: Path, scheme: str, url: str
) -> None:
    refusal(tmp_path, f"{scheme}://{url.format(HUSH)}")


# SQLite


def no_folder(folder: Path) -> Path:
    return folder / "missing" / "parley.db"


def a_directory(folder: Path) -> Path:
    return folder


def a_letter(folder: Path) -> Path:
    path = folder / "letter"
    path.write_text("Dear aunt, this is no database. " * 100)
    return path


def of_another_program(folder: Path) -> Path:
    path = folder / "recipes.db"
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE recipes (name TEXT)")
    return path


def of_a_newer_version(folder: Path) -> Path:
    path = folder / "parley.db"
    assert parley(folder, "migrate", store=f"sqlite:///{path}").returncode == 0
    with closing(sqlite3.connect(path)) as file:
        file.execute("UPDATE alembic_version SET version_num = '9999'")
        file.commit()
    return path


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (no_folder, "directory does not exist"),
        (a_directory, "is a directory"),
        (a_letter, "not an SQLite database"),
        (of_another_program, "something else than a Parley"),
        (of_a_newer_version, "schema 9999 is newer"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, made: Callable[[Path], Path], reason: str) -> None:
    path = made(tmp_path)
    line = refusal(tmp_path, f"sqlite:///{path}")
    assert reason in line
    assert str(path) in line


def test_a_file_that_another_server_has(tmp_path: Path) -> None:
    path = tmp_path / "parley.db"
    with ServerProcess(tmp_path, store=f"sqlite:///{path}") as first:
        line = refusal(tmp_path, f"sqlite:///{path}")
        assert "in use by another parley" in line
        assert str(path) in line
        assert first.is_ready()


# PostgreSQL and Redis


@pytest.mark.servers
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"password": HUSH}, "refuses that user or password"),
        ({"username": "mallory", "password": HUSH}, "refuses that user or password"),
        ({"database": "nowhere"}, "no such database"),
    ],
)
def test_a_postgresql_that_does_not_let_us_in(tmp_path: Path, wrong: dict[str, Any], reason: str) -> None:
    url = backends.postgres().url.set(**wrong)
    line = refusal(tmp_path, url.render_as_string(hide_password=False))
    assert reason in line
    assert url.render_as_string() in line


@pytest.mark.servers
@pytest.mark.parametrize(
    ("found", "reasons"),
    [("9999", ["schema 9999 is newer"]), ("0001", ["schema 0001 is older", "run `parley migrate`"])],
)
def test_a_postgresql_with_another_schema(tmp_path: Path, found: str, reasons: list[str]) -> None:
    server = backends.postgres()
    name = server.new()
    assert parley(tmp_path, "migrate", store=server.address(name)).returncode == 0
    versions = "SELECT version_num FROM alembic_version"
    assert server.execute(versions, database=name) == [(migrate.HEAD,)]
    server.execute(f"UPDATE alembic_version SET version_num = '{found}'", database=name)
    line = refusal(tmp_path, server.address(name))
    for reason in reasons:
        assert reason in line
    assert server.execute(versions, database=name) == [(found,)], "it was not touched"


@pytest.mark.servers
def test_a_redis_that_does_not_let_us_in(tmp_path: Path) -> None:
    with redis_server("--requirepass", "right") as server:
        for who in (f":{HUSH}@", f"ann:{HUSH}@", ""):
            line = refusal(tmp_path, f"redis://{who}127.0.0.1:{server.port}")
            assert "check user and password" in line
            assert f"127.0.0.1:{server.port}" in line
