"""Counts, so that nobody counts rows; indexes of what runs out; the names of the deleted are free."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_INDEXES = {
    # name: table, columns, condition
    "ix_users_guests": ("users", ["last_seen_at"], "kind = 'guest' AND deleted_at IS NULL"),
    "ix_users_deleted": ("users", ["deleted_at"], "deleted_at IS NOT NULL"),
    "ix_sessions_expires_at": ("sessions", ["expires_at"], None),
    "ix_rooms_created_by": ("rooms", ["created_by"], None),
    "ix_rooms_expires_at": ("rooms", ["expires_at"], "closed_at IS NULL AND expires_at IS NOT NULL"),
    "ix_rooms_closed_at": ("rooms", ["closed_at"], "closed_at IS NOT NULL"),
}

_COUNTED = {
    "users": "SELECT count(*) FROM users WHERE kind <> 'guest' AND deleted_at IS NULL",
    "guests": "SELECT count(*) FROM users WHERE kind = 'guest' AND deleted_at IS NULL",
    "rooms": "SELECT count(*) FROM rooms WHERE closed_at IS NULL",
    "messages": "SELECT coalesce(sum(last_seq - first_seq + 1), 0) FROM rooms WHERE closed_at IS NULL",
}


def upgrade() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("minute", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("shard", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", "minute", "shard", name="pk_counters"),
    )
    for name, count in _COUNTED.items():
        op.execute(f"INSERT INTO counters (name, minute, shard, value) SELECT '{name}', 0, 0, ({count})")
    op.execute("UPDATE users SET last_seen_at = created_at WHERE last_seen_at IS NULL")
    for name, (table, columns, condition) in _INDEXES.items():
        _index(name, table, columns, condition)
    op.drop_index("ix_users_name", "users")
    _index("ix_users_name", "users", ["name"], "deleted_at IS NULL", unique=True)


def downgrade() -> None:
    op.drop_index("ix_users_name", "users")
    # Names must be unique again, those of the deleted ones among them.
    op.execute("UPDATE users SET name = name || ' ' || id WHERE deleted_at IS NOT NULL")
    op.create_index("ix_users_name", "users", ["name"], unique=True)
    for name, (table, _, _) in reversed(_INDEXES.items()):
        op.drop_index(name, table)
    op.drop_table("counters")


def _index(name: str, table: str, columns: list[str], condition: str | None, *, unique: bool = False) -> None:
    where = sa.text(condition) if condition else None
    op.create_index(name, table, columns, unique=unique, sqlite_where=where, postgresql_where=where)
