"""Who is connected to which node, and a way to find rooms that everybody has left."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "nodes",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "connected",
        sa.Column("node_id", sa.Text, primary_key=True),
        sa.Column("user_id", sa.Text, primary_key=True),
        sqlite_with_rowid=False,
    )
    rooms = sa.table(
        "rooms",
        sa.column("closed_at"),
        sa.column("member_count"),
        sa.column("close_when_empty", sa.Boolean),
        sa.column("kind"),
    )
    alone = rooms.c.closed_at.is_(None) & (rooms.c.member_count == 0)
    alone &= rooms.c.close_when_empty | (rooms.c.kind != "public")
    op.create_index("ix_rooms_alone", "rooms", ["id"], sqlite_where=alone, postgresql_where=alone)
    if op.get_bind().dialect.name == "postgresql":
        # As it is now: who may not see a room is not told of a message by its id either.
        append = Path(__file__).with_name("0003_append.sql").read_text()
        op.get_bind().exec_driver_sql(append.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))


def downgrade() -> None:
    op.drop_index("ix_rooms_alone", "rooms")
    op.drop_table("connected")
    op.drop_table("nodes")
