"""The chat in this process's memory: nothing survives it. For tests, demos and games."""

from collections.abc import AsyncIterator, Sequence

from msgspec.structs import replace

from parley import permissions
from parley.errors import (
    MessageNotFound,
    NameTaken,
    ParleyError,
    RoomFull,
    UserNotFound,
)
from parley.ids import Time, as_id, new_id, now, now_ms
from parley.models import (
    Applied,
    Change,
    Changes,
    Mark,
    Marked,
    Member,
    Message,
    Role,
    Room,
    RoomChange,
    Send,
    Session,
    Stats,
    User,
)
from parley.stores.base import DELETED, NEWEST_PAGE, Found, Query, Record, UserState
from parley.stores.memory import copy, upkeep
from parley.stores.memory import rooms as _rooms
from parley.stores.memory.chat import Chat, Entry
from parley.stores.rules import (
    can_be_told,
    is_named,
    newest_that_fit,
    resent,
    revised,
    sent,
    strange,
    too_many,
)


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

    async def add_user(
        self,
        user: User,
        rooms: Sequence[str] = (),
        password_hash: str | None = None,
        most: int | None = None,
    ) -> None:
        if user.name in self._chat.user_names:
            raise NameTaken
        if most is not None and len(self._chat.users) >= most:
            raise too_many("PARLEY_MAX_USERS", most)
        entries = [_rooms.open_room(self._chat, room_id) for room_id in rooms]
        if any(entry.is_full() for entry in entries):
            raise RoomFull
        self._chat.users[user.id] = user
        self._chat.user_names[user.name] = user.id
        if password_hash is not None:
            self._chat.passwords[user.id] = password_hash
        at = now()
        for entry in entries:
            _rooms.enter(self._chat, entry, user.id, Role.MEMBER, at)

    async def user(self, key: str) -> User | None:
        return self._chat.users.get(as_id(key) or self._chat.user_names.get(key, ""))

    async def users(self, user_ids: Sequence[str]) -> dict[str, User]:
        return {each: self._chat.users[each] for each in user_ids if each in self._chat.users}

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
            self._remove(user, user, at)
        return [user.id for user in idle]

    async def remove_user(self, user_id: str, at: Time) -> None:
        user = self._chat.users.get(user_id)
        if user is not None:
            self._remove(user, replace(user, name=user_id, display_name=DELETED), at)

    def _remove(self, user: User, as_seen: User, at: Time) -> None:
        for room_id in sorted(self._chat.joined.get(user.id, ())):
            _rooms.leave(self._chat, room_id, user.id, at, None)
        for session in [each for each in self._chat.sessions.values() if each.user_id == user.id]:
            del self._chat.sessions[session.id]
        del self._chat.users[user.id], self._chat.user_names[user.name]
        self._chat.passwords.pop(user.id, None)
        self._chat.removed[user.id] = UserState(user=as_seen, deleted_at=at)
        for entry in self._chat.rooms.values():
            if user.id in entry.members:
                named = replace(entry.members[user.id], name=as_seen.name, display_name=as_seen.display_name)
                entry.members[user.id] = named

    async def report(self, node_id: str, until: Time, came: Sequence[str], went: Sequence[str]) -> bool:
        held, users = self._chat.connected.get(node_id, (None, set()))
        holds = held is not None and held > now()
        self._chat.connected[node_id] = (until, ((users if holds else set()) | set(came)) - set(went))
        return holds

    async def online(self, at: Time, but: str) -> dict[str, set[str]]:
        nodes = self._chat.connected.items()
        return {id_: set(users) for id_, (until, users) in nodes if id_ != but and until > at}

    async def add_session(self, session: Session) -> None:
        if session.user_id not in self._chat.users:
            raise UserNotFound
        self._chat.sessions[session.id] = session

    async def sessions(self, session_ids: Sequence[str]) -> dict[str, tuple[Session, User]]:
        found = (self._chat.sessions[each] for each in session_ids if each in self._chat.sessions)
        return {session.id: (session, self._chat.users[session.user_id]) for session in found}

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
        self._chat.sessions.pop(session_id, None)

    # Rooms

    async def add_room(
        self,
        room: Room,
        owner_id: str | None = None,
        peer_id: str | None = None,
        most: int | None = None,
    ) -> None:
        _rooms.add(self._chat, room, owner_id, peer_id, most)

    async def room(self, key: str, user_id: str | None = None) -> Room | None:
        entry = self._chat.rooms.get(as_id(key) or self._chat.room_names.get(key, ""))
        if entry is None or entry.room.closed_at is not None:
            return None
        return _rooms.seen_by(self._chat, entry, user_id)

    async def rooms_of(self, user_ids: Sequence[str]) -> dict[str, list[Room]]:
        return {user_id: _rooms.rooms_of(self._chat, user_id) for user_id in user_ids}

    async def public_rooms(self, after: str | None, limit: int) -> list[Room]:
        rooms = (entry.seen_by(None) for entry in self._chat.rooms.values())
        found = [room for room in rooms if room.kind == "public" and room.closed_at is None]
        found.sort(key=lambda room: room.id)
        return [room for room in found if after is None or room.id > after][:limit]

    async def heads(self, room_ids: Sequence[str]) -> dict[str, int]:
        rooms = (self._chat.rooms[room_id].room for room_id in room_ids if room_id in self._chat.rooms)
        return {room.id: room.revision for room in rooms if room.closed_at is None}

    async def change_room(self, room_id: str, change: RoomChange, by: str | None = None) -> Room | None:
        return _rooms.change(self._chat, room_id, change, by)

    async def close_room(
        self, room_id: str, at: Time, by: str | None = None, only_if_empty: bool = False
    ) -> Room | None:
        return _rooms.close_by_hand(self._chat, room_id, at, by, only_if_empty)

    async def owns_room(self, user_id: str, closed_after: Time) -> bool:
        rooms = (entry.room for entry in self._chat.rooms.values() if entry.room.created_by == user_id)
        return any(room.closed_at is None or room.closed_at > closed_after for room in rooms)

    async def close_due_rooms(self, at: Time, limit: int) -> list[Room]:
        return _rooms.close_due(self._chat, at, limit)

    # Members

    async def join(
        self,
        room_id: str,
        user_id: str,
        role: Role,
        at: Time,
        by: str | None = None,
        most: int | None = None,
    ) -> Member | None:
        return _rooms.join(self._chat, room_id, user_id, role, at, by, most)

    async def leave(self, room_id: str, user_id: str, at: Time, by: str | None = None) -> Member | None:
        return _rooms.leave(self._chat, room_id, user_id, at, by)

    async def change_role(
        self, room_id: str, user_id: str, role: Role, by: str | None = None
    ) -> Member | None:
        return _rooms.change_role(self._chat, room_id, user_id, role, by)

    async def moved(self, since: Time) -> set[str]:
        return {user_id for user_id, at in self._chat.moved.items() if at >= since}

    async def memberships_of(self, user_id: str) -> list[Member]:
        entries = sorted(self._chat.rooms.values(), key=lambda entry: entry.room.id)
        return [entry.members[user_id] for entry in entries if user_id in entry.members]

    async def members(self, room_id: str, after: str | None, limit: int) -> list[Member]:
        entry = self._chat.rooms.get(room_id)
        present = [] if entry is None else [m for m in entry.members.values() if m.left_at is None]
        present.sort(key=lambda member: member.user_id)
        return [member for member in present if after is None or member.user_id > after][:limit]

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
                _rooms.trim(self._chat.rooms[room_id])
        return results

    def _apply(self, change: Change) -> Applied:
        entry = _rooms.open_room(self._chat, change.room_id)
        seq = entry.seq_of.get(change.id)
        stored = entry.messages[seq] if seq is not None else None
        member = entry.present(change.author_id if isinstance(change, Send) else change.user_id)
        may_look = member is not None or entry.room.kind == "public"
        if isinstance(change, Send) and stored is not None and may_look:
            return resent(change, stored)
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
        entry = _rooms.open_room(self._chat, room_id)
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

    async def mark_read(self, marks: Sequence[Mark]) -> list[Marked | ParleyError]:
        results: list[Marked | ParleyError] = []
        for mark in marks:
            try:
                results.append(self._mark(mark))
            except ParleyError as error:
                results.append(error)
        return results

    def _mark(self, mark: Mark) -> Marked:
        entry = _rooms.open_room(self._chat, mark.room_id)
        member = entry.present(mark.user_id)
        if member is None:
            raise strange(entry.room.kind)
        seq = max(member.read_seq, min(mark.seq, entry.room.last_seq))
        entry.members[mark.user_id] = replace(member, read_seq=seq)
        return Marked(seq=seq, moved=seq > member.read_seq, member_count=entry.room.member_count)

    async def disown(self, room_id: str, user_id: str, after: int, limit: int) -> int | None:
        return upkeep.disown(self._chat, room_id, user_id, after, limit)

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
