"""Bringing a database to the schema that this version of Parley uses."""

from sqlalchemy import Column, Connection, MetaData, String, Table, func, insert, inspect, select

from parley.errors import StartError
from parley.stores.sql.schema import metadata

HEAD = "0007"
"""The newest revision in `stores/migrations`, known here so that a start need not load Alembic."""

_LOCK = 0x7061726C6579
"""The number of the advisory lock under which the schema is changed: "parley" in ASCII."""

_version = Table(
    "alembic_version",
    MetaData(naming_convention={"pk": "%(table_name)s_pkc"}),
    Column("version_num", String(32), primary_key=True),
)


def current(connection: Connection) -> str | None:
    """The revision of the database's schema; None if it is empty.

    Raises `StartError` if it holds something else.
    """
    tables = inspect(connection).get_table_names()
    if _version.name in tables:
        revision: str | None = connection.execute(select(_version.c.version_num)).scalar()
        return revision
    if tables:
        raise StartError("it holds something else than a Parley; name another database")
    return None


def upgrade(connection: Connection) -> str | None:
    """Bring the database to this version's schema, in the caller's transaction; return its revision of
    before, None if it was empty.

    Raises `StartError`.
    """
    _wait_for_others(connection)
    found = current(connection)
    if found is None and connection.dialect.name == "sqlite":
        # Nothing to carry over: the tables as they are now, without their whole history.
        metadata.create_all(connection, checkfirst=False)
        _version.create(connection, checkfirst=True)
        connection.execute(insert(_version).values(version_num=HEAD))
    elif found != HEAD:
        # Here, because Alembic takes as long to load as the rest of a start.
        from parley.stores import migrations  # noqa: PLC0415

        if found is not None:
            _refuse_newer(found)
        migrations.upgrade(connection, HEAD)
    return found


def prepare(connection: Connection) -> None:
    """Make the tables if there are none. A database that others use is not upgraded in passing.

    Raises `StartError` if the schema is not this version's.
    """
    found = current(connection)
    if found is None:
        # Another node may have made them while this one waited for its turn.
        found = upgrade(connection) or HEAD
    if found != HEAD:
        _refuse_newer(found)
        older = f"its schema {found} is older than {HEAD}, which this version needs"
        raise StartError(f"{older}; make a backup, stop all nodes and run `parley migrate`")


def _wait_for_others(connection: Connection) -> None:
    """Let one node at a time change the schema, until the caller's transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))


def _refuse_newer(found: str) -> None:
    from parley.stores import migrations  # noqa: PLC0415

    if not migrations.has(found):
        newer = f"its schema {found} is newer than {HEAD}, the newest that this version knows"
        raise StartError(f"{newer}; install the version that made it")
