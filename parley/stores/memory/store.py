"""The chat in this process's memory: nothing survives it. For tests, demos and games."""

from collections.abc import AsyncIterator, Sequence

from msgspec.structs import replace

from parley import permissions
from parley.errors import (
    MessageNotFound,
    NameTaken,
    ParleyError,
    RoomFull,
    RoomNotFound,
    UserNotFound,
)
from parley.ids import Time, as_id, new_id, now, now_ms
from parley.models import (
    Applied,
    Change,
    Changes,
    Member,
    Message,
    Role,
    Room,
    Send,
    Session,
    Stats,
    User,
)
from parley.stores.base import (
    NEWEST_PAGE,
    Found,
    Query,
    Record,
    UserState,
    can_be_told,
    is_named,
    newest_that_fit,
    resent,
    revised,
    sent,
    strange,
)
from parley.stores.memory import copy, upkeep
from parley.stores.memory.chat import Chat, Entry


class MemoryStore:
    """Keeps the promises of `Store`. Each step runs without awaiting, which makes it atomic."""

    def __init__(self) -> None:
        self.epoch = new_id()
        self._chat = Chat()

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def ping(self) -> None:
        pass

    async def keep(self, name: str, value: str) -> str:
        return self._chat.kept.setdefault(name, value)

    async def kept(self, name: str) -> str | None:
        return self.epoch if name == "epoch" else self._chat.kept.get(name)

    # People

    async def add_user(self, user: User, rooms: Sequence[str] = (), password_hash: str | None = None) -> None:
        if user.name in self._chat.user_names:
            raise NameTaken
        entries = [self._open(room_id) for room_id in rooms]
        if any(entry.is_full() for entry in entries):
            raise RoomFull
        self._chat.users[user.id] = user
        self._chat.user_names[user.name] = user.id
        if password_hash is not None:
            self._chat.passwords[user.id] = password_hash
        at = now()
        for entry in entries:
            self._join(entry, user.id, Role.MEMBER, at)

    async def user(self, key: str) -> User | None:
        return self._chat.users.get(as_id(key) or self._chat.user_names.get(key, ""))

    async def password_hash(self, user_id: str) -> str | None:
        return self._chat.passwords.get(user_id)

    async def find_users(self, text: str, after: str | None, limit: int) -> list[User]:
        users = sorted(self._chat.users.values(), key=lambda user: user.id)
        found = [each for each in users if is_named(each, text) and (after is None or each.id > after)]
        return found[:limit]

    async def change_user(self, user_id: str, display_name: str) -> User:
        user = self._chat.users.get(user_id)
        if user is None:
            raise UserNotFound
        user = self._chat.users[user_id] = replace(user, display_name=display_name)
        for entry in self._chat.rooms.values():
            if user_id in entry.members:
                entry.members[user_id] = replace(entry.members[user_id], display_name=display_name)
        return user

    async def change_password(self, user_id: str, password_hash: str) -> None:
        if user_id not in self._chat.users:
            raise UserNotFound
        self._chat.passwords[user_id] = password_hash

    async def saw(self, users: dict[str, Time]) -> None:
        for user_id, at in users.items():
            user = self._chat.users.get(user_id)
            if user is not None and (user.last_seen_at is None or user.last_seen_at < at):
                self._chat.users[user_id] = replace(user, last_seen_at=at)

    async def expire_guests(self, at: Time, idle_since: Time, limit: int) -> list[str]:
        kept = {session.user_id for session in self._chat.sessions.values() if session.expires_at > at}
        for entry in self._chat.rooms.values():
            if entry.room.created_by and not (entry.room.closed_at and entry.room.closed_at <= idle_since):
                kept.add(entry.room.created_by)
        guests = (user for user in self._chat.users.values() if user.kind == "guest" and user.id not in kept)
        idle = [user for user in guests if user.last_seen_at and user.last_seen_at <= idle_since][:limit]
        for user in idle:
            for room_id in sorted(self._chat.joined.get(user.id, ())):
                await self.leave(room_id, user.id, at)
            for session in [each for each in self._chat.sessions.values() if each.user_id == user.id]:
                await self.end_session(session.id)
            self._chat.removed[user.id] = UserState(user=self._chat.users.pop(user.id), deleted_at=at)
            del self._chat.user_names[user.name]
        return [user.id for user in idle]

    async def add_session(self, session: Session) -> None:
        if session.user_id not in self._chat.users:
            raise UserNotFound
        self._chat.sessions[session.id] = session
        self._chat.tokens[session.token_hash] = session.id

    async def session(self, token_hash: bytes) -> tuple[Session, User] | None:
        session_id = self._chat.tokens.get(token_hash)
        return await self.session_of(session_id) if session_id is not None else None

    async def session_of(self, session_id: str) -> tuple[Session, User] | None:
        session = self._chat.sessions.get(session_id)
        return (session, self._chat.users[session.user_id]) if session is not None else None

    async def sessions_of(self, user_id: str) -> list[Session]:
        sessions = (each for each in self._chat.sessions.values() if each.user_id == user_id)
        return sorted(sessions, key=lambda session: session.id)

    async def rotate_session(
        self, session_id: str, generation: int, at: Time, expires_at: Time
    ) -> Session | None:
        session = self._chat.sessions.get(session_id)
        if session is None or session.generation != generation:
            return None
        session = replace(session, generation=generation + 1, rotated_at=at, expires_at=expires_at)
        self._chat.sessions[session_id] = session
        return session

    async def extend_sessions(self, expires_at: dict[str, Time]) -> None:
        for session_id, until in expires_at.items():
            session = self._chat.sessions.get(session_id)
            if session is not None and session.expires_at < until:
                self._chat.sessions[session_id] = replace(session, expires_at=until)

    async def end_session(self, session_id: str) -> None:
        session = self._chat.sessions.pop(session_id, None)
        if session is not None:
            del self._chat.tokens[session.token_hash]

    # Rooms

    async def add_room(self, room: Room, owner_id: str | None = None) -> None:
        if room.name is not None and room.name in self._chat.room_names:
            raise NameTaken
        entry = Entry(room)
        if owner_id is not None:
            self._join(entry, owner_id, Role.OWNER, room.created_at)
        self._chat.rooms[room.id] = entry
        if room.name is not None:
            self._chat.room_names[room.name] = room.id

    async def room(self, key: str, user_id: str | None = None) -> Room | None:
        entry = self._chat.rooms.get(as_id(key) or self._chat.room_names.get(key, ""))
        return entry.seen_by(user_id) if entry is not None and entry.room.closed_at is None else None

    async def rooms_of(self, user_id: str) -> list[Room]:
        entries = [self._chat.rooms[room_id] for room_id in self._chat.joined.get(user_id, ())]
        entries.sort(key=lambda entry: (entry.members[user_id].joined_at, entry.room.id))
        return [entry.seen_by(user_id) for entry in entries if entry.room.closed_at is None]

    async def public_rooms(self, after: str | None, limit: int) -> list[Room]:
        rooms = (entry.seen_by(None) for entry in self._chat.rooms.values())
        found = [room for room in rooms if room.kind == "public" and room.closed_at is None]
        found.sort(key=lambda room: room.id)
        return [room for room in found if after is None or room.id > after][:limit]

    async def heads(self, room_ids: Sequence[str]) -> dict[str, int]:
        rooms = (self._chat.rooms[room_id].room for room_id in room_ids if room_id in self._chat.rooms)
        return {room.id: room.revision for room in rooms if room.closed_at is None}

    async def limit_history(self, room_id: str, history_limit: int) -> None:
        entry = self._open(room_id)
        if entry.room.history_limit != history_limit:
            revision = entry.settings_revision = entry.room.revision + 1
            entry.room = replace(entry.room, history_limit=history_limit, revision=revision)
            self._trim(entry)

    async def owns_room(self, user_id: str, closed_after: Time) -> bool:
        rooms = (entry.room for entry in self._chat.rooms.values() if entry.room.created_by == user_id)
        return any(room.closed_at is None or room.closed_at > closed_after for room in rooms)

    async def close_due_rooms(self, at: Time, limit: int) -> list[Room]:
        entries = [each for each in self._chat.rooms.values() if each.room.closed_at is None]
        due = [each for each in entries if each.room.expires_at and each.room.expires_at <= at][:limit]
        for entry in due:
            revision = entry.settings_revision = entry.room.revision + 1
            entry.room = replace(entry.room, closed_at=at, revision=revision)
            if entry.room.name is not None:
                del self._chat.room_names[entry.room.name]
        return [entry.seen_by(None) for entry in due]

    # Members

    async def join(self, room_id: str, user_id: str, role: Role, at: Time) -> bool:
        return self._join(self._open(room_id), user_id, role, at)

    async def leave(self, room_id: str, user_id: str, at: Time) -> bool:
        entry = self._chat.rooms.get(room_id)
        member = entry.present(user_id) if entry else None
        if entry is None or member is None:
            return False
        entry.set_member(replace(member, left_at=at))
        entry.room = replace(entry.room, member_count=entry.room.member_count - 1)
        self._chat.joined[user_id].discard(room_id)
        return True

    async def members(self, room_id: str, after: str | None, limit: int) -> list[Member]:
        entry = self._chat.rooms.get(room_id)
        present = [] if entry is None else [m for m in entry.members.values() if m.left_at is None]
        present.sort(key=lambda member: member.user_id)
        return [member for member in present if after is None or member.user_id > after][:limit]

    def _open(self, room_id: str) -> Entry:
        entry = self._chat.rooms.get(room_id)
        if entry is None or entry.room.closed_at is not None:
            raise RoomNotFound
        return entry

    def _join(self, entry: Entry, user_id: str, role: Role, at: Time) -> bool:
        user, former = self._chat.users.get(user_id), entry.members.get(user_id)
        if user is None:
            raise UserNotFound
        if entry.present(user_id) is not None:
            return False
        if entry.is_full():
            raise RoomFull
        entry.set_member(
            Member(
                room_id=entry.room.id,
                user_id=user_id,
                name=user.name,
                display_name=user.display_name,
                role=role,
                joined_at=at,
                read_seq=former.read_seq if former else 0,
            )
        )
        entry.room = replace(entry.room, member_count=entry.room.member_count + 1)
        self._chat.joined.setdefault(user_id, set()).add(entry.room.id)
        return True

    # History

    async def apply(self, changes: Sequence[Change]) -> list[Applied | ParleyError]:
        results: list[Applied | ParleyError] = []
        for change in changes:
            try:
                results.append(self._apply(change))
            except ParleyError as error:
                results.append(error)
        for room_id in {change.room_id for change in changes}:
            if room_id in self._chat.rooms:
                self._trim(self._chat.rooms[room_id])
        return results

    def _apply(self, change: Change) -> Applied:
        entry = self._open(change.room_id)
        seq = entry.seq_of.get(change.id)
        stored = entry.messages[seq] if seq is not None else None
        if isinstance(change, Send) and stored is not None:
            return resent(change, stored)
        member = entry.present(change.author_id if isinstance(change, Send) else change.user_id)
        if member is None:
            raise strange(entry.room.kind)
        revision = entry.room.revision + 1
        if isinstance(change, Send):
            message = self._sent(entry, change, member.role, revision)
        else:
            message = revised(change, stored, member.role, revision)
            if message is stored:
                return Applied(message=message, fresh=False)
        entry.messages[message.seq] = message
        entry.room = replace(entry.room, revision=revision)
        return Applied(message=message, fresh=True)

    def _sent(self, entry: Entry, send: Send, role: Role, revision: int) -> Message:
        permissions.may_send(role, read_only=entry.room.read_only)
        if send.reply_to is not None and send.reply_to not in entry.seq_of:
            raise MessageNotFound("The message that this one answers is not there.")
        seq = entry.room.last_seq + 1
        entry.seq_of[send.id] = seq
        minute = now_ms() // 60_000
        self._chat.sent_in[minute] = self._chat.sent_in.get(minute, 0) + 1
        entry.room = replace(entry.room, last_seq=seq, last_message_at=send.sent_at)
        return sent(send, seq, revision)

    def _trim(self, entry: Entry) -> None:
        if entry.room.history_limit is None:
            return
        for seq in list(entry.messages)[: max(0, len(entry.messages) - entry.room.history_limit)]:
            gone = entry.messages.pop(seq)
            del entry.seq_of[gone.id]
            entry.trimmed_revision = max(entry.trimmed_revision, gone.revision)

    async def page(
        self, room_id: str, *, before: int | None = None, after: int | None = None, limit: int
    ) -> list[Message]:
        entry = self._chat.rooms.get(room_id)
        if entry is None:
            return []
        messages = list(entry.messages.values())
        if after is not None:
            return [m for m in messages if m.seq > after and (before is None or m.seq < before)][:limit]
        return [m for m in messages if before is None or m.seq < before][-limit:]

    async def changes(self, room_id: str, since: int, limit: int) -> Changes:
        entry = self._open(room_id)
        revision = entry.room.revision
        changed = [m for m in entry.messages.values() if m.revision > since]
        if not (entry.trimmed_revision <= since <= revision and can_be_told(changed, limit)):
            newest = newest_that_fit(list(entry.messages.values())[-NEWEST_PAGE:])
            present = [m for m in entry.members.values() if m.left_at is None and entry.room.kind != "public"]
            present.sort(key=lambda member: member.revision)
            room = entry.seen_by(None)
            return Changes(revision=revision, messages=newest, members=present, room=room, reset=True)
        changed.sort(key=lambda message: message.revision)
        members = sorted((m for m in entry.members.values() if m.revision > since), key=lambda m: m.revision)
        settings = entry.seen_by(None) if entry.settings_revision > since else None
        return Changes(revision=revision, messages=changed, members=members, room=settings)

    async def mark_read(self, room_id: str, user_id: str, seq: int) -> int:
        entry = self._open(room_id)
        member = entry.present(user_id)
        if member is None:
            raise strange(entry.room.kind)
        read_seq = max(member.read_seq, min(seq, entry.room.last_seq))
        entry.members[user_id] = replace(member, read_seq=read_seq)
        return read_seq

    async def search(self, query: Query) -> Found:
        return upkeep.search(self._chat, query)

    # Upkeep

    async def index(self) -> bool:
        return False

    async def purge(self, before: Time, limit: int) -> int:
        ended = upkeep.ended_sessions(self._chat, before, limit)
        for session in ended:
            await self.end_session(session.id)
        return len(ended) + upkeep.purge_rooms(self._chat, before)

    async def stats(self, at: Time) -> Stats:
        return upkeep.stats(self._chat, at)

    def dump(self) -> AsyncIterator[Record]:
        return copy.dump(self._chat)

    async def load(self, records: Sequence[Record]) -> None:
        copy.load(self._chat, records)
