"""Whatever is lost, repeated or late: events applied to a stale state give what a fresh one shows."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from parley.ids import from_ms, new_id
from parley.models import Room
from tests.client.world import BOB, World

Action = Callable[[World], Coroutine[Any, Any, None]]
ACTIONS: list[Action] = [
    World.bob_writes,
    World.ann_writes,
    World.something_changes,
    World.something_changes,
    World.cleo_comes_or_goes,
    World.somebody_has_another_role,
    World.the_room_is_changed,
    World.ann_reads_elsewhere,
    World.connect,
    World.disconnect,
    World.an_event_arrives,
    World.an_event_arrives,
    World.an_event_arrives,
    World.a_page_is_asked_for,
    World.the_page_arrives,
    World.an_acknowledgement_arrives,
    World.holes_are_filled,
    World.a_backup_is_made_or_restored,
]


@given(
    actions=st.lists(st.sampled_from(ACTIONS), max_size=80),
    chance=st.randoms(use_true_random=False),
    kind=st.sampled_from(["public", "private"]),
    history_limit=st.sampled_from([None, 3, 8]),
)
@settings(max_examples=400, deadline=None)
def test_a_stale_state_and_the_events_are_a_fresh_state(
    actions: list[Action], chance: random.Random, kind: Any, history_limit: int | None
) -> None:
    kitchen = Room(
        id=new_id(),
        name="kitchen",
        title="Kitchen",
        kind=kind,
        created_by=BOB.id,
        created_at=from_ms(0),
        history_limit=history_limit,
    )

    async def live() -> None:
        world = World(chance, kitchen)
        await world.open(kitchen)
        await world.connect()
        for action in actions:
            await action(world)
        await world.settle()
        await world.check()

    asyncio.run(live())
