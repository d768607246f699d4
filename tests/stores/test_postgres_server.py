"""Starting on a PostgreSQL server: its schema is made, brought up to date or refused, in one line."""

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from parley.errors import StartError
from parley.stores import migrations
from parley.stores.sql import SqlStore, migrate
from tests import backends
from tests.backends import PASSWORD, Postgres, in_thread
from tests.contracts.kitchen import Kitchen, all_done, edit, kitchen_in, send
from tests.servers import ServerProcess, free_port
from tests.stores.test_migrations import differences
from tests.test_cli import parley

T = TypeVar("T")

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def server() -> Postgres:
    return backends.postgres()


@pytest.fixture
def empty(server: Postgres) -> str:
    """The URL of a database with nothing in it."""
    return server.address(server.new())


def on(url: str, step: Callable[[sa.Connection], T]) -> T:
    """Do something to a database behind the store's back."""

    async def run() -> T:
        engine = create_async_engine(sa.make_url(url).set(drivername="postgresql+asyncpg"))
        try:
            async with engine.begin() as connection:
                return await connection.run_sync(step)
        finally:
            await engine.dispose()

    return in_thread(run)


def version(url: str) -> str | None:
    return on(url, migrate.current)


async def filled_by_the_first_version(url: str) -> Kitchen:
    """A database as 0001 left it, with people and messages in it."""
    store = SqlStore(url)
    await store.open()
    kitchen = await kitchen_in(store)
    message = await kitchen.says(kitchen.ann, "hi")
    await store.apply([edit(message, kitchen.ann, "hello")])
    await store.close()
    on(url, lambda connection: migrations.downgrade(connection, "0001"))
    return kitchen


async def refusal(url: str) -> str:
    """What the operator reads: one line that names the database and not its password."""
    began = time.monotonic()
    with pytest.raises(StartError) as raised:
        await SqlStore(url).open()
    assert time.monotonic() - began < 6
    text = str(raised.value)
    assert text.startswith("cannot use postgresql://")
    assert "\n" not in text
    assert PASSWORD not in text
    assert sa.make_url(url).render_as_string(hide_password=True) in text
    return text


# Schema


async def test_the_tables_are_made_in_an_empty_database(empty: str) -> None:
    nodes = [SqlStore(empty) for _ in range(4)]
    await asyncio.gather(*(node.open() for node in nodes))
    assert len({node.epoch for node in nodes}) == 1
    for node in nodes:
        await node.close()
    assert version(empty) == migrate.HEAD
    assert on(empty, differences) == []


async def test_an_older_database_waits_for_the_operator(empty: str, tmp_path: Path) -> None:
    kitchen = await filled_by_the_first_version(empty)
    assert "schema 0001 is older than" in await refusal(empty)
    assert "run `parley migrate`" in await refusal(empty)
    assert version(empty) == "0001"
    done = parley(tmp_path, "migrate", store=empty)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"was brought from schema 0001 to {migrate.HEAD}\n")
    assert "***" in done.stdout
    assert "is up to date" in parley(tmp_path, "migrate", "--store", empty).stdout

    store = SqlStore(empty)
    await store.open()
    (page,) = await store.page(kitchen.room.id, limit=10)
    assert page.text == "hello"
    (applied,) = all_done(await store.apply([send(kitchen.room, kitchen.bob, "and on it goes")]))
    assert (applied.message.seq, applied.message.revision) == (2, 3)
    await store.close()


async def test_the_way_down_leaves_nothing_and_leads_up_again(empty: str) -> None:
    await filled_by_the_first_version(empty)
    on(empty, lambda connection: migrations.downgrade(connection, "base"))
    assert version(empty) is None
    functions = "SELECT count(*) FROM pg_proc WHERE proname LIKE 'parley%'"
    assert on(empty, lambda connection: connection.exec_driver_sql(functions).scalar()) == 0
    before, now = await SqlStore(empty).migrate()
    assert (before, now) == (None, migrate.HEAD)


async def test_a_migration_from_the_first_version_is_whole(empty: str, server: Postgres) -> None:
    await filled_by_the_first_version(empty)
    await SqlStore(empty).migrate()
    made = server.address(server.new())
    await SqlStore(made).migrate()
    catalogue = """
        SELECT c.relname, c.reloptions::text, a.attname, a.attcollation::regcollation::text, a.attnotnull
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY 1, 3
    """
    upgraded, new = (
        on(url, lambda connection: connection.exec_driver_sql(catalogue).all()) for url in (empty, made)
    )
    assert upgraded == new
    assert ("rooms", "{fillfactor=50}", "id", '"C"', True) in [tuple(row) for row in new]


async def test_a_newer_database_is_refused(empty: str) -> None:
    await SqlStore(empty).migrate()
    on(
        empty,
        lambda connection: connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'"),
    )
    assert "schema 9999 is newer" in await refusal(empty)
    with pytest.raises(StartError, match="newer"):
        await SqlStore(empty).migrate()


async def test_a_database_of_another_program_is_left_alone(empty: str) -> None:
    on(empty, lambda connection: connection.exec_driver_sql("CREATE TABLE recipes (name TEXT)"))
    assert "something else than a Parley" in await refusal(empty)


# Ways not to get in


async def test_a_wrong_password_user_database_or_host_is_one_line(server: Postgres) -> None:
    url = server.url
    for wrong, reason in (
        (url.set(password="guess"), "refuses that user or password"),
        (url.set(username="mallory"), "refuses that user or password"),
        (url.set(database="nowhere"), "no such database"),
        (url.set(port=free_port()), "nobody answers there"),
        (url.set(host="no-such-host.invalid"), "no such host"),
        (url.set(query={"colour": "blue"}), "sslmode"),
    ):
        assert reason in await refusal_of(wrong)


async def refusal_of(url: sa.URL) -> str:
    return await refusal(url.render_as_string(hide_password=False))


async def test_a_host_that_never_answers_is_given_up(server: Postgres) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert "does not answer" in await refusal_of(server.url.set(port=port))


async def test_a_user_who_may_not_make_tables_is_told_so(empty: str, server: Postgres) -> None:
    role = f"guest_{free_port()}"
    server.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'guest'")
    name = sa.make_url(empty).database
    server.execute("REVOKE CREATE ON SCHEMA public FROM public", database=name)
    poor = server.url.set(username=role, password="guest", database=name)
    assert "may not make or change its tables" in await refusal_of(poor)


@pytest.mark.parametrize(
    "url", ["postgresql://", "postgresql://host", "postgresql:///parley", "postgresql://ann:hush@host:port/x"]
)
def test_a_url_names_host_and_database(url: str) -> None:
    with pytest.raises(StartError, match="cannot use") as raised:
        SqlStore(url)
    assert "hush" not in str(raised.value)


def test_the_server_runs_on_it_and_says_in_one_line_when_it_cannot(
    tmp_path: Path, empty: str, server: Postgres
) -> None:
    with ServerProcess(tmp_path, store=empty) as running:
        assert running.is_ready()
        # A second node may share it.
        folder = tmp_path / "second"
        folder.mkdir()
        with ServerProcess(folder, store=empty) as second:
            assert second.is_ready()
    wrong = server.url.set(password="guess").render_as_string(hide_password=False)
    done = parley(tmp_path, "serve", port="0", store=wrong)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "refuses that user or password" in done.stderr
    assert "guess" not in done.stderr
    shown = parley(tmp_path, "config", store=wrong).stdout
    assert "guess" not in shown


def test_where_nothing_is_kept_there_is_nothing_to_migrate(tmp_path: Path) -> None:
    assert "nothing to migrate" in parley(tmp_path, "migrate", store="memory://").stdout
    made = parley(tmp_path, "migrate", store=f"sqlite:///{tmp_path}/parley.db")
    assert f"tables are made, schema {migrate.HEAD}" in made.stdout
