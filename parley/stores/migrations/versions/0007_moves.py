"""Ways to find who came into rooms and left them a moment ago; none to find a session by its token."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_members_joined_at", "members", ["joined_at"])
    left = sa.column("left_at").is_not(None)
    op.create_index("ix_members_left_at", "members", ["left_at"], sqlite_where=left, postgresql_where=left)
    op.drop_index("ix_sessions_token_hash", "sessions")


def downgrade() -> None:
    op.create_index("ix_sessions_token_hash", "sessions", ["token_hash"], unique=True)
    op.drop_index("ix_members_left_at", "members")
    op.drop_index("ix_members_joined_at", "members")
