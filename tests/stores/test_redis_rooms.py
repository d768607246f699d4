"""Rooms and people in Redis: several nodes that decide at once, and what a crash in the midst leaves."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from parley.errors import LimitReached, NameTaken, NotAllowed, RoomFull, StoreUnavailable, UserNotFound
from parley.ids import from_ms, new_id, now_ms
from parley.models import Role, RoomChange, User
from parley.stores.base import DELETED
from parley.stores.redis import RedisStore, guests, keys, members, names, rooms, scripts, sessions, upkeep
from tests.contracts.kitchen import Kitchen, a_room, a_session, a_user, at, kitchen_in
from tests.redis_servers import a_redis, a_redis_cluster
from tests.stores.test_redis import opened
from tests.stores.test_redis_upkeep import everything, fails, in_list


@pytest.fixture(params=["redis", "redis-cluster"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return a_redis(tmp_path) if request.param == "redis" else a_redis_cluster(tmp_path)


@pytest.fixture
async def store(url: str) -> AsyncIterator[RedisStore]:
    async with opened(url) as store:
        yield store


@pytest.fixture
async def other(url: str) -> AsyncIterator[RedisStore]:
    """Another node."""
    async with opened(url) as other:
        yield other


@pytest.fixture
async def kitchen(store: RedisStore) -> Kitchen:
    return await kitchen_in(store)


def before(
    monkeypatch: pytest.MonkeyPatch, store: RedisStore, sha: str, step: Callable[[], Awaitable[Any]]
) -> None:
    """Let something happen whenever a node is about to run that script."""
    one = store._servers.one

    async def in_between(*command: Any) -> Any:
        if command[:2] == ("EVALSHA", sha):
            await step()
        return await one(*command)

    monkeypatch.setattr(store._servers, "one", in_between)


async def a_minute_passes(store: RedisStore, key: str) -> None:
    """Let all that a list has be noted long ago."""
    for each in await in_list(store, key):
        await store._servers.one("ZADD", key, int(time.time()) - 70, each)


# Several nodes


async def test_two_nodes_together_take_no_more_than_the_server_takes(
    kitchen: Kitchen, store: RedisStore, other: RedisStore
) -> None:
    nodes = [store, other] * 6
    making = [node.add_room(a_room(f"room{n}"), kitchen.ann.id, most=5) for n, node in enumerate(nodes)]
    outcomes = await asyncio.gather(*making, return_exceptions=True)
    assert outcomes.count(None) == 4
    assert sum(isinstance(each, LimitReached) for each in outcomes) == 8
    assert len(await store.public_rooms(None, 99)) == len(await in_list(store, keys.ROOMS)) == 5
    refused = next(n for n, each in enumerate(outcomes) if each is not None)
    await other.add_room(a_room(f"room{refused}"), kitchen.ann.id)

    coming = [node.add_user(a_user(f"user{n}"), most=7) for n, node in enumerate(nodes)]
    outcomes = await asyncio.gather(*coming, return_exceptions=True)
    assert outcomes.count(None) == 4
    assert len(await in_list(store, keys.PEOPLE)) == 7

    joining = [node.join(kitchen.room.id, f"{n}", Role.MEMBER, at(1)) for n, node in enumerate(nodes)]
    assert {type(each) for each in await asyncio.gather(*joining, return_exceptions=True)} == {UserNotFound}


async def test_who_was_refused_is_not_counted_for_the_limit(kitchen: Kitchen, store: RedisStore) -> None:
    await store.add_room(full := a_room("full", capacity=1), kitchen.ann.id)
    for _ in range(3):
        with pytest.raises(RoomFull):
            await store.add_user(a_user("dora"), [full.id], most=4)
        with pytest.raises(UserNotFound):
            await store.add_room(a_room("hall"), new_id(), most=3)
    await store.add_user(a_user("dora"), most=4)
    await store.add_room(a_room("hall"), kitchen.ann.id, most=3)


async def test_a_direct_room_is_made_by_one_of_two_nodes(
    kitchen: Kitchen, store: RedisStore, other: RedisStore
) -> None:
    pair = (kitchen.ann.id, kitchen.bob.id)
    for _ in range(5):
        room = a_room(None, kind="direct")
        making = [node.add_room(room, *pair, most=100) for node in (store, other) * 3]
        making += [node.add_room(room, *pair[::-1], most=100) for node in (store, other) * 3]
        outcomes = await asyncio.gather(*making, return_exceptions=True)
        assert outcomes.count(None) == 1
        assert sum(isinstance(each, NameTaken) for each in outcomes) == 11
        made = await other.room(room.id, kitchen.bob.id)
        assert made is not None
        assert (made.member_count, made.revision, made.peer) == (2, 2, kitchen.ann)
        assert [each.revision for each in (await store.changes(room.id, 0, 9)).members] == [1, 2]
    assert (await store.stats(at(0))).rooms == 6


async def test_two_owners_at_two_nodes_leave_the_others_one(
    kitchen: Kitchen, store: RedisStore, other: RedisStore
) -> None:
    room_id, ann, bob = kitchen.room.id, kitchen.ann.id, kitchen.bob.id
    await store.join(room_id, kitchen.cleo.id, Role.MEMBER, at(1))
    for _ in range(10):
        for owner in (ann, bob):
            await store.join(room_id, owner, Role.OWNER, at(1))
            await store.change_role(room_id, owner, Role.OWNER)
        outcomes = await asyncio.gather(
            store.leave(room_id, ann, at(2), by=ann),
            other.change_role(room_id, bob, Role.READER, by=bob),
            return_exceptions=True,
        )
        assert sum(isinstance(each, NotAllowed) for each in outcomes) == 1
        roles = [each.role for each in await store.members(room_id, None, 9)]
        assert roles.count(Role.OWNER) == 1


async def test_a_rule_is_asked_again_where_somebody_lost_the_role_that_it_was_asked_about(
    kitchen: Kitchen, store: RedisStore, other: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    room_id, ann, bob, cleo = kitchen.room.id, kitchen.ann.id, kitchen.bob.id, kitchen.cleo.id
    study = a_room("study", kind="private")
    await store.add_room(study, ann)
    for each, user in ((room_id, ann), (study.id, bob)):
        await store.join(each, user, Role.OWNER, at(0))
    await store.change_role(room_id, bob, Role.OWNER)

    steps: dict[str, Callable[[str], Awaitable[object]]] = {
        scripts.JOIN: lambda room: store.join(room, cleo, Role.READER, at(1), by=bob),
        scripts.LEAVE: lambda room: store.leave(room, ann, at(1), by=bob),
        scripts.ROLE: lambda room: store.change_role(room, ann, Role.READER, by=bob),
        scripts.CHANGE: lambda room: store.change_room(room, RoomChange(title="Ours"), by=bob),
        scripts.CLOSE: lambda room: store.close_room(room, at(1), by=bob),
    }
    for sha, step in steps.items():
        for room in (room_id, study.id):
            await store.change_role(room, bob, Role.OWNER)
            await store.change_role(room, ann, Role.READER)
            with monkeypatch.context() as patched:

                async def demoted(room: str = room) -> None:
                    await other.change_role(room, bob, Role.MEMBER)

                before(patched, store, sha, demoted)
                with pytest.raises(NotAllowed):
                    await step(room)
    for room in (room_id, study.id):
        now = await store.room(room, ann)
        assert now is not None
        assert (now.role, now.member_count, now.title != "Ours") == (Role.READER, 2, True)


async def test_who_is_never_sure_of_a_role_is_put_off(
    kitchen: Kitchen, store: RedisStore, other: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    room_id, ann = kitchen.room.id, kitchen.ann.id
    roles = [Role.OWNER, Role.MODERATOR] * 9

    async def changed() -> None:
        await other.change_role(room_id, ann, roles.pop())

    before(monkeypatch, store, scripts.JOIN, changed)
    with pytest.raises(StoreUnavailable) as refusal:
        await store.join(room_id, kitchen.cleo.id, Role.MEMBER, at(1), by=ann)
    assert refusal.value.retry_after == 1
    assert len(await store.members(room_id, None, 9)) == 2


async def test_who_is_removed_while_they_come_in_does_not_stay(
    kitchen: Kitchen, store: RedisStore, other: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, hall = a_room("study", kind="private"), a_room("hall")
    await store.add_room(study)
    for room, script in ((kitchen.room, scripts.JOIN), (study, scripts.JOIN), (hall, scripts.CREATE)):
        dora = a_user("dora")
        await store.add_user(dora)
        with monkeypatch.context() as patched:

            async def gone(dora: User = dora) -> None:
                await other.remove_user(dora.id, at(5))

            before(patched, store, script, gone)
            if script == scripts.CREATE:
                await store.add_room(room, dora.id)
            else:
                with pytest.raises(UserNotFound):
                    await store.join(room.id, dora.id, Role.MEMBER, at(4))
        assert dora.id not in [each.user_id for each in await store.members(room.id, None, 9)]
        shown = [(each.name, each.display_name) for each in await store.memberships_of(dora.id)]
        assert shown == [(dora.id, DELETED)]
    assert [room.id for room in await store.close_due_rooms(at(6), 9)] == [study.id]


# A crash in the midst


@pytest.mark.parametrize(
    ("module", "crash"),
    [(guests, "finish"), (members, "leave_for_good"), (sessions, "end_sessions"), (names, "release")],
)
async def test_who_was_removed_but_is_still_in_rooms_goes_by_the_next_call_or_by_purge(
    kitchen: Kitchen,
    store: RedisStore,
    other: RedisStore,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    crash: str,
) -> None:
    await store.add_room(study := a_room("study", kind="private"), kitchen.ann.id)
    for again in ("the next call", "purge"):
        dora = a_user("dora")
        await store.add_user(dora, [kitchen.room.id, study.id], password_hash="secret")
        await store.add_session(session := a_session(dora, again.encode(), at(99)))
        with monkeypatch.context() as patched:
            fails(patched, module, crash)
            with pytest.raises(StoreUnavailable):
                await store.remove_user(dora.id, at(5))
        assert await other.user("dora") is None
        assert await other.sessions([session.id]) == {}
        assert await store._servers.one("EXISTS", *keys.of_user(dora.id, "password")) == 0
        with pytest.raises(NameTaken):
            await other.add_user(a_user("dora"))
        if again == "purge":
            await store.purge(at(0), 100)
            assert await store._servers.one("EXISTS", keys.USER_NAME + "dora")
            await a_minute_passes(store, keys.COMING)
            await store.purge(at(0), 100)
        else:
            await other.remove_user(dora.id, at(7))
        assert [each.user_id for each in await store.members(study.id, None, 9)] == [kitchen.ann.id]
        ended = await store.memberships_of(dora.id)
        assert [(each.left_at, each.display_name) for each in ended] == [(at(5), DELETED)] * 2
        assert b"dora" not in await store._servers.one("GET", keys.user(dora.id))
    await other.add_user(a_user("dora"))
    assert await in_list(store, keys.SESSIONS) == set()


async def test_an_old_name_that_comes_back_at_that_moment_goes_a_minute_later(
    kitchen: Kitchen, store: RedisStore, other: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = members.places

    async def removed_meanwhile(*arguments: Any) -> list[str]:
        monkeypatch.undo()
        await other.remove_user(kitchen.bob.id, at(5))
        return await places(*arguments)

    monkeypatch.setattr(members, "places", removed_meanwhile)
    await store.change_user(kitchen.bob.id, "Robert")
    await a_minute_passes(store, keys.COMING)
    await store.purge(at(0), 100)
    assert [each.display_name for each in await store.memberships_of(kitchen.bob.id)] == [DELETED]


async def test_a_room_closed_by_hand_but_not_cleaned_up_is_finished_by_the_next(
    kitchen: Kitchen, store: RedisStore, other: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        fails(patched, upkeep, "_finish")
        closed = await store.close_room(kitchen.room.id, at(5), by=kitchen.ann.id)
    assert closed is not None
    with pytest.raises(NameTaken):
        await other.add_room(a_room("kitchen"))
    assert await other.close_due_rooms(at(6), 10) == []
    await other.add_room(again := a_room("kitchen"))
    assert await in_list(store, keys.ROOMS) == {again.id}
    assert await in_list(store, keys.DUE_ROOMS) == set()


async def test_a_room_is_noted_before_the_last_one_leaves(
    kitchen: Kitchen, store: RedisStore, other: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.add_room(study := a_room("study", kind="private"), kitchen.ann.id)
    assert await in_list(store, keys.DUE_ROOMS) == set()
    looked: list[list[object]] = []

    async def looks() -> None:
        looked.append([await in_list(store, keys.DUE_ROOMS), await other.close_due_rooms(at(5), 9)])

    before(monkeypatch, store, scripts.LEAVE, looks)
    await store.leave(study.id, kitchen.ann.id, at(6))
    assert looked == [[set(), []], [{study.id}, []]]
    assert [room.id for room in await other.close_due_rooms(at(7), 9)] == [study.id]
    assert await in_list(store, keys.DUE_ROOMS) == set()


async def test_a_room_that_is_not_due_is_looked_at_no_more_after_a_minute(
    kitchen: Kitchen, store: RedisStore
) -> None:
    for room_id in (kitchen.room.id, gone := new_id()):
        await store._servers.one("ZADD", keys.DUE_ROOMS, int(time.time()), room_id)
    assert await store.close_due_rooms(at(5), 9) == []
    assert await in_list(store, keys.DUE_ROOMS) == {kitchen.room.id, gone}
    await a_minute_passes(store, keys.DUE_ROOMS)
    assert await store.close_due_rooms(at(5), 9) == []
    assert await in_list(store, keys.DUE_ROOMS) == set()


@pytest.mark.parametrize("a_minute_later", [False, True])
async def test_settings_whose_lists_were_not_written_hold_all_the_same(
    store: RedisStore, other: RedisStore, monkeypatch: pytest.MonkeyPatch, a_minute_later: bool
) -> None:
    study = await kitchen_in(store, kind="private", expires_at=at(500))
    with monkeypatch.context() as patched:
        patched.setattr(rooms, "places", lambda room: [])
        await store.change_room(study.room.id, RoomChange(kind="public", expires_at=at(100)))
    if a_minute_later:
        await a_minute_passes(store, keys.DUE_ROOMS)
    assert await other.close_due_rooms(at(99), 9) == []
    assert (await in_list(store, keys.DUE_ROOMS) == set()) is a_minute_later
    assert [room.id for room in await other.public_rooms(None, 9)] == [study.room.id]
    assert [room.id for room in await other.close_due_rooms(at(100), 9)] == [study.room.id]


async def test_a_room_that_became_private_is_passed_over_among_the_public_ones(store: RedisStore) -> None:
    listed = [a_room(f"room{number}") for number in range(9)]
    for room in listed:
        await store.add_room(room)
    for room in listed[::2]:
        await store.change_room(room.id, RoomChange(kind="private"))
    found = await store.public_rooms(None, 3)
    assert [room.id for room in found] == [room.id for room in listed[1:7:2]]


# Who is connected


async def test_nothing_stays_of_a_node_whose_time_ran_out(store: RedisStore, other: RedisStore) -> None:
    dead, alive, ann = new_id(), new_id(), new_id()
    await store.report(dead, from_ms(now_ms() + 100), [ann], [])
    assert await other.online(at(-(10**9)), alive) == {dead: {ann}}
    deadline = time.monotonic() + 5
    while any((await other.online(at(-(10**9)), alive)).values()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    assert await other.report(alive, from_ms(now_ms() + 60_000), [], []) is False
    assert await other.report(alive, from_ms(now_ms() + 60_000), [], []) is True
    assert await in_list(store, keys.NODES) == {alive}
    assert {key for key in await everything(store) if "nodes" in key} == {keys.NODES, f"{keys.NODES}:{alive}"}
