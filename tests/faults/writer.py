"""A node in a process of its own, which writes what it is told and keeps a record of what was acknowledged.

    python -m tests.faults.writer STORE

One order comes per line of JSON and is answered with one; see `ORDERS`.
"""

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import structlog
from structlog.testing import capture_logs

from parley.models import Change, React, Role, Send
from parley.stores.base import Store
from parley.stores.redis import RedisStore
from parley.stores.sql import SqlStore
from tests.contracts.kitchen import a_room, a_user, all_done, at, edit, marked, react, send

TASKS = 2
"""How many batches a process has under way at once."""


def store_at(url: str) -> Store:
    return RedisStore(url) if url.startswith("redis") else SqlStore(url)


async def write(store: Store, order: dict[str, Any]) -> dict[str, Any]:
    """Batches of everything into `rooms` as `user` for `seconds`; what was acknowledged goes to `record`."""
    rooms = [a_room(None, id=each) for each in order["rooms"]]
    ann = a_user("ann", id=order["user"])
    end = time.monotonic() + order["seconds"]
    sent: list[Send] = []

    def batch(dice: random.Random) -> list[Change]:
        new = [send(dice.choice(rooms), ann, str(dice.random())) for _ in range(dice.randint(1, 30))]
        changes: list[Change] = [*new]
        for known in dice.sample(sent, min(len(sent), 5)):
            changes.append(edit(known, ann, str(dice.random())))
            changes.append(react(known, ann, dice.choice("👍🎉👀"), on=dice.random() < 0.7))
        dice.shuffle(changes)
        # The same id again, in the batch that brought it.
        changes.append(new[0])
        return changes

    async def talk(dice: random.Random) -> None:
        while time.monotonic() < end:
            changes = batch(dice)
            applied = all_done(await store.apply(changes))
            for change, each in zip(changes, applied, strict=True):
                assert each.fresh or isinstance(change, React) or change is changes[-1]
                what = "send" if isinstance(change, Send) else "other"
                message = each.message
                line = [what, message.room_id, message.id, message.seq, message.revision, each.fresh]
                record.write(json.dumps(line) + "\n")
            record.flush()
            sent.extend({each.id: each for each in changes if isinstance(each, Send)}.values())

    async def move(dice: random.Random) -> None:
        # What else locks rooms, and takes no number in a public one.
        while time.monotonic() < end:
            some = dice.sample(rooms, 3)
            await store.add_user(guest := a_user(f"guest {dice.random()}"), [each.id for each in some])
            await marked(store, some[0].id, ann.id, dice.randint(1, 1000))
            await store.leave(some[1].id, guest.id, at(0))
            await store.join(some[1].id, guest.id, Role.MEMBER, at(1))

    with await asyncio.to_thread(Path(order["record"]).open, "a") as record, capture_logs() as logged:
        async with asyncio.TaskGroup() as work:
            for _ in range(TASKS):
                work.create_task(talk(random.Random()))
            work.create_task(move(random.Random()))
    return {"sent": len(sent), "logged": [str(each) for each in logged]}


async def copies(store: Store, order: dict[str, Any]) -> list[list[object]]:
    """The same message `count` times at once: seq, revision and whether it was fresh, for each."""
    ann = a_user("ann", id=order["user"])
    message = send(a_room(None, id=order["room"]), ann, "hi", id=order["id"])
    answers = await asyncio.gather(*(store.apply([message]) for _ in range(order["count"])))
    applied = [all_done(answer)[0] for answer in answers]
    return [[each.message.seq, each.message.revision, each.fresh] for each in applied]


ORDERS = {"write": write, "copies": copies}


async def main(url: str) -> None:
    # What goes to stdout is for the test.
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(sys.stderr))
    store = store_at(url)
    await store.open()
    print(json.dumps("ready"), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        order = json.loads(line)
        print(json.dumps(await ORDERS[order.pop("order")](store, order)), flush=True)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
