"""Bringing a database to the schema that this version of Parley uses."""

from sqlalchemy import Column, Connection, MetaData, String, Table, insert, inspect, select

from parley.errors import StartError
from parley.stores.sql.schema import metadata

HEAD = "0001"
"""The newest revision in `stores/migrations`, known here so that a start need not load Alembic."""

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


def upgrade(connection: Connection) -> None:
    """Bring the database to this version's schema, in the caller's transaction.

    Raises `StartError`.
    """
    found = current(connection)
    if found is None:
        # Nothing to carry over: the tables as they are now, without their whole history.
        metadata.create_all(connection, checkfirst=False)
        _version.create(connection, checkfirst=True)
        connection.execute(insert(_version).values(version_num=HEAD))
    elif found != HEAD:
        # Here, because Alembic takes as long to load as the rest of a start.
        from parley.stores import migrations  # noqa: PLC0415

        if not migrations.has(found):
            newer = f"its schema {found} is newer than {HEAD}, the newest that this version knows"
            raise StartError(f"{newer}; install the version that made it")
        migrations.upgrade(connection, HEAD)
