"""Passwords, names to find people by, and devices whose tokens are renewed."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("password_hash", sa.Text))
    op.add_column("users", sa.Column("folded_name", sa.Text, nullable=False, server_default=""))
    op.add_column("sessions", sa.Column("label", sa.Text, nullable=False, server_default=""))
    op.add_column("sessions", sa.Column("generation", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("sessions", sa.Column("rotated_at", sa.BigInteger))
    users = sa.table("users", sa.column("id"), sa.column("display_name"), sa.column("folded_name"))
    for id_, name in op.get_bind().execute(sa.select(users.c.id, users.c.display_name)).all():
        folded = users.update().where(users.c.id == id_).values(folded_name=name.casefold())
        op.get_bind().execute(folded)


def downgrade() -> None:
    for table, column in (
        ("sessions", "rotated_at"),
        ("sessions", "generation"),
        ("sessions", "label"),
        ("users", "folded_name"),
        ("users", "password_hash"),
    ):
        op.drop_column(table, column)
