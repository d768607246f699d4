"""How much there is, kept up to date by whatever makes it more or less, so that nobody counts rows.

A count is the sum of some rows: nodes that add at the same moment take different ones, and none waits
until another has committed.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, select, text

from parley.ids import Time, to_ms
from parley.models import Stats
from parley.stores.rules import too_many
from parley.stores.sql.schema import counters

MINUTE_MS = 60_000

# Where several nodes write, each connection adds to one of 16 rows, as `parley_append` does.
_SHARD = {"sqlite": "0", "postgresql": "pg_backend_pid() % 16"}
_ADD = {
    dialect: text(
        f"""
        INSERT INTO counters AS c (name, minute, shard, value) VALUES (:name, 0, {shard}, :step)
        ON CONFLICT (name, minute, shard) DO UPDATE SET value = c.value + excluded.value
        """  # noqa: S608
    )
    for dialect, shard in _SHARD.items()
}


def add(connection: Connection, steps: dict[str, int]) -> None:
    """Count so many more of each name. The last thing that a transaction does, so that none waits in a
    circle for another."""
    for name, step in sorted(steps.items()):
        if step:
            connection.execute(_ADD[connection.dialect.name], {"name": name, "step": step})


def make_room(connection: Connection, names: Sequence[str], setting: str, most: int | None) -> None:
    """See to it that there are fewer than `most` of these together until the transaction ends. Raises
    `LimitReached`."""
    if most is not None:
        if connection.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(setting))))
        total = select(func.sum(counters.c.value)).where(counters.c.minute == 0, counters.c.name.in_(names))
        if (connection.execute(total).scalar() or 0) >= most:
            raise too_many(setting, most)


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
