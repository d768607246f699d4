"""What is taken away is gone at once, also for those who are connected: one last event, and no way back."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from parley.models import Room
from parley.realtime.protocol import Close
from tests.realtime.conftest import Client
from tests.servers import until
from tests.web.snooping import plain_feed, settled
from tests.web.world import PASSWORD, Somebody, World, a_world

SOON = 1.0
"""Seconds within which the last event is there."""


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with a_world() as world:
        yield world


@dataclass
class House:
    """Ann's room, with bob in it on two devices, who is connected with both."""

    ann: Somebody
    bob: Somebody
    phone: Somebody
    room: Room
    laptop_line: Client
    phone_line: Client

    async def goes_on(self) -> None:
        """Life in the room goes on without bob, in every way that others would hear of."""
        core = self.ann.world.core
        told = await self.ann.says(self.room, "after that")
        await core.messages.edit(self.ann.user, self.room.id, told.id, "long after that")
        await core.messages.react(self.ann.user, self.room.id, told.id, "👍", on=True)
        await core.marks.mark(self.ann.user, self.room.id, told.seq)
        await core.typing.start(self.ann.user, self.room.id)
        await core.messages.delete(self.ann.user, self.room.id, told.id)
        await core.rooms.change(self.ann.user, self.room.id, title="Another")
        await settled()


@pytest.fixture
async def house(world: World) -> House:
    ann, bob = await world.people("Ann", "Bob")
    phone = await bob.another_device()
    room = await ann.makes("private")
    await ann.brings(room, bob)
    await bob.says(room, "before that")
    return House(ann, bob, phone, room, await bob.connected(), await phone.connected())


def of_room(client: Client, room: Room) -> list[dict[str, Any]]:
    """The events of a room, and what ends a session."""
    told = client.events()
    return [each for each in told if each.get("room_id") == room.id or each["event"] == "session.ended"]


async def last_words(client: Client, room: Room, event: str, goes_on: Callable[[], Awaitable[None]]) -> None:
    """The last event comes soon, and nothing after it whatever goes on."""
    await until(lambda: client.events(event), SOON, f"a last {event}")
    told = of_room(client, room)
    assert told[-1]["event"] == event
    await goes_on()
    assert of_room(client, room) == told


async def is_shut_out(somebody: Somebody, room: Room) -> None:
    """Whoever comes back without the room finds no way into it."""
    for path in ("", "/messages", "/changes?since=0", "/unread", "/members"):
        answer = await somebody.request("GET", f"/rooms/{room.id}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "room_not_found")
    for since in (0, 1, 2**40):
        client = somebody.connection()
        welcome = await client.hello(since={room.id: since})
        assert room.id not in [each["id"] for each in welcome["rooms"]]
        for op in ("room.open", "message.page", "room.see", "room.join"):
            assert (await client.ask(op=op, room=room.id))["error"]["code"] == "room_not_found"
        refused = await client.ask(op="message.send", room=room.id, text="let me in")
        assert refused["error"]["code"] == "room_not_found"
        await settled()
        assert of_room(client, room) == []


async def is_signed_out(somebody: Somebody) -> None:
    """A token that is no longer good opens nothing."""
    for method, path in (("GET", "/me"), ("GET", "/rooms?scope=mine"), ("POST", "/rooms")):
        answer = await somebody.request(method, path, json={} if method == "POST" else None)
        assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
    client = somebody.connection()
    assert (await client.ask(op="hello", token=client.token))["error"]["code"] == "token_invalid"
    assert client.closed_with == Close.UNAUTHENTICATED
    if somebody.signed_in.refresh_token is not None:
        fields = {"refresh_token": somebody.signed_in.refresh_token}
        refused = await somebody.world.http.post("/api/v1/sessions/refresh", json=fields)
        assert (refused.status_code, refused.json()["code"]) == (401, "token_invalid")


async def by_signing_out(house: House) -> None:
    await house.phone.does("DELETE", "/sessions/current")


async def from_another_device(house: House) -> None:
    await house.bob.does("DELETE", f"/sessions/{await house.phone.session_id()}")


async def by_another_password(house: House) -> None:
    await house.bob.does("PUT", "/me/password", json={"password": PASSWORD, "new_password": "new staple"})


@pytest.mark.parametrize("revoke", [by_signing_out, from_another_device, by_another_password])
async def test_a_session_that_is_ended_is_over_and_the_others_go_on(
    house: House, revoke: Callable[[House], Awaitable[None]]
) -> None:
    await revoke(house)
    await last_words(house.phone_line, house.room, "session.ended", house.goes_on)
    assert house.phone_line.closed_with == Close.SESSION_ENDED
    await is_signed_out(house.phone)
    assert house.laptop_line.closed_with is None
    assert house.laptop_line.events("message.deleted")
    await house.bob.does("GET", "/me")


async def test_what_a_revoked_connection_had_still_asked_for_is_not_done(house: House) -> None:
    await by_signing_out(house)
    await until(lambda: house.phone_line.closed_with, SOON)
    before = len(house.phone_line.lines())
    house.phone_line.send(op="message.send", room=house.room.id, text="one more thing")
    house.phone_line.send(op="message.page", room=house.room.id)
    await settled()
    assert len(house.phone_line.lines()) == before
    texts = [
        each.text for each in (await house.ann.world.core.messages.page(house.ann.id, house.room.id)).items
    ]
    assert texts == ["before that"]


async def test_who_is_signed_out_everywhere_is_nowhere(house: House) -> None:
    await house.bob.does("DELETE", "/sessions")
    for line in (house.phone_line, house.laptop_line):
        await last_words(line, house.room, "session.ended", house.goes_on)
        assert line.closed_with == Close.SESSION_ENDED
    await is_signed_out(house.bob)
    await is_signed_out(house.phone)


async def test_who_is_gone_for_good_is_nowhere(house: House) -> None:
    await house.bob.does("DELETE", "/me")
    for line in (house.phone_line, house.laptop_line):
        await last_words(line, house.room, "session.ended", house.goes_on)
        assert line.closed_with == Close.SESSION_ENDED
    await is_signed_out(house.bob)
    await is_signed_out(house.phone)
    refused = await house.bob.world.http.post(
        "/api/v1/sessions", json={"name": house.bob.user.name, "password": PASSWORD}
    )
    assert refused.json()["code"] == "wrong_password"


async def test_who_is_removed_hears_that_and_nothing_more(house: House) -> None:
    await house.ann.removes(house.room, house.bob)
    for line in (house.phone_line, house.laptop_line):
        await last_words(line, house.room, "member.left", house.goes_on)
        assert line.closed_with is None
        assert of_room(line, house.room)[-1]["user_id"] == house.bob.id
    await is_shut_out(house.bob, house.room)


async def test_who_is_in_a_room_that_is_closed_hears_that_and_nothing_more(house: House) -> None:
    await house.ann.world.core.rooms.close(house.ann.user, house.room.id)
    for line in (house.phone_line, house.laptop_line):
        await last_words(line, house.room, "room.closed", settled)
        assert line.closed_with is None
    await is_shut_out(house.bob, house.room)
    await is_shut_out(house.ann, house.room)


@pytest.mark.parametrize("how", ["private", "closed"])
async def test_visitors_are_shown_out(world: World, how: str) -> None:
    ann, bob, cleo = await world.people("Ann", "Bob", "Cleo")
    room = await ann.makes("public")
    await ann.says(room, "before that")
    opened, resumed = await bob.connected(), await cleo.connected(since={room.id: 0})
    assert "ok" in await opened.ask(op="room.open", room=room.id)
    _, lines = plain_feed(world, room)
    await until(lambda: lines.frames)
    if how == "closed":
        await world.core.rooms.close(ann.user, room.id)
    else:
        await world.core.rooms.change(ann.user, room.id, kind="private")

    async def goes_on() -> None:
        if how == "private":
            await ann.says(room, "after that")
        await settled()

    for client in (opened, resumed):
        await last_words(client, room, "room.closed", goes_on)
        assert client.closed_with is None
    await until(lambda: lines.closed_with, SOON)
    assert lines.closed_with == Close.NORMAL
    assert len(lines.frames) == 1
    await is_shut_out(bob, room)
    await is_shut_out(cleo, room)
