"""The tables. Times are milliseconds since the epoch."""

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    event,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
    }
)

meta = Table(
    "meta",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("last_seen_at", BigInteger),
    Column("deleted_at", BigInteger),
    Column("password_hash", Text),
    # The display name, casefolded, because no two databases agree on how to do that.
    Column("folded_name", Text, nullable=False, server_default=""),
)

_there = users.c.deleted_at.is_(None)
_gone = users.c.deleted_at.is_not(None)
_guest = (users.c.kind == "guest") & _there

# The name of somebody who is gone is free again.
Index("ix_users_name", users.c.name, unique=True, sqlite_where=_there, postgresql_where=_there)
Index("ix_users_guests", users.c.last_seen_at, sqlite_where=_guest, postgresql_where=_guest)
Index("ix_users_deleted", users.c.deleted_at, sqlite_where=_gone, postgresql_where=_gone)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", Text, ForeignKey("users.id"), nullable=False),
    Column("token_hash", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("label", Text, nullable=False, server_default=""),
    Column("generation", BigInteger, nullable=False, server_default="0"),
    Column("rotated_at", BigInteger),
    Index("ix_sessions_user_id", "user_id"),
    Index("ix_sessions_expires_at", "expires_at"),
)

rooms = Table(
    "rooms",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text),
    Column("title", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("created_by", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("capacity", Integer),
    Column("history_limit", Integer),
    Column("read_only", Boolean, nullable=False),
    Column("close_when_empty", Boolean, nullable=False),
    Column("member_count", Integer, nullable=False),
    # The messages kept are those from first_seq to last_seq, so that nobody has to count rows.
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("last_message_at", BigInteger),
    Column("revision", BigInteger, nullable=False),
    # The latest revision stamped on a message that is gone, and on the room's own settings.
    Column("trimmed_revision", BigInteger, nullable=False),
    Column("settings_revision", BigInteger, nullable=False),
    Column("closed_at", BigInteger),
    Index("ix_rooms_created_by", "created_by"),
)

_open = rooms.c.closed_at.is_(None)
_listed = _open & (rooms.c.kind == "public")
_ending = _open & rooms.c.expires_at.is_not(None)
_closed = rooms.c.closed_at.is_not(None)
left_alone = _open & (rooms.c.member_count == 0) & (rooms.c.close_when_empty | (rooms.c.kind != "public"))
"""The rooms that are empty and to be closed therefore."""

# The name of a closed room is free again.
Index("ix_rooms_name", rooms.c.name, unique=True, sqlite_where=_open, postgresql_where=_open)
Index("ix_rooms_public", rooms.c.id, sqlite_where=_listed, postgresql_where=_listed)
Index("ix_rooms_expires_at", rooms.c.expires_at, sqlite_where=_ending, postgresql_where=_ending)
Index("ix_rooms_alone", rooms.c.id, sqlite_where=left_alone, postgresql_where=left_alone)
Index("ix_rooms_closed_at", rooms.c.closed_at, sqlite_where=_closed, postgresql_where=_closed)

members = Table(
    "members",
    metadata,
    Column("room_id", Text, ForeignKey("rooms.id"), primary_key=True),
    Column("user_id", Text, ForeignKey("users.id"), primary_key=True),
    Column("role", Text, nullable=False),
    Column("joined_at", BigInteger, nullable=False),
    Column("left_at", BigInteger),
    Column("read_seq", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index("ix_members_user_id", "user_id"),
    Index("ix_members_revision", "room_id", "revision"),
    Index("ix_members_joined_at", "joined_at"),
    sqlite_with_rowid=False,
)

_left = members.c.left_at.is_not(None)
Index("ix_members_left_at", members.c.left_at, sqlite_where=_left, postgresql_where=_left)

# Without row ids a room's messages lie together in their order: a page is one stretch of the file.
messages = Table(
    "messages",
    metadata,
    Column("room_id", Text, ForeignKey("rooms.id"), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("author_id", Text, nullable=False),
    Column("author_name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("reply_to", Text),
    Column("sent_at", BigInteger, nullable=False),
    Column("edited_at", BigInteger),
    Column("deleted_at", BigInteger),
    # JSON, {emoji: [user id, …]}, or nothing where nobody reacted.
    Column("reactions", Text),
    Index("ix_messages_id", "room_id", "id", unique=True),
    Index("ix_messages_revision", "room_id", "revision"),
    sqlite_with_rowid=False,
)

# The nodes, until when what they reported last holds, and who is connected to which of them.
nodes = Table(
    "nodes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("expires_at", BigInteger, nullable=False),
)

connected = Table(
    "connected",
    metadata,
    Column("node_id", Text, primary_key=True),
    Column("user_id", Text, primary_key=True),
    sqlite_with_rowid=False,
)

# How much there is of what: the value of a name is the sum of its rows. `minute` is 0 but for messages
# "sent", which are counted by the minute.
counters = Table(
    "counters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("minute", BigInteger, primary_key=True, autoincrement=False),
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("value", BigInteger, nullable=False),
)

# How far the index of words has come in each room. The index itself is the table `words`, which each
# database makes in its own way; a message's place there is number << 32 | seq.
indexed = Table(
    "indexed",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("room_id", Text, ForeignKey("rooms.id"), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Index("ix_indexed_room_id", "room_id", unique=True),
)

WORDS_IN_SQLITE = "CREATE VIRTUAL TABLE words USING fts5(text, tokenize=ascii, detail=none, columnsize=0)"
_words_in_sqlite = DDL(WORDS_IN_SQLITE).execute_if(dialect="sqlite")  # type: ignore[no-untyped-call]
event.listen(metadata, "after_create", _words_in_sqlite)
