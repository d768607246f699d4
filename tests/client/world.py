"""A room in a store, and a client that hears of it badly: events are lost, repeated and late."""

import copy
import random

from msgspec import UNSET
from msgspec.structs import replace

from parley import events as server_events
from parley.client.state import ChatState
from parley.errors import UserNotFound
from parley.ids import from_ms, new_id
from parley.models import Change, Changes, Delete, Edit, Message, React, Role, Room, RoomChange, Send, User
from parley.realtime.protocol import Welcome, events
from parley.stores.memory import MemoryStore
from tests.contracts.kitchen import marked

ANN, BOB, CLEO = (
    User(id=new_id(), name=name, display_name=name.title(), kind="guest") for name in ("ann", "bob", "cleo")
)
MAX_CHANGES = 6
"""Fewer than a server's, so that resets happen."""


class World:
    """A store, and one client that hears of it badly."""

    def __init__(self, random: random.Random, kitchen: Room) -> None:
        self.random = random
        self.kitchen = kitchen.id
        self.at = 0
        self.state = ChatState()
        self.connected = False
        self.on_the_way: list[events.Event] = []
        self.page: tuple[list[Message], int] | None = None
        self.unacknowledged: list[Send] = []
        self.told: list[tuple[str, int]] = []
        self.was_reset = False
        self.backup: MemoryStore | None = None

    async def open(self, kitchen: Room) -> None:
        self.store = MemoryStore()
        for user in (ANN, BOB, CLEO):
            await self.store.add_user(user)
        await self.store.add_room(kitchen, BOB.id)
        await self.store.join(kitchen.id, ANN.id, Role.MEMBER, from_ms(0))

    # What happens on the server

    async def change(self, change: Change) -> None:
        (applied,) = await self.store.apply([change])
        if not isinstance(applied, Exception) and applied.fresh:
            self.happened(server_events.of_change(change, applied.message))
        if isinstance(change, Send) and change.author_id == ANN.id:
            self.unacknowledged.append(change)

    def happened(self, event: events.Event) -> None:
        """Tell the client: now, later, twice or never."""
        if self.connected:
            times = self.random.choice([0, 1, 1, 1, 2])
            for _ in range(times):
                self.on_the_way.insert(self.random.randint(0, len(self.on_the_way)), event)

    async def bob_writes(self) -> None:
        await self.change(self.message(BOB))

    def message(self, author: User) -> Send:
        self.at += 1
        return Send(
            room_id=self.kitchen,
            id=new_id(),
            author_id=author.id,
            author_name=author.name,
            kind="text",
            text=f"text {self.at}",
            sent_at=from_ms(self.at),
        )

    async def ann_writes(self) -> None:
        send = self.message(ANN)
        self.state.written(
            Message(
                id=send.id,
                room_id=send.room_id,
                seq=0,
                revision=0,
                author_id=ANN.id,
                author_name=ANN.name,
                kind="text",
                text=send.text,
                sent_at=send.sent_at,
            )
        )
        await self.change(send)

    async def something_changes(self) -> None:
        page = await self.store.page(self.kitchen, limit=30)
        if page:
            message = self.random.choice(page)
            author, self.at = message.author_id, self.at + 1
            changes: list[Change] = [
                Edit(
                    room_id=self.kitchen,
                    id=message.id,
                    user_id=author,
                    text=f"{self.at}",
                    at=from_ms(self.at),
                ),
                Delete(room_id=self.kitchen, id=message.id, user_id=author, at=from_ms(self.at)),
                React(
                    room_id=self.kitchen,
                    id=message.id,
                    user_id=ANN.id,
                    emoji="+",
                    on=self.random.random() < 0.6,
                ),
            ]
            await self.change(self.random.choice(changes))

    async def cleo_comes_or_goes(self) -> None:
        is_public = (await self.fresh_room()).kind == "public"
        told: type[events.MemberLeft] | type[events.MemberJoined] = events.MemberLeft
        member = await self.store.leave(self.kitchen, CLEO.id, from_ms(self.at))
        if member is None:
            told = events.MemberJoined
            member = await self.store.join(self.kitchen, CLEO.id, Role.MEMBER, from_ms(self.at))
        assert member is not None
        if not is_public:
            fields = {"user_id": CLEO.id} if told is events.MemberLeft else {}
            self.happened(told(room_id=self.kitchen, revision=member.revision, member=member, **fields))

    async def somebody_has_another_role(self) -> None:
        role, user = self.random.choice(list(Role)[1:]), self.random.choice([ANN, CLEO])
        try:
            member = await self.store.change_role(self.kitchen, user.id, role)
        except UserNotFound:
            return
        if member is not None:
            self.happened(events.MemberChanged(room_id=self.kitchen, revision=member.revision, member=member))

    async def the_room_is_changed(self) -> None:
        since = (await self.fresh_room()).revision
        self.at += 1
        kind = self.random.choice([UNSET, UNSET, UNSET, "public", "private"])
        limit = self.random.choice([UNSET, UNSET, None, 4])
        change = RoomChange(title=f"title {self.at}", kind=kind, history_limit=limit)  # type: ignore[arg-type]
        room = await self.store.change_room(self.kitchen, change)
        assert room is not None
        if kind is UNSET:
            self.happened(events.RoomChanged(room_id=self.kitchen, revision=room.revision, room=room))
        else:
            changes = await self.store.changes(self.kitchen, since, MAX_CHANGES)
            self.happened(self.as_event(since, changes))

    async def ann_reads_elsewhere(self) -> None:
        seq = await marked(self.store, self.kitchen, ANN.id, self.random.randint(0, 40))
        if self.connected:  # a mark is state and is told again by the next welcome; it is not lost by itself
            self.take(events.ReadMarked(room_id=self.kitchen, user_id=ANN.id, seq=seq))

    async def a_backup_is_made_or_restored(self) -> None:
        if self.backup is None:
            self.backup = copy.deepcopy(self.store)
        else:
            await self.disconnect()
            self.store, self.backup = self.backup, None
            self.store.epoch = new_id()

    # What happens to the client

    async def connect(self) -> None:
        if not self.connected:
            self.connected = True
            since, epoch = self.state.since(), self.state.epoch
            rooms = (await self.store.rooms_of([ANN.id]))[ANN.id]
            self.take(Welcome(user=ANN, session_id="", epoch=self.store.epoch, rooms=rooms, ping_seconds=20))
            for room in rooms:
                if room.id in since:
                    cursor = since[room.id] if epoch == self.store.epoch else 2**53
                    if cursor != room.revision:
                        self.take(
                            self.as_event(cursor, await self.store.changes(room.id, cursor, MAX_CHANGES))
                        )

    async def disconnect(self) -> None:
        self.connected = False
        self.on_the_way.clear()
        self.page = None

    async def an_event_arrives(self) -> None:
        if self.on_the_way:
            self.take(self.on_the_way.pop(0))

    async def a_page_is_asked_for(self) -> None:
        known = self.state.rooms.get(self.kitchen)
        if self.connected and known is not None:
            before = self.random.choice([None, known.begin])
            self.page = await self.store.page(self.kitchen, before=before, limit=4), known.revision

    async def the_page_arrives(self) -> None:
        if self.page is not None:
            self.state.paged(self.kitchen, *self.page)
            self.page = None

    async def an_acknowledgement_arrives(self) -> None:
        if self.connected and self.unacknowledged:
            send = self.unacknowledged.pop(0)
            (applied,) = await self.store.apply([send])  # sent again: it may have been lost with the backup
            if isinstance(applied, Exception):  # ann may only read by now
                self.state.refused(send.id)
            else:
                self.state.stored(applied.message)
                if applied.fresh:
                    self.happened(server_events.of_change(send, applied.message))

    async def holes_are_filled(self) -> None:
        while self.connected and (known := self.state.rooms[self.kitchen]).has_hole:
            since = known.revision
            self.take(self.as_event(since, await self.store.changes(self.kitchen, since, MAX_CHANGES)))

    def take(self, event: events.Event | Welcome) -> None:
        for news in self.state.apply(event):
            if isinstance(news, events.MessageSent):
                self.told.append((self.state.epoch, news.message.seq))
            self.was_reset |= isinstance(news, events.RoomReset)

    def as_event(self, since: int, changes: Changes) -> events.Event:
        if not changes.reset:
            return server_events.of_changes(self.kitchen, since, changes)
        reason = "epoch" if since == 2**53 else "ahead" if since > changes.revision else "behind"
        return server_events.of_reset(self.kitchen, changes, reason)  # type: ignore[arg-type]

    # What must be true in the end

    async def settle(self) -> None:
        await self.connect()
        while self.unacknowledged:
            await self.an_acknowledgement_arrives()
        while self.on_the_way:
            await self.an_event_arrives()
        # The server compares too: the last event of a burst leaves no hole to see.
        self.state.heard_of(self.kitchen, (await self.fresh_room()).revision)
        await self.holes_are_filled()

    async def fresh_room(self) -> Room:
        room = await self.store.room(self.kitchen, ANN.id)
        assert room is not None
        return room

    async def check(self) -> None:
        known, fresh = self.state.rooms[self.kitchen], await self.fresh_room()
        assert replace(known.room, member_count=0) == replace(fresh, member_count=0)
        window = await self.store.page(self.kitchen, after=known.begin - 1, limit=10_000)
        assert list(known.messages.values()) == window
        assert not self.state.pending
        present = {each.user_id: each for each in await self.store.members(self.kitchen, None, 100)}
        for user_id, member in known.members.items():
            assert user_id in present
            assert replace(member, read_seq=0) == replace(present[user_id], read_seq=0)
        assert len(self.told) == len(set(self.told)), "a message was told twice"
        if not self.was_reset and self.told:
            first = self.told[0][1]
            assert sorted(seq for _, seq in self.told) == list(range(first, fresh.last_seq + 1))
