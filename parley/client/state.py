"""What a client knows: its rooms and what it has written itself. Pure: no socket, no clock.

Events that are applied to an old state give what a fresh one would show. Where they cannot, because one
was missed, the room says so (`has_hole`): what it has become since its `revision` has to be asked for.
"""

import unicodedata
from collections.abc import Sequence

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from parley.client.room_state import RoomState
from parley.realtime.protocol import Member, Message, Room, Welcome, events


class ChatState(msgspec.Struct, kw_only=True, omit_defaults=True):
    """All that one client knows. At most `keep` messages of a room stay when new ones come."""

    me: str = ""
    epoch: str = ""
    rooms: dict[str, RoomState] = {}
    pending: dict[str, Message] = {}
    """Own messages that are not acknowledged yet, by their ids: ordinary messages whose `seq` is 0."""
    keep: int = 1000

    def find(self, key: str) -> RoomState | None:
        """The room of that id or name."""
        name = unicodedata.normalize("NFC", key.strip()).casefold()
        named = (known for known in self.rooms.values() if known.room.name == name)
        return self.rooms.get(key) or next(named, None)

    def since(self) -> dict[str, int]:
        """What to say in `hello`: where each room stands."""
        return {room_id: known.revision for room_id, known in self.rooms.items()}

    def shown(self, room_id: str) -> list[Message]:
        """A room's messages as a person sees them: the window, then what is still on its way."""
        known = self.rooms.get(room_id)
        waiting = [each for each in self.pending.values() if each.room_id == room_id]
        return [*known.messages.values(), *waiting] if known else waiting

    # What this client does itself

    def written(self, message: Message) -> None:
        """A message of ours is on its way."""
        self.pending[message.id] = message

    def stored(self, message: Message) -> None:
        """It was acknowledged. Its event, which comes before or after this, moves the room's revision."""
        self.pending.pop(message.id, None)
        if (known := self.rooms.get(message.room_id)) is not None:
            known.place([message], self.keep)

    def refused(self, message_id: str) -> None:
        """It will never be stored."""
        self.pending.pop(message_id, None)

    def paged(self, room_id: str, page: list[Message], asked_at: int) -> bool:
        """A page of history came; see `RoomState.place_page`."""
        known = self.rooms.get(room_id)
        return known is None or known.place_page(page, asked_at)

    def seen(self, room: Room) -> None:
        """A summary came in answer to a command. A room that is not followed yet has to be added first."""
        if (known := self.rooms.get(room.id)) is not None:
            self._summarise(known, room)

    # What the server tells

    def apply(self, event: events.Event | Welcome) -> list[events.Event]:
        """Take in what the server told; return what is new in it, each message by itself and none twice."""
        if isinstance(event, Welcome):
            return self._welcome(event)
        if isinstance(event, events.SessionEnded | events.PresenceChanged):
            return [event]
        if isinstance(event, events.RoomAdded):
            return self._added(event)
        known = self.rooms.get(event.room_id)
        if known is None:
            return []
        if isinstance(event, events.TypingStarted | events.TypingStopped):
            return [event]
        match event:
            case events.RoomChanges():
                return self._changes(known, event)
            case events.RoomReset():
                return self._reset(known, event)
            case events.RoomClosed():
                del self.rooms[event.room_id]
                return [event]
            case events.MemberLeft(revision=0):
                return self._left(known, event)
            case events.ReadMarked():
                return self._read(known, event)
            case events.MemberJoined() | events.MemberLeft() | events.MemberChanged() | events.RoomChanged():
                return self._changed(known, event)
            case _:
                return self._message(known, event)

    def heard_of(self, room_id: str, revision: int) -> None:
        """Something happened that this client cannot read: asking what the room has become will tell."""
        if (known := self.rooms.get(room_id)) is not None:
            known.heard = max(known.heard, revision)

    def _welcome(self, welcome: Welcome) -> list[events.Event]:
        if welcome.epoch != self.epoch:
            self.rooms = {}
        self.me, self.epoch = welcome.user.id, welcome.epoch
        news: list[events.Event] = []
        mine = {room.id for room in welcome.rooms}
        for room_id in [each for each in self.rooms if each not in mine]:
            del self.rooms[room_id]
            news.append(events.MemberLeft(room_id=room_id, user_id=self.me))
        for room in welcome.rooms:
            known = self.rooms.get(room.id)
            if known is None:
                news += self._added(events.RoomAdded(room_id=room.id, room=room))
            else:
                # The server goes on from our revision: what was heard of beyond it is told again.
                known.heard = known.revision
                self._summarise(known, room)
        return news

    def _added(self, event: events.RoomAdded) -> list[events.Event]:
        room, known = event.room, self.rooms.get(event.room_id)
        if known is None:
            self.rooms[room.id] = RoomState(room=room, heard=room.revision, told=room.last_seq)
        else:
            # Nobody tells by itself what happened between our revision and this one.
            known.heard = max(known.heard, room.revision)
            self._summarise(known, room)
        return [event]

    def _summarise(self, known: RoomState, room: Room) -> None:
        last_seq = max(known.room.last_seq, room.last_seq)
        known.room = replace(room, revision=known.revision)
        if room.kind == "public":
            known.members = {}
        known.note(last_seq=last_seq)

    def _message(self, known: RoomState, event: events.MessageEvent) -> list[events.Event]:
        known.heard = max(known.heard, event.revision)
        if event.revision > known.revision + 1:
            return []
        return self._told(known, event.revision, [event.message], [event])

    def _changed(
        self,
        known: RoomState,
        event: events.MemberJoined | events.MemberLeft | events.MemberChanged | events.RoomChanged,
    ) -> list[events.Event]:
        known.heard = max(known.heard, event.revision)
        if event.revision != known.revision + 1:
            return []
        if (room := events.room_of(event)) is not None:
            self._summarise(known, _as_mine(known, room))
        self._members(known, events.members_of(event))
        return self._told(known, event.revision, [], [event])

    def _changes(self, known: RoomState, event: events.RoomChanges) -> list[events.Event]:
        known.heard = max(known.heard, event.revision)
        if event.since > known.revision:
            return []
        fresh = [each for each in event.messages if each.revision > known.revision]
        # First what has become of old messages, then the new ones in order, which may be changed already.
        old = sorted((each for each in fresh if each.seq <= known.told), key=lambda each: each.revision)
        new = sorted((each for each in fresh if each.seq > known.told), key=lambda each: each.seq)
        news: list[events.Event] = [_news(known, message) for message in (*old, *new)]
        if event.revision > known.revision and (event.room or event.members):
            if event.room is not None:
                self._summarise(known, _as_mine(known, event.room))
            self._members(known, event.members)
            news.append(replace(event, messages=[]))
        return self._told(known, event.revision, event.messages, news)

    def _told(
        self,
        known: RoomState,
        revision: int,
        messages: list[Message],
        news: list[events.Event],
    ) -> list[events.Event]:
        """Take in messages that bring the room to `revision`. If they are old, nothing of it is news."""
        is_new = revision > known.revision
        if is_new:
            summary: dict[str, object] = {"revision": revision}
            newest = max(messages, key=lambda message: message.seq, default=None)
            if newest is not None:
                known.told = max(known.told, newest.seq)
                if newest.seq >= known.room.last_seq:
                    limit = known.room.history_limit
                    kept = newest.seq if limit is None else min(newest.seq, limit)
                    summary |= {
                        "last_seq": newest.seq,
                        "last_message_at": newest.sent_at,
                        "message_count": kept,
                    }
            known.note(**summary)
        self._no_longer_pending(messages)
        changed = known.place(messages, self.keep)
        return news if is_new or changed else []

    def _reset(self, known: RoomState, event: events.RoomReset) -> list[events.Event]:
        news: list[events.Event] = [event]
        if event.reason == "behind":
            fresh = [each for each in event.messages if each.seq > known.told]
            news += [_news(known, each) for each in fresh]
        newest = max((each.seq for each in event.messages), default=0)
        last_seq = event.room.last_seq if event.room is not None else newest
        read_seq = known.room.read_seq
        if read_seq is not UNSET:
            read_seq = min(read_seq, last_seq)
        known.room = replace(_as_mine(known, event.room or known.room), read_seq=read_seq)
        known.note(revision=event.revision, last_seq=last_seq)
        known.heard, known.told, known.forgotten = event.revision, last_seq, 0
        known.messages, known.strays, known.members = {}, {}, {}
        known.place(event.messages, self.keep)
        self._members(known, event.members)
        self._no_longer_pending(event.messages)
        return news

    def _members(self, known: RoomState, members: Sequence[Member]) -> None:
        for member in members:
            if member.left_at is not None:
                known.members.pop(member.user_id, None)
                continue
            if known.room.kind != "public":  # there nobody tells who comes and goes
                known.members[member.user_id] = member
            if member.user_id == self.me:
                known.note(role=member.role, read_seq=max(member.read_seq, _read_seq(known)))

    def _no_longer_pending(self, messages: list[Message]) -> None:
        for message in messages:
            if message.author_id == self.me:
                self.pending.pop(message.id, None)

    def _left(self, known: RoomState, event: events.MemberLeft) -> list[events.Event]:
        if event.user_id == self.me:
            del self.rooms[event.room_id]
        else:
            known.members.pop(event.user_id, None)
        return [event]

    def _read(self, known: RoomState, event: events.ReadMarked) -> list[events.Event]:
        if event.user_id == self.me:
            read_seq = known.room.read_seq
            if read_seq is UNSET or read_seq < event.seq:
                known.note(read_seq=event.seq)
        elif (member := known.members.get(event.user_id)) is not None:
            read_seq = max(member.read_seq, event.seq)
            known.members[event.user_id] = replace(member, read_seq=read_seq)
        return [event]


def _read_seq(known: RoomState) -> int:
    return known.room.read_seq if known.room.read_seq is not UNSET else 0


def _as_mine(known: RoomState, room: Room) -> Room:
    """A room as everybody is told of it, with what is known of it by its member only."""
    mine = known.room
    title = mine.title if mine.kind == "direct" else room.title
    seen = {"role": mine.role, "read_seq": mine.read_seq, "peer": mine.peer}
    return replace(room, title=title, online_count=mine.online_count, **seen)


def _news(known: RoomState, message: Message) -> events.MessageEvent:
    """The event that must have brought this version of a message, as far as that can be told afterwards."""
    before = known.messages.get(message.seq)
    kind: type[events.MessageEvent]
    if message.seq > known.told:
        kind = events.MessageSent
    elif message.deleted_at is not None:
        kind = events.MessageDeleted
    elif before.text != message.text if before is not None else message.edited_at is not None:
        kind = events.MessageEdited
    else:
        kind = events.MessageReacted
    return kind(room_id=message.room_id, revision=message.revision, message=message)
