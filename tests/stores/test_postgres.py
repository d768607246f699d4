"""What is particular to the store in PostgreSQL: other nodes, a server that goes away, and its plans."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from parley.errors import InternalError, NameTaken, ParleyError, StoreUnavailable
from parley.models import Change, Role, RoomChange
from parley.stores.sql import SqlStore, database, history
from parley.stores.sql.schema import messages
from tests import backends
from tests.backends import Postgres
from tests.contracts.kitchen import (
    Kitchen,
    a_room,
    a_session,
    a_user,
    all_done,
    at,
    delete,
    edit,
    kitchen_in,
    marked,
    react,
    send,
)

pytestmark = pytest.mark.servers


@pytest.fixture
def server() -> Postgres:
    return backends.postgres()


@pytest.fixture
def url(server: Postgres, request: pytest.FixtureRequest) -> str:
    return server.database(request.node.nodeid)


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlStore]:
    store = SqlStore(url)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def other(store: SqlStore, url: str) -> AsyncIterator[SqlStore]:
    """Another node on the same database."""
    other = SqlStore(url)
    await other.open()
    yield other
    await other.close()


@pytest.fixture
async def kitchen(store: SqlStore) -> Kitchen:
    return await kitchen_in(store)


# Two nodes


async def test_ten_copies_of_one_id_through_two_nodes_are_one_message(
    kitchen: Kitchen, store: SqlStore, other: SqlStore
) -> None:
    assert other.epoch == store.epoch
    for turn in range(20):
        message = send(kitchen.room, kitchen.ann, "hi")
        answers = await asyncio.gather(
            *(node.apply([message]) for node in (store, other) * 5), kitchen.store.ping()
        )
        applied = [all_done(answer)[0] for answer in answers[:-1] if answer is not None]
        assert sum(each.fresh for each in applied) == 1
        assert {each.message.seq for each in applied} == {turn + 1}
    assert (await kitchen.now()).revision == 20


async def test_two_nodes_leave_no_hole_and_wait_for_nobody_in_a_circle(
    kitchen: Kitchen, store: SqlStore, other: SqlStore, server: Postgres
) -> None:
    places = [a_room(f"room-{number}") for number in range(10)]
    for room in places:
        await store.add_room(room, kitchen.ann.id)
    acknowledged: dict[str, int] = {}
    end = time.monotonic() + 3

    async def talk(node: SqlStore, dice: random.Random) -> None:
        while time.monotonic() < end:
            batch = [
                send(dice.choice(places), kitchen.ann, str(dice.random())) for _ in range(dice.randint(1, 30))
            ]
            applied = all_done(await node.apply(batch))
            assert all(each.fresh for each in applied)
            acknowledged.update({each.message.id: each.message.seq for each in applied})
            message = applied[0].message
            again: list[Change] = [
                edit(message, kitchen.ann, "new"),
                batch[0],
                react(message, kitchen.ann, "👍"),
            ]
            dice.shuffle(again)
            all_done(await node.apply(again))

    async def move(node: SqlStore, dice: random.Random) -> None:
        while time.monotonic() < end:
            room = dice.choice(places)
            await node.join(room.id, kitchen.bob.id, Role.MEMBER, at(0))
            await marked(node, room.id, kitchen.ann.id, dice.randint(1, 1000))
            await node.leave(room.id, kitchen.bob.id, at(1))
            await node.add_user(
                a_user(f"guest {dice.random()}"), [each.id for each in dice.sample(places, 3)]
            )

    async def look(node: SqlStore) -> None:
        while time.monotonic() < end:
            for room in places:
                changes = await node.changes(room.id, 0, 1_000_000)
                assert max((each.revision for each in changes.messages), default=0) <= changes.revision
                seqs = {each.seq for each in changes.messages}
                assert seqs == set(range(1, len(seqs) + 1)) or changes.reset

    deadlocks = f"SELECT deadlocks FROM pg_stat_database WHERE datname = '{server.shared}'"
    before = server.execute(deadlocks)
    dice = random.Random()
    async with asyncio.TaskGroup() as work:
        for node in (store, other):
            for _ in range(2):
                work.create_task(talk(node, random.Random(dice.random())))
            work.create_task(move(node, random.Random(dice.random())))
            work.create_task(look(node))
    stored = {}
    for room in places:
        messages = await store.page(room.id, limit=1_000_000)
        assert [each.seq for each in messages] == list(range(1, len(messages) + 1))
        revisions = [each.revision for each in messages]
        assert len(set(revisions)) == len(revisions)
        now = await other.room(room.id)
        assert now is not None
        assert now.last_seq == len(messages)
        assert now.revision >= max(revisions)
        stored.update({each.id: each.seq for each in messages})
    assert len(acknowledged) > 100
    assert acknowledged == stored
    assert server.execute(deadlocks) == before


async def test_of_two_nodes_that_want_a_name_one_gets_it(store: SqlStore, other: SqlStore) -> None:
    results = await asyncio.gather(
        *(node.add_user(a_user("ann")) for node in (store, other) * 3), return_exceptions=True
    )
    assert [type(each) for each in results if each is not None] == [NameTaken] * 5


async def test_the_last_place_of_a_room_goes_to_one(kitchen: Kitchen, other: SqlStore) -> None:
    closet = a_room("closet", capacity=1)
    await other.add_room(closet)
    people = [a_user(f"guest-{number}") for number in range(6)]
    for user in people:
        await other.add_user(user)
    nodes = [kitchen.store, other] * 3
    await asyncio.gather(
        *(
            node.join(closet.id, user.id, Role.MEMBER, at(0))
            for node, user in zip(nodes, people, strict=True)
        ),
        return_exceptions=True,
    )
    assert len(await other.members(closet.id, None, 10)) == 1


async def test_a_transaction_that_the_server_gives_up_is_tried_again(store: SqlStore) -> None:
    turns = 0

    def step(connection: sa.Connection) -> int:
        nonlocal turns
        turns += 1
        if turns < 3:
            connection.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40P01'; END $$")
        return turns

    assert await store._database.write(step) == 3


async def test_a_read_sees_one_moment(kitchen: Kitchen, store: SqlStore, server: Postgres) -> None:
    def step(connection: sa.Connection) -> list[object]:
        revision = "SELECT revision FROM rooms"
        before = connection.exec_driver_sql(revision).scalar()
        server.execute("UPDATE rooms SET revision = 41", database=server.shared)
        return [before, connection.exec_driver_sql(revision).scalar()]

    assert await store._database.read(step) == [0, 0]
    assert (await kitchen.now()).revision == 41


# What cannot be stored


@pytest.mark.parametrize("poison", ["\0", "\ud800"])
@pytest.mark.parametrize("place", [0, 1, 4])
async def test_a_poisonous_change_fails_alone(kitchen: Kitchen, poison: str, place: int) -> None:
    texts = ["one", "two", "three", "four"]
    texts.insert(place, poison)
    with capture_logs() as logged:
        results = await kitchen.store.apply([send(kitchen.room, kitchen.ann, text) for text in texts])
    assert isinstance(results.pop(place), InternalError)
    assert [applied.message.seq for applied in all_done(results)] == [1, 2, 3, 4]
    assert (await kitchen.now()).revision == 4
    assert logged
    assert "three" not in str(logged)


async def test_what_the_database_does_not_take_is_our_fault(kitchen: Kitchen, store: SqlStore) -> None:
    session = a_session(kitchen.ann, b"hash", at(60))
    await store.add_session(session)
    with capture_logs() as logged, pytest.raises(InternalError):
        await store.add_session(session)
    assert [entry["error"] for entry in logged] == ["UniqueViolationError"]
    assert session.id not in str(logged), "errors are logged, and values must not be"
    await store.ping()


# A server that does not answer


async def test_a_connection_that_is_ended_from_outside_is_replaced(
    kitchen: Kitchen, store: SqlStore, server: Postgres
) -> None:
    await kitchen.says(kitchen.ann, "before")
    kill = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{server.shared}'"
    for text in ("one", "two"):
        server.execute(kill)
        await asyncio.sleep(0.1)
        assert await store.user("ann") == kitchen.ann
        await marked(store, kitchen.room.id, kitchen.ann.id, 1)
        await kitchen.says(kitchen.ann, text)


async def test_a_step_under_way_is_unavailable_when_its_connection_ends(
    store: SqlStore, server: Postgres
) -> None:
    def sleep(connection: sa.Connection) -> None:
        connection.exec_driver_sql("SELECT pg_sleep(30)")

    sleeping = "pg_stat_activity WHERE query = 'SELECT pg_sleep(30)' AND state = 'active'"
    task = asyncio.create_task(store._database.write(sleep))
    while not server.execute(f"SELECT 1 FROM {sleeping}"):
        await asyncio.sleep(0.02)
    server.execute(f"SELECT pg_terminate_backend(pid) FROM {sleeping}")
    with pytest.raises(StoreUnavailable) as raised:
        await task
    assert raised.value.retry_after == 1
    await store.ping()


async def test_a_server_that_hangs_does_not_hang_its_callers(
    kitchen: Kitchen, store: SqlStore, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = send(kitchen.room, kitchen.ann, "hi")
    other = await asyncpg.connect(server.address(server.shared or ""))
    try:
        async with other.transaction():
            await other.execute("SELECT id FROM rooms FOR UPDATE")
            monkeypatch.setattr(database, "DEADLINE_SECONDS", 0.3)
            began = time.monotonic()
            for step in (
                store.apply([message]),
                store.change_room(kitchen.room.id, RoomChange(history_limit=9)),
            ):
                with pytest.raises(StoreUnavailable):
                    await step
            assert time.monotonic() - began < 2
            assert await store.user("ann") == kitchen.ann
            monkeypatch.setattr(database, "DEADLINE_SECONDS", 10)
    finally:
        await other.close()
    assert all_done(await store.apply([message]))[0].message.seq == 1
    assert (await kitchen.now()).history_limit is None, "what was called off does not happen later"


# Plans


async def test_reading_a_long_history_takes_the_index(
    kitchen: Kitchen, store: SqlStore, server: Postgres
) -> None:
    other_room = a_room("hall")
    await store.add_room(other_room, kitchen.ann.id)
    for turn in range(10):  # plans may be kept from the time before the tables grew
        first = await kitchen.says(kitchen.ann, "first")
        await store.apply([react(first, kitchen.ann, str(turn)), send(kitchen.room, kitchen.bob, "no")])
        await store.page(kitchen.room.id, limit=10)
    # The statistics are as misleading as they can be: every room has one message.
    server.execute("DELETE FROM messages", database=server.shared)
    for number in range(5):
        await store.add_room(few := a_room(f"few-{number}"), kitchen.ann.id)
        all_done(await store.apply([send(few, kitchen.ann, "one")]))
    server.execute("VACUUM ANALYZE messages", database=server.shared)
    server.execute(
        *(
            f"""INSERT INTO messages (room_id, seq, id, revision, author_id, author_name, kind, text, sent_at)
            SELECT '{room.id}', n, gen_random_uuid()::text, n, '{kitchen.ann.id}', 'Ann', 'text', 'hi', n
            FROM generate_series(1, 100000) AS n"""
            for room in (kitchen.room, other_room)
        ),
        "UPDATE rooms SET last_seq = 100000, revision = 100000",
        database=server.shared,
    )
    room_id = kitchen.room.id
    values = {"room_id": room_id, "id": "x", "before": 90_000, "after": 50_000, "since": 99_000, "limit": 50}

    def plan(connection: sa.Connection, statement: sa.Select[Any], values: dict[str, object]) -> str:
        compiled = statement.compile(connection)
        names = [name for name in compiled.positiontup or [] if name not in compiled.literal_execute_params]
        given = tuple({**compiled.params, **values}[name] for name in names)
        return "\n".join(connection.exec_driver_sql(f"EXPLAIN {compiled}", given).scalars())

    for statement, index in (
        (history._BEFORE, "pk_messages"),
        (history._AFTER, "pk_messages"),
        (history._CHANGED, "ix_messages_revision"),
        # As `parley_append` looks a message up.
        (sa.select(messages).where(messages.c.room_id == room_id, messages.c.id == "x"), "ix_messages_id"),
    ):
        found = await store._database.read(plan, statement, values)
        assert f"using {index}" in found, found
        assert "Seq Scan on messages" not in found
        assert "Sort" not in found


async def test_a_batch_of_everything_keeps_its_order(kitchen: Kitchen, store: SqlStore) -> None:
    study = a_room("study", kind="private", history_limit=2)
    await store.add_room(study, kitchen.ann.id)
    first, second = send(kitchen.room, kitchen.ann, "one"), send(study, kitchen.ann, "two")
    third = send(study, kitchen.ann, "three", reply_to=second.id)
    results = await store.apply(
        [
            first,
            second,
            edit(first, kitchen.ann, "uno"),
            third,
            react(first, kitchen.bob, "🎉"),
            delete(second, kitchen.ann),
            send(study, kitchen.bob, "let me in"),
            first,
            send(study, kitchen.ann, "four"),
        ]
    )
    codes = [each.code if isinstance(each, ParleyError) else each.message.revision for each in results]
    assert codes == [1, 2, 2, 3, 3, 4, "room_not_found", 3, 5]
    kept = await store.page(study.id, limit=10)
    assert [each.text for each in kept] == ["three", "four"]
    assert (await store.changes(study.id, 4, 10)).reset is False
    assert (await store.changes(study.id, 3, 10)).reset is True
