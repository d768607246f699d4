"""After any course of events a store is as the rules say, and clients that catch up see it so."""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from msgspec.structs import replace

from parley.errors import ParleyError
from parley.ids import new_id
from parley.models import (
    Change,
    Changes,
    Delete,
    Edit,
    Member,
    Message,
    React,
    Role,
    Room,
    Send,
    User,
)
from parley.stores.base import NEWEST_PAGE, Store
from tests.contracts.conftest import NAMES, STORES
from tests.contracts.kitchen import a_room, a_user, at, marked, send
from tests.contracts.reference import Entry, ReferenceRoom, seen

T = TypeVar("T")

ANN, BOB, CLEO = PEOPLE = [a_user(name) for name in ("ann", "bob", "cleo")]
# Small limits, so that a few messages reach them.
ROOMS = [a_room("kitchen", history_limit=4), a_room("study", kind="private")]

_rooms = st.sampled_from([room.id for room in ROOMS])
_people = st.sampled_from([user.id for user in PEOPLE])
# Few ids, so that most are sent again, and some by somebody else.
_ids = st.sampled_from([new_id() for _ in range(8)])
_texts = st.sampled_from(["one", "two"])
_sends = st.builds(
    Send,
    room_id=_rooms,
    id=_ids,
    author_id=_people,
    author_name=st.just("somebody"),
    kind=st.just("text"),
    text=_texts,
    sent_at=st.just(at(1)),
    reply_to=st.none() | st.none() | st.none() | _ids,
)
_of_message: dict[str, Any] = {"room_id": _rooms, "id": _ids, "user_id": _people}
_edits = st.builds(Edit, text=_texts, at=st.just(at(2)), **_of_message)
_deletes = st.builds(Delete, at=st.just(at(3)), **_of_message)
_reacts = st.builds(React, emoji=st.sampled_from("👍🎉"), on=st.booleans(), **_of_message)
_changes = st.one_of(_sends, _sends, _edits, _deletes, _reacts)


@dataclass
class Client:
    """What a client knows of a room, and how it learns more."""

    revision: int
    messages: dict[int, Message]
    members: dict[str, Member]
    history_limit: int | None = field(kw_only=True)

    def learn(self, changes: Changes) -> None:
        if changes.reset:
            self.messages.clear()
            self.members.clear()
        self.revision = changes.revision
        self.messages.update({message.seq: message for message in changes.messages})
        for member in changes.members:
            # A read mark is state and no change: nobody is told of it here.
            self.members[member.user_id] = replace(member, read_seq=0)
            if member.left_at is not None:
                del self.members[member.user_id]
        if self.history_limit is not None and self.messages:
            oldest = max(self.messages) - self.history_limit
            self.messages = {seq: each for seq, each in self.messages.items() if seq > oldest}


class Chat(RuleBasedStateMachine):
    """Three people in two rooms, one of which forgets, against the reference."""

    make: Callable[[Path], Store]

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self._runner = asyncio.Runner()
        self.store = self.make(Path(self._directory.name))
        self.rooms = {room.id: ReferenceRoom(room.kind == "public", room.history_limit) for room in ROOMS}
        self.joined: dict[str, list[str]] = {user.id: [] for user in PEOPLE}
        self.moment = 0
        self.clients: list[tuple[str, Client]] = []
        self.run(self._begin())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)

    def teardown(self) -> None:
        self.run(self.store.close())
        self._runner.close()
        self._directory.cleanup()

    async def _begin(self) -> None:
        await self.store.open()
        for user in PEOPLE:
            await self.store.add_user(user)
        for room in ROOMS:
            await self.store.add_room(room)
            await self._comes(room.id, ANN.id, Role.OWNER)
            await self._comes(room.id, BOB.id, Role.MEMBER)
            self.clients.append((room.id, await self._snapshot(room.id)))

    async def _comes(self, room_id: str, user_id: str, role: Role) -> None:
        self.moment += 1
        expected = self.rooms[room_id].comes(user_id, role)
        assert bool(await self.store.join(room_id, user_id, role, at(self.moment))) is expected
        if expected:
            self.joined[user_id].append(room_id)

    @rule(room_id=_rooms, user_id=_people, role=st.sampled_from(Role))
    def comes(self, room_id: str, user_id: str, role: Role) -> None:
        self.run(self._comes(room_id, user_id, role))

    @rule(room_id=_rooms, user_id=_people)
    def goes(self, room_id: str, user_id: str) -> None:
        expected = self.rooms[room_id].goes(user_id)
        assert bool(self.run(self.store.leave(room_id, user_id, at(0)))) is expected
        if expected:
            self.joined[user_id].remove(room_id)

    @rule(batch=st.lists(_changes, min_size=1, max_size=6))
    def applies(self, batch: list[Change]) -> None:
        self._applied(batch)

    @rule(
        room=st.sampled_from(ROOMS),
        author=st.sampled_from(PEOPLE),
        count=st.sampled_from([1, 2, 5, 30]),
    )
    def talks(self, room: Room, author: User, count: int) -> None:
        self._applied([send(room, author, "one") for _ in range(count)])

    def _applied(self, batch: Sequence[Change]) -> None:
        expected = [self.rooms[change.room_id].apply(change) for change in batch]
        for room_id in {change.room_id for change in batch}:
            self.rooms[room_id].trim()
        results = self.run(self.store.apply(batch))
        assert expected == [
            type(result) if isinstance(result, ParleyError) else (seen(result.message), result.fresh)
            for result in results
        ]

    @rule(room_id=_rooms, user_id=_people, seq=st.integers(-1, 30))
    def reads(self, room_id: str, user_id: str, seq: int) -> None:
        expected = self.rooms[room_id].reads(user_id, seq)
        assert self.run(_or_refusal(marked(self.store, room_id, user_id, seq))) == expected

    @rule(
        room_id=_rooms,
        before=st.none() | st.integers(0, 20),
        after=st.none() | st.integers(0, 20),
        limit=st.integers(1, 5),
    )
    def pages(self, room_id: str, before: int | None, after: int | None, limit: int) -> None:
        kept = [
            entry
            for entry in self.rooms[room_id].kept()
            if (before is None or entry.seq < before) and (after is None or entry.seq > after)
        ]
        page = self.run(self.store.page(room_id, before=before, after=after, limit=limit))
        assert [seen(message) for message in page] == (kept[-limit:] if after is None else kept[:limit])

    @rule(room_id=_rooms)
    def a_client_comes(self, room_id: str) -> None:
        self.clients.append((room_id, self.run(self._snapshot(room_id))))

    @rule(data=st.data(), limit=st.sampled_from([0, 1, 3, 100]))
    def a_client_catches_up(self, data: st.DataObject, limit: int) -> None:
        room_id, client = data.draw(st.sampled_from(self.clients))
        changes = self.run(self.store.changes(room_id, client.revision, limit))
        room = self.rooms[room_id]
        missed = sum(entry.revision > client.revision for entry in room.sent)
        if room.limit is None:
            assert changes.reset is (missed > limit), "a reset is for histories that are trimmed or too long"
        client.learn(changes)
        fresh = self.run(self._snapshot(room_id))
        assert client.revision == fresh.revision
        assert client.members == fresh.members
        first = min(fresh.messages, default=0)
        assert {seq: each for seq, each in client.messages.items() if seq >= first} == fresh.messages

    async def _snapshot(self, room_id: str) -> Client:
        room = await self.store.room(room_id)
        assert room is not None
        messages = await self.store.page(room_id, limit=NEWEST_PAGE)
        members = await self.store.members(room_id, None, 10) if room.kind == "private" else []
        return Client(
            room.revision,
            {message.seq: message for message in messages},
            {member.user_id: replace(member, read_seq=0) for member in members},
            history_limit=room.history_limit,
        )

    @invariant()
    def the_store_is_as_the_rules_say(self) -> None:
        self.run(self._compare())

    async def _compare(self) -> None:
        heads = await self.store.heads(list(self.rooms))
        assert heads == {room_id: room.revision for room_id, room in self.rooms.items()}
        for room_id, expected in self.rooms.items():
            kept: list[Entry] = [seen(message) for message in await self.store.page(room_id, limit=1000)]
            assert kept == expected.kept()
            room = await self.store.room(room_id)
            assert room is not None
            assert (room.last_seq, room.message_count) == (len(expected.sent), len(kept))
            assert room.member_count == len(expected.roles)
            members = await self.store.members(room_id, None, 10)
            assert {member.user_id: member.role for member in members} == expected.roles
        for user_id, joined in self.joined.items():
            mine = (await self.store.rooms_of([user_id]))[user_id]
            assert [room.id for room in mine] == joined
            for room in mine:
                expected = self.rooms[room.id]
                mark = expected.marks[user_id]
                assert (room.role, room.read_seq) == (expected.roles[user_id], mark)
                assert room.unread == len(expected.sent) - mark


async def _or_refusal(step: Coroutine[Any, Any, T]) -> T | type[ParleyError]:
    try:
        return await step
    except ParleyError as error:
        return type(error)


@pytest.mark.parametrize("name", NAMES)
def test_after_any_course_of_events_a_store_is_as_the_rules_say(name: str) -> None:
    class Here(Chat):
        make = staticmethod(STORES[name])

    # Where CI is set, hypothesis itself takes its derandomised profile.
    run_state_machine_as_test(Here, settings=settings(max_examples=80, stateful_step_count=40, deadline=None))
