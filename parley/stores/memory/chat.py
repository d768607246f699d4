"""A chat as plain dictionaries."""

from dataclasses import dataclass, field

from msgspec.structs import replace

from parley.ids import Time
from parley.models import Member, Message, Role, Room, Session, User
from parley.stores.base import UserState


@dataclass
class Entry:
    """One room with all that is in it. `room` is its own row; counters that move are kept beside it."""

    room: Room
    members: dict[str, Member] = field(default_factory=dict)
    messages: dict[int, Message] = field(default_factory=dict)
    seq_of: dict[str, int] = field(default_factory=dict)
    trimmed_revision: int = 0
    settings_revision: int = 0

    def present(self, user_id: str | None) -> Member | None:
        member = self.members.get(user_id or "")
        return member if member is not None and member.left_at is None else None

    def is_full(self) -> bool:
        return self.room.capacity is not None and self.room.member_count >= self.room.capacity

    def role_of(self, user_id: str) -> Role | None:
        member = self.present(user_id)
        return member.role if member is not None else None

    def owners(self) -> int:
        present = (member for member in self.members.values() if member.left_at is None)
        return sum(member.role is Role.OWNER for member in present)

    def set_member(self, member: Member, *, stamped: bool) -> Member:
        """Put a membership in its place, which may be a change of the room."""
        if stamped:
            self.room = replace(self.room, revision=self.room.revision + 1)
            member = replace(member, revision=self.room.revision)
        self.members[member.user_id] = member
        return member

    def seen_by(self, user_id: str | None) -> Room:
        room = replace(self.room, message_count=len(self.messages))
        member = self.present(user_id)
        if member is None:
            return room
        unread = room.last_seq - member.read_seq
        return replace(room, role=member.role, read_seq=member.read_seq, unread=unread)


@dataclass
class Chat:
    """All that a memory store has: users, sessions and rooms by their ids, and the ways to those."""

    kept: dict[str, str] = field(default_factory=dict)
    users: dict[str, User] = field(default_factory=dict)
    removed: dict[str, UserState] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)
    user_names: dict[str, str] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    rooms: dict[str, Entry] = field(default_factory=dict)
    room_names: dict[str, str] = field(default_factory=dict)
    joined: dict[str, set[str]] = field(default_factory=dict)
    moved: dict[str, Time] = field(default_factory=dict)
    """When a user came into a room or left one last, where that is not long ago."""
    connected: dict[str, tuple[Time, set[str]]] = field(default_factory=dict)
    """Which users are connected to which node, and until when that holds."""
    sent_in: dict[int, int] = field(default_factory=dict)
    """Messages by the minute, since the epoch, in which they came."""
