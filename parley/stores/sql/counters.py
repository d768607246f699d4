"""How much there is, kept up to date by whatever makes it more or less, so that nobody counts rows.

A count is the sum of some rows: nodes that add at the same moment take different ones, and none waits
until another has committed.
"""

from sqlalchemy import Connection, delete, func, select, text

from parley.ids import Time, to_ms
from parley.models import Stats
from parley.stores.sql.schema import counters

SHARDS = 16

MINUTE_MS = 60_000

_ADD = text(
    """
    INSERT INTO counters (name, minute, shard, value) VALUES (:name, :minute, :shard, :step)
    ON CONFLICT (name, minute, shard) DO UPDATE SET value = counters.value + excluded.value
    """
)


def add(connection: Connection, steps: dict[str, int]) -> None:
    """Count so many more of each name. The last thing that a transaction does, so that none waits in a
    circle for another."""
    shard = _shard(connection)
    moved = [(name, step) for name, step in sorted(steps.items()) if step]
    for name, step in moved:
        connection.execute(_ADD, {"name": name, "minute": 0, "shard": shard, "step": step})


def add_sent(connection: Connection, minute: int, step: int) -> None:
    """Count messages that were sent in that minute since the epoch."""
    values = {"name": "sent", "minute": minute, "shard": _shard(connection), "step": step}
    connection.execute(_ADD, values)


def stats(connection: Connection, at: Time) -> Stats:
    """All counts, of one moment."""
    first = to_ms(at) // MINUTE_MS - 59
    here = (counters.c.minute == 0) | ((counters.c.minute >= first) & (counters.c.name == "sent"))
    sums = select(counters.c.name, func.sum(counters.c.value)).where(here).group_by(counters.c.name)
    count: dict[str, int] = {name: int(total) for name, total in connection.execute(sums)}
    return Stats(
        users=count.get("users", 0),
        guests=count.get("guests", 0),
        rooms=count.get("rooms", 0),
        messages=count.get("messages", 0),
        messages_last_hour=count.get("sent", 0),
    )


def forget(connection: Connection, before: Time) -> None:
    """Delete what was sent in minutes that nobody asks about any more."""
    minute = to_ms(before) // MINUTE_MS
    old = (counters.c.name == "sent") & (counters.c.minute < minute)
    connection.execute(delete(counters).where(old))


def _shard(connection: Connection) -> int:
    if connection.dialect.name == "sqlite":
        return 0  # there is one writer
    return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one()) % SHARDS
