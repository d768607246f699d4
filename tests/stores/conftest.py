"""A store in a new SQLite file, and ways to look at that file behind its back."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from parley.stores.sql import SqlStore
from tests.contracts.kitchen import Kitchen, kitchen_in


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "parley.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqlStore]:
    store = store_at(path)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def kitchen(store: SqlStore) -> Kitchen:
    return await kitchen_in(store)


@pytest.fixture
def logged() -> Iterator[list[EventDict]]:
    """What is logged during the test."""
    with capture_logs() as entries:
        yield entries


def store_at(path: Path) -> SqlStore:
    return SqlStore(f"sqlite:///{path}", synchronous="OFF")


def sql(path: Path, *statements: str) -> list[Any]:
    """What another program reads from the file, or does to it."""
    connection = sqlite3.connect(path)
    try:
        rows = [connection.execute(statement).fetchone() for statement in statements]
        connection.commit()
        return rows
    finally:
        connection.close()
