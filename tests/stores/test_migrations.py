"""The schema of the SQL store: what the migrations make is what the code uses."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from parley.errors import StartError
from parley.ids import now
from parley.stores import migrations
from parley.stores.base import Query, UserState
from parley.stores.sql import SqlStore, migrate
from parley.stores.sql.schema import metadata
from parley.words import words_of
from tests.contracts.kitchen import all_done, kitchen_in, send

NEWEST = migrate.HEAD
FIXTURES = Path(__file__).parents[1] / "fixtures"


@contextmanager
def connected(path: Path) -> Iterator[sa.Connection]:
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool)
    with engine.begin() as connection:
        yield connection


def differences(connection: sa.Connection) -> object:
    """How the database's tables differ from those that the code knows."""
    # The index of words is made by each database in its own way.
    own = {"include_name": lambda name, kind, parents: kind != "table" or not str(name).startswith("words")}
    return compare_metadata(MigrationContext.configure(connection, opts=own), metadata)


def schema_of(connection: sa.Connection) -> set[str]:
    """Every table and index as SQL, without what spaces and the order of indexes do not mean."""
    statements = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {" ".join(statement.split()).replace("( ", "(") for (statement,) in statements}


def test_the_migrations_make_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    with connected(tmp_path / "migrated.db") as migrated, connected(tmp_path / "made.db") as made:
        migrations.upgrade(migrated, "head")
        migrate.upgrade(made)
        assert differences(migrated) == []
        assert schema_of(migrated) == schema_of(made)
        assert migrate.current(migrated) == migrate.current(made) == migrate.HEAD


def test_the_newest_migration_is_the_one_that_the_code_knows() -> None:
    assert ScriptDirectory.from_config(migrations.config()).get_heads() == [migrate.HEAD]


def test_the_way_down_leaves_nothing_and_leads_up_again(tmp_path: Path) -> None:
    with connected(tmp_path / "parley.db") as connection:
        migrate.upgrade(connection)
        migrations.downgrade(connection, "base")
        assert sa.inspect(connection).get_table_names() == ["alembic_version"]
        assert migrate.current(connection) is None
        migrate.upgrade(connection)
        assert migrate.current(connection) == migrate.HEAD


async def test_a_database_of_a_later_version_is_refused(tmp_path: Path) -> None:
    await opened_and_closed(tmp_path)
    with connected(tmp_path / "parley.db") as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StartError, match=r"schema 9999 is newer .*install the version that made it$"):
        await opened_and_closed(tmp_path)


async def test_an_older_database_is_brought_up_to_date_with_all_that_is_in_it(
    tmp_path: Path, next_migration: Callable[[str], None]
) -> None:
    await opened_and_closed(tmp_path)
    next_migration("op.add_column('users', sa.Column('colour', sa.Text))")
    await opened_and_closed(tmp_path)
    with connected(tmp_path / "parley.db") as connection:
        assert migrate.current(connection) == "9000"
        names = connection.exec_driver_sql("SELECT name FROM users WHERE colour IS NULL ORDER BY name")
        assert names.scalars().all() == ["ann", "bob", "cleo"]


async def test_a_database_of_the_first_version_is_brought_up_to_date_by_the_start(tmp_path: Path) -> None:
    await opened_and_closed(tmp_path)
    with connected(tmp_path / "parley.db") as connection:
        migrations.downgrade(connection, "0001")
        assert migrate.current(connection) == "0001"
    await opened_and_closed(tmp_path)
    with connected(tmp_path / "parley.db") as connection:
        assert migrate.current(connection) == NEWEST
        names = connection.exec_driver_sql("SELECT name FROM users ORDER BY name")
        assert names.scalars().all() == ["ann", "bob", "cleo"]


async def test_a_migration_that_fails_leaves_the_database_as_it_was(
    tmp_path: Path, next_migration: Callable[[str], None]
) -> None:
    await opened_and_closed(tmp_path)
    next_migration("op.drop_table('messages'); op.drop_table('no_such_table')")
    with pytest.raises(StartError, match="no such table"):
        await opened_and_closed(tmp_path)
    with connected(tmp_path / "parley.db") as connection:
        assert migrate.current(connection) == NEWEST
        assert "messages" in sa.inspect(connection).get_table_names()


async def test_what_the_first_version_wrote_is_all_there_after_the_way_up(tmp_path: Path) -> None:
    # The file was dumped from a database that the version with schema 0001 had filled.
    made = sqlite3.connect(tmp_path / "parley.db")
    made.executescript((FIXTURES / "chats" / "0001.sql").read_text())
    made.close()
    store = SqlStore(f"sqlite:///{tmp_path}/parley.db", synchronous="OFF")
    await store.open()
    ann, dora = await store.user("ann"), await store.user("dora")
    assert ann is not None
    assert dora is not None
    assert dora.last_seen_at is not None
    assert [each.token_hash for each in await store.sessions_of(dora.id)] == [b"d" * 32]
    stats = await store.stats(now())
    assert (stats.users, stats.guests, stats.rooms, stats.messages) == (3, 1, 3, 5)
    kitchen = await store.room("kitchen", ann.id)
    assert kitchen is not None
    assert (kitchen.revision, kitchen.last_seq, kitchen.read_seq, kitchen.unread) == (6, 3, 2, 1)
    first, second, third = await store.page(kitchen.id, limit=10)
    assert (first.text, second.reactions, third.text) == ("first, edited", {"👍": [ann.id]}, "")
    found = await store.search(Query(user_id=ann.id, words=words_of("wörds second"), limit=10))
    assert found.messages == [second]
    said = all_done(await store.apply([send(kitchen, ann, "and on it goes")]))
    assert (said[0].message.seq, said[0].message.revision) == (4, 7)
    assert await store.expire_guests(now(), now(), 10) == [dora.id]
    dumped = [record async for record in store.dump()]
    await store.close()

    with connected(tmp_path / "parley.db") as connection:
        migrations.downgrade(connection, "0001")
        assert schema_of(connection) == schema_of_the_first_version()
        names = connection.exec_driver_sql("SELECT name FROM users ORDER BY name").scalars().all()
        assert names[:3] == ["ann", "bob", "cleo"]
    again = SqlStore(f"sqlite:///{tmp_path}/parley.db", synchronous="OFF")
    await again.open()
    kept = [record async for record in again.dump()]
    assert [each for each in kept if not isinstance(each, UserState)] == [
        each for each in dumped if not isinstance(each, UserState)
    ]
    assert (await again.stats(now())).messages == 6
    await again.close()


def schema_of_the_first_version() -> set[str]:
    made = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    with made.begin() as connection:
        migrations.upgrade(connection, "0001")
        return schema_of(connection)


@pytest.fixture
def next_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A way to add a migration after the newest one, as a later version would."""
    plain: Callable[..., Config] = migrations.config

    def config(connection: sa.Connection | None = None) -> Config:
        config = plain(connection)
        versions = ScriptDirectory.from_config(plain()).versions
        config.set_main_option("version_locations", f"{versions}:{tmp_path}")
        return config

    def add(upgrade: str) -> None:
        lines = (
            "import sqlalchemy as sa",
            "from alembic import op",
            f"revision, down_revision = '9000', {NEWEST!r}",
            "def upgrade():",
            f"    {upgrade}",
        )
        (tmp_path / "9000_next.py").write_text("\n".join(lines))
        monkeypatch.setattr(migrations, "config", config)
        monkeypatch.setattr(migrate, "HEAD", "9000")

    return add


async def opened_and_closed(directory: Path) -> None:
    """Start on that directory's database, with people in it after the first time, and stop."""
    store = SqlStore(f"sqlite:///{directory}/parley.db", synchronous="OFF")
    await store.open()
    try:
        if await store.user("ann") is None:
            await kitchen_in(store)
    finally:
        await store.close()
