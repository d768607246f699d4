"""Whoever is shut out of a room while others go on talking hears nothing of later than that, by the
thousand."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from parley.errors import ParleyError
from parley.models import Room, RoomChange
from tests.realtime.conftest import Client
from tests.servers import until
from tests.web.jitter import jittery
from tests.web.rounds import ROUNDS, STORES, WITHOUT_SERVERS, by_the_thousand, later
from tests.web.snooping import plain_feed, revisions_of, settled
from tests.web.world import Somebody, World, a_world

SENT = 5


class Eavesdropper:
    """Somebody who asks for whatever there is, and comes again, while they are shut out."""

    def __init__(self, somebody: Somebody, room: Room, dice: random.Random) -> None:
        self._somebody = somebody
        self._room = room
        self._dice = dice
        self._clients: list[Client] = []
        self._answers: list[dict[str, Any]] = []

    async def comes(self, since: int | None = None) -> Client:
        """One more connection, which resumes in the room."""
        client = self._somebody.connection()
        self._clients.append(client)
        resumed = {} if since is None else {self._room.id: since}
        await self._ask(client, op="hello", token=client.token, since=resumed)
        return client

    async def asks(self) -> None:
        """Ask for some of what can be asked on a connection that stays."""
        client = await self.comes()
        here = {"room": self._room.id}
        ways: list[dict[str, Any]] = [
            {"op": "message.page", **here},
            {"op": "message.changes", "since": 0, **here},
            {"op": "message.search", "query": "word", **here},
            {"op": "message.search", "query": "word"},
            {"op": "message.unread", **here},
            {"op": "room.see", **here},
            {"op": "room.list", "scope": "mine"},
            {"op": "room.open", "since": 0, **here},
            {"op": "member.list", **here},
        ]
        for way in self._dice.sample(ways, 4):
            answer = await self._ask(client, **way)
            self._answers.append(answer.get("ok", {}) | {"room_id": self._room.id})

    async def _ask(self, client: Client, **command: Any) -> dict[str, Any]:
        """What a command is answered, if anything: the connection may be sent away to come back."""
        ref = client.send(**command)
        await until(lambda: client.answer(ref) or client.closed_with, what=f"the answer to {command}")
        return client.answer(ref) or {}

    async def returns(self) -> None:
        """Come again from here and there in the history."""
        for since in self._dice.sample((0, 1, 2, 3, 2**40), 2):
            await self.comes(since)

    def latest(self) -> int:
        """The last revision of the room that they have heard of by any of these ways."""
        told = [line for client in self._clients for line in client.lines()]
        return max(revisions_of(self._room.id, [told, self._answers]), default=0)

    def goes(self) -> None:
        for client in self._clients:
            client.session.closed()


@pytest.fixture(params=WITHOUT_SERVERS)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(jittery(STORES[request.param](tmp_path), seed=1)) as world:
        yield world


@pytest.fixture
def rounds(request: pytest.FixtureRequest, world: World) -> int:
    return ROUNDS[request.node.callspec.params["world"]]


async def talk(authors: Iterable[Somebody], room: Room, dice: random.Random) -> None:
    """Everybody says something, one after the other and all at once."""

    async def say(author: Somebody, number: int) -> None:
        await later(dice, lambda: author.says(room, f"word {number}"))

    await asyncio.gather(*(say(author, number) for author in authors for number in range(SENT)))


async def test_who_is_removed_hears_of_nothing_later(world: World, rounds: int) -> None:
    ann = await world.person("Ann")

    async def one(dice: random.Random) -> str | None:
        bob = await world.person("Bob")
        room = await ann.makes("private", history_limit=dice.choice((None, 2)))
        await ann.brings(room, bob)
        await ann.says(room, "a word before")
        thief = Eavesdropper(bob, room, dice)
        await thief.comes(0)
        await asyncio.gather(
            talk([ann], room, dice),
            later(dice, lambda: ann.removes(room, bob)),
            later(dice, thief.asks),
            later(dice, thief.returns),
        )
        await ann.says(room, "a word after")
        await settled()
        removal = await left_at(bob, room)
        latest = thief.latest()
        thief.goes()
        await world.core.rooms.close(ann.user, room.id)
        return f"{latest} is later than {removal}" if latest > removal else None

    assert await by_the_thousand(rounds, one) == []


async def test_visitors_hear_of_nothing_later_than_that_the_room_is_private(
    world: World, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await world.person("Ann")
    private_since: dict[str, int] = {}
    change_room = world.core.store.change_room

    async def noted(room_id: str, change: RoomChange, by: str | None = None) -> Room | None:
        changed = await change_room(room_id, change, by)
        assert changed is not None
        private_since[room_id] = changed.revision
        return changed

    monkeypatch.setattr(world.core.store, "change_room", noted)

    async def one(dice: random.Random) -> str | None:
        bob = await world.person("Bob")
        room = await ann.makes("public", history_limit=dice.choice((None, 2)))
        await ann.says(room, "a word before")
        visitor = Eavesdropper(bob, room, dice)
        client = await visitor.comes(0)
        assert "ok" in await client.ask(op="room.open", room=room.id)
        _, lines = plain_feed(world, room)
        await asyncio.gather(
            talk([ann], room, dice),
            later(dice, lambda: world.core.rooms.change(ann.user, room.id, kind="private")),
            later(dice, visitor.asks),
            later(dice, visitor.returns),
            later(dice, lambda: comes_and_goes(bob, room)),
        )
        await ann.says(room, "a word after")
        await settled()
        latest = max(visitor.latest(), *revisions_of_lines(room, lines.frames))
        visitor.goes()
        await world.core.rooms.close(ann.user, room.id)
        # Who was a member at that moment, and left then, hears up to that.
        left = await left_at(bob, room)
        until = max(left, private_since.pop(room.id) - 1)
        return f"{latest} is later than {until}" if latest > until else None

    assert await by_the_thousand(rounds, one) == []


async def left_at(somebody: Somebody, room: Room) -> int:
    """With which revision they left, if that was one."""
    memberships = await somebody.world.core.store.memberships_of(somebody.id)
    return next((each.revision for each in memberships if each.room_id == room.id), 0)


async def comes_and_goes(somebody: Somebody, room: Room) -> None:
    """Join and leave at once, as far as one still may."""
    rooms = somebody.world.core.rooms
    await asyncio.gather(
        rooms.join(somebody.user, room.id), rooms.leave(somebody.user, room.id), return_exceptions=True
    )
    try:
        await rooms.leave(somebody.user, room.id)
    except ParleyError:
        pass


def revisions_of_lines(room: Room, frames: list[bytes]) -> list[int]:
    client_lines = [line for frame in frames for line in frame.split(b"\n")]
    return [0, *revisions_of(room.id, [msgspec.json.decode(line) for line in client_lines])]
