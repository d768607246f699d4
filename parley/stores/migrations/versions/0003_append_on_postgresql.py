"""On PostgreSQL: the append as a function, ids compared byte by byte, room in the pages of `rooms`."""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_IDS = {
    "users": ("id",),
    "sessions": ("id", "user_id"),
    "rooms": ("id",),
    "members": ("room_id", "user_id"),
    "messages": ("room_id", "id"),
}


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    # Every message moves a counter in the row of its room. With free space beside it, the new version
    # of the row stays on its page and no index hears of it.
    op.execute("ALTER TABLE rooms SET (fillfactor = 50)")
    # Looked at while there were few messages, each in a room of its own, a room seems as good as an id to
    # find one by, and that is remembered for a minute in which there may come 100,000.
    op.execute("ALTER TABLE messages ALTER COLUMN room_id SET (n_distinct = -0.01)")
    _collate("C")
    for name in ("reacted", "append"):
        op.get_bind().exec_driver_sql(Path(__file__).with_name(f"0003_{name}.sql").read_text())


def downgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute("DROP FUNCTION parley_append, parley_reacted")
    _collate("default")
    op.execute("ALTER TABLE messages ALTER COLUMN room_id RESET (n_distinct)")
    op.execute("ALTER TABLE rooms RESET (fillfactor)")


def _collate(collation: str) -> None:
    """Compare ids as bytes: by a language's rules it takes several times as long, and order may vary."""
    for table, columns in _IDS.items():
        changes = (f'ALTER COLUMN {column} TYPE text COLLATE "{collation}"' for column in columns)
        op.execute(f"ALTER TABLE {table} {', '.join(changes)}")
