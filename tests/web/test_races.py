"""What is done at once comes out as if it had been done in some order, one after the other."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from parley.errors import MessageNotFound, ParleyError, RoomFull, RoomNotFound, WrongPassword
from parley.models import Applied, Member, Role
from parley.services.passwords import Passwords
from parley.services.rooms import direct_id
from parley.services.sessions import SignedIn
from tests.servers import until
from tests.web.jitter import jittery
from tests.web.rounds import NAMES, ROUNDS, STORES, by_the_thousand, later
from tests.web.snooping import settled
from tests.web.world import HASHER, PASSWORD, Somebody, World, a_world


@pytest.fixture(params=NAMES)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(jittery(STORES[request.param](tmp_path), seed=1)) as world:
        yield world


@pytest.fixture
def rounds(request: pytest.FixtureRequest, world: World) -> int:
    return ROUNDS[request.node.callspec.params["world"]]


async def outcome(step: Any) -> Any:
    """What came of it, or why not."""
    try:
        return await step
    except ParleyError as error:
        return error


async def test_whoever_is_removed_has_said_it_before_or_not_at_all(world: World, rounds: int) -> None:
    ann, bob = await world.people("Ann", "Bob")
    messages = world.core.messages

    async def one(dice: random.Random) -> str | None:
        room = await ann.makes("private")
        await ann.brings(room, bob)
        sends = [later(dice, lambda: outcome(messages.send(bob.user, room.id, "a word"))) for _ in range(4)]
        *sent, _ = await asyncio.gather(*sends, later(dice, lambda: ann.removes(room, bob)))
        [removal] = [
            each.revision
            for each in await world.core.store.memberships_of(bob.id)
            if each.room_id == room.id and each.left_at is not None
        ]
        said = sorted(each.message.revision for each in sent if isinstance(each, Applied))
        refused = [each for each in sent if not isinstance(each, Applied)]
        stored = (await messages.page(ann.id, room.id)).items
        await world.core.rooms.close(ann.user, room.id)
        if not all(isinstance(each, RoomNotFound) for each in refused):
            return f"refused with {refused}"
        if [each.revision for each in stored] != said or any(each > removal for each in said):
            return f"said {said}, stored {[each.revision for each in stored]}, removed {removal}"
        return None

    assert await by_the_thousand(rounds, one) == []


async def test_nobody_reacts_to_what_is_deleted(world: World, rounds: int) -> None:
    ann, bob, cleo = await world.people("Ann", "Bob", "Cleo")
    messages = world.core.messages
    room = await ann.makes("private")
    await ann.brings(room, bob, cleo)

    async def one(dice: random.Random) -> str | None:
        said = await ann.says(room, "a word")

        def reacts(who: Somebody, emoji: str, on: bool) -> Any:
            return later(dice, lambda: outcome(messages.react(who.user, room.id, said.id, emoji, on=on)))

        ways = [reacts(who, emoji, on) for who in (bob, cleo) for emoji in "👍👎" for on in (True, False)]
        deletion = later(dice, lambda: messages.delete(ann.user, room.id, said.id))
        deleted, *reacted = await asyncio.gather(deletion, *ways)
        end = deleted.message.revision
        fresh = [each for each in reacted if isinstance(each, Applied) and each.fresh]
        refused = [each for each in reacted if not isinstance(each, Applied)]
        [stored] = (await messages.page(ann.id, room.id, after=said.seq - 1, limit=1)).items
        if stored != deleted.message or stored.reactions or stored.text:
            return f"it is {stored}"
        if not all(isinstance(each, MessageNotFound) for each in refused):
            return f"refused with {refused}"
        if any(each.message.revision >= end or not each.message.text for each in fresh):
            return f"reacted at {[each.message.revision for each in fresh]}, deleted at {end}"
        return None

    assert await by_the_thousand(rounds, one) == []


async def test_no_order_of_coming_and_going_passes_the_capacity(
    world: World, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    capacity = 3
    ann = await world.person("Ann")
    crowd = await world.people(*(f"Guest {number}" for number in range(6)))
    done: dict[str, list[Member]] = {}
    store = world.core.store
    join, leave = store.join, store.leave

    async def noted(step: Any, room_id: str, *given: Any) -> Member | None:
        member: Member | None = await step(room_id, *given)
        if member is not None:
            done.setdefault(room_id, []).append(member)
        return member

    monkeypatch.setattr(store, "join", lambda *given: noted(join, *given))
    monkeypatch.setattr(store, "leave", lambda *given: noted(leave, *given))

    async def one(dice: random.Random) -> str | None:
        kind = dice.choice(("private", "public"))
        room = await ann.makes(kind, capacity=capacity)
        rooms = world.core.rooms

        async def comes_and_goes(who: Somebody) -> None:
            for _ in range(2):
                if kind == "public":
                    come = rooms.join(who.user, room.id)
                else:
                    come = rooms.add_member(ann.user, room.id, who.id, "member")
                if not isinstance(error := await outcome(come), ParleyError):
                    await outcome(rooms.leave(who.user, room.id))
                else:
                    assert isinstance(error, RoomFull), error

        counts = []

        async def count() -> None:
            for _ in range(10):
                seen = await rooms.see(room.id, ann.id)
                counts.append((seen.member_count, len(await store.members(room.id, None, 100))))

        await asyncio.gather(count(), *(later(dice, lambda who=who: comes_and_goes(who)) for who in crowd))  # type: ignore[misc]
        seen = await rooms.see(room.id, ann.id)
        present = await store.members(room.id, None, 100)
        await rooms.close(ann.user, room.id)
        steps = done.pop(room.id)
        if max(max(pair) for pair in counts) > capacity or len(present) != seen.member_count:
            return f"there were {counts}, and {len(present)} for {seen.member_count} at the end"
        return none_too_many(steps, capacity) if kind == "private" else None

    assert await by_the_thousand(rounds // 2, one) == []


def none_too_many(steps: list[Member], capacity: int) -> str | None:
    """Go through comings and goings in the order of their revisions, after the owner's."""
    steps.sort(key=lambda member: member.revision)
    present = {"the owner"}
    for number, step in enumerate(steps):
        if step.revision != number + 2:
            return f"step {number} has the revision {step.revision}"
        if (step.left_at is None) == (step.user_id in present):
            return f"step {number} makes no sense: {step}"
        (present.add if step.left_at is None else present.discard)(step.user_id)
        if len(present) > capacity:
            return f"{len(present)} were in at step {number}"
    return None


async def test_roles_keep_an_owner_in_every_order(world: World, rounds: int) -> None:
    ann, bob = await world.people("Ann", "Bob")
    rooms = world.core.rooms

    async def one(dice: random.Random) -> str | None:
        room = await ann.makes("private")
        await ann.brings(room, bob, role="owner")
        steps = [
            lambda: rooms.change_role(ann.user, room.id, bob.id, "reader"),
            lambda: rooms.change_role(bob.user, room.id, ann.id, "reader"),
            lambda: rooms.leave(ann.user, room.id),
            lambda: rooms.leave(bob.user, room.id),
        ]
        tried = dice.sample(steps, 3)
        await asyncio.gather(*(later(dice, lambda step=step: outcome(step())) for step in tried))  # type: ignore[misc]
        present = await world.core.store.members(room.id, None, 10)
        if present and not any(each.role is Role.OWNER for each in present):
            return f"nobody owns it: {present}"
        return None

    assert await by_the_thousand(rounds, one) == []


async def test_two_people_have_one_room_however_they_begin(world: World, rounds: int) -> None:
    async def one(dice: random.Random) -> str | None:
        pair = await world.people("Ann", "Bob")
        lines = [await each.connected() for each in pair]

        async def begins(number: int) -> str:
            mine = number % 2
            me, line, other = pair[mine], lines[mine], pair[1 - mine].id
            match dice.randrange(4):
                case 0:
                    answer = await line.ask(op="message.send", user=other, text=f"word {number}")
                    return str(answer["ok"]["message"]["room_id"])
                case 1:
                    said = {"text": f"word {number}"}
                    return str((await me.does("POST", f"/direct/{other}/messages", json=said))["room_id"])
                case 2:
                    return str((await line.ask(op="room.direct", user=other))["ok"]["room"]["id"])
                case _:
                    return str((await me.does("PUT", f"/direct/{other}"))["id"])

        count = dice.randrange(10, 51)
        found = set(await asyncio.gather(*(later(dice, lambda n=n: begins(n)) for n in range(count))))  # type: ignore[misc]
        await until(lambda: all(line.events("room.added") for line in lines), what="two that are told")
        await settled()
        room_id = direct_id(pair[0].id, pair[1].id)
        added = [[each["room_id"] for each in line.events("room.added")] for line in lines]
        mine = [[room.id for room in await world.core.rooms.mine(each.id)] for each in pair]
        seqs = [each.seq for each in (await world.core.messages.page(pair[0].id, room_id, limit=100)).items]
        for line in lines:
            line.session.closed()
        if found != {room_id} or added != [[room_id]] * 2 or any(room_id not in each for each in mine):
            return f"{found} for {room_id}, told {added}"
        if [len(each) for each in mine] != [2, 2] or seqs != list(range(1, len(seqs) + 1)):
            return f"{mine}, {seqs}"
        return None

    assert await by_the_thousand(rounds // 10, one, at_once=4) == []


class Unhurried(Passwords):
    """Says a moment later whether a password is right, as where many sign in at once."""

    async def is_right(self, password: str, kept: str | None) -> bool:
        right = await super().is_right(password, kept)
        for _ in range(random.randrange(200)):
            await asyncio.sleep(0)
        return right


async def test_an_old_password_opens_nothing_after_the_change(world: World, rounds: int) -> None:
    accounts, sessions = world.core.accounts, world.core.sessions
    accounts._passwords.close()
    accounts._passwords = Unhurried(HASHER)

    async def one(dice: random.Random) -> str | None:
        bob = await world.person("Bob")
        caller = await sessions.authenticate(bob.token)
        signing_in = [
            later(dice, lambda: outcome(accounts.sign_in(bob.user.name, PASSWORD, "", str(dice.random()))))
            for _ in range(2)
        ]
        change = later(dice, lambda: accounts.change_password(caller, PASSWORD, "battery staple"))
        *tried, _ = await asyncio.gather(*signing_in, change)
        for each in tried:
            if isinstance(each, SignedIn):
                if not isinstance(await outcome(sessions.authenticate(each.token)), ParleyError):
                    return "a session that the old password has opened is still there"
            elif not isinstance(each, WrongPassword):
                return f"refused with {each}"
        return None

    assert await by_the_thousand(rounds // 4, one) == []
