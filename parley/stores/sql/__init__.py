"""The store in an SQL database: an SQLite file or a PostgreSQL server."""

from parley.stores.sql.store import SqlStore

__all__ = ["SqlStore"]
