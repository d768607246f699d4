"""The store in an SQL database: an SQLite file."""

from parley.stores.sql.store import SqlStore

__all__ = ["SqlStore"]
