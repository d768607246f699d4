"""An index of words, filled a little later than the messages are written."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "indexed",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("room_id", _id(), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("first_seq", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_indexed"),
        sa.ForeignKeyConstraint(["room_id"], ["rooms.id"], name="fk_indexed_room_id"),
    )
    op.create_index("ix_indexed_room_id", "indexed", ["room_id"], unique=True)
    if op.get_bind().dialect.name == "sqlite":
        op.execute("CREATE VIRTUAL TABLE words USING fts5(text, tokenize=ascii, detail=none, columnsize=0)")
    else:
        op.execute("CREATE TABLE words (place bigint PRIMARY KEY, words tsvector NOT NULL)")
        op.execute("CREATE INDEX ix_words_words ON words USING gin (words)")


def downgrade() -> None:
    op.drop_table("words")
    op.drop_table("indexed")


def _id() -> sa.Text:
    """An id as the other tables have it, compared byte by byte."""
    return sa.Text(collation="C") if op.get_bind().dialect.name == "postgresql" else sa.Text()
