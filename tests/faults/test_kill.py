"""The server is killed with -9 at random moments under load: nothing acknowledged is lost, nothing is
doubled."""

import asyncio
import random
import time
from asyncio import Future
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from parley.client import Chat, Message
from tests import backends
from tests.redis_servers import a_redis, a_redis_cluster
from tests.servers import ServerProcess, server, until

STORES: dict[str, tuple[Callable[[Path], str], int]] = {
    "sqlite": (lambda folder: f"sqlite:///{folder / 'parley.db'}", 10),
    "postgresql": (lambda folder: backends.postgres().database(folder), 4),
    "redis": (a_redis, 4),
    "redis-cluster": (a_redis_cluster, 4),
}
"""Where each is, and how often its server is killed. The database itself lives on."""

CLIENTS = 20
PER_SECOND = 500


class Sender:
    """One client that writes numbered messages for as long as it is told to."""

    def __init__(self, number: int, chat: Chat) -> None:
        self.number = number
        self.chat = chat
        self.written: list[Future[Message]] = []
        self.acknowledged: dict[str, str] = {}

    async def write(self, until_told: asyncio.Event) -> None:
        while not until_told.is_set():
            due = time.monotonic() + CLIENTS / PER_SECOND
            future = await self.chat.post("kitchen", f"{self.number} {len(self.written)}")
            future.add_done_callback(self._heard)
            self.written.append(future)
            await asyncio.sleep(max(0, due - time.monotonic()))

    def _heard(self, future: Future[Message]) -> None:
        message = future.result()
        self.acknowledged[message.id] = message.text


def history(process: ServerProcess) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The room and all its messages, as a newcomer reads them over HTTP."""
    with httpx2.Client(base_url=f"{process.url}/api/v1", timeout=10) as http:
        token = http.post("/sessions/guest", json={"display_name": "Newcomer"}).json()["token"]
        http.headers["authorization"] = f"Bearer {token}"
        room = http.get("/rooms/kitchen").json()
        messages: list[dict[str, Any]] = []
        while True:
            after = messages[-1]["seq"] if messages else 0
            page = http.get("/rooms/kitchen/messages", params={"after": after, "limit": 200}).json()["items"]
            if not page:
                return room, messages
            messages += page


def as_plain(message: Message) -> tuple[object, ...]:
    return message.seq, message.id, message.revision, message.text, message.author_id


@pytest.mark.slow
@pytest.mark.parametrize(
    "store", [pytest.param(name, marks=[] if name == "sqlite" else pytest.mark.servers) for name in STORES]
)
async def test_nothing_is_lost_or_doubled_when_the_server_is_killed(store: str, tmp_path: Path) -> None:
    place, rounds = STORES[store]
    dice = random.Random()
    seed = dice.randrange(10**6)
    dice.seed(seed)
    print(f"seed {seed}")
    async with server(tmp_path, store=place(tmp_path)) as process, AsyncExitStack() as stack:
        senders = []
        for number in range(CLIENTS):
            chat = await stack.enter_async_context(
                Chat(process.url, name=f"Guest {number}", rooms=["kitchen"])
            )
            await chat.ready()
            senders.append(Sender(number, chat))
        enough = asyncio.Event()
        writing = [asyncio.create_task(sender.write(enough)) for sender in senders]
        for _ in range(rounds):
            acknowledged = sum(len(sender.acknowledged) for sender in senders)
            await until(
                lambda before=acknowledged: sum(len(s.acknowledged) for s in senders) > before + 50, 30
            )
            await asyncio.sleep(dice.uniform(0.0, 0.6))
            process.kill()
            await asyncio.to_thread(process.start)
        enough.set()
        await asyncio.gather(*writing)
        async with asyncio.timeout(60):
            await asyncio.gather(*[sender.chat.flush() for sender in senders])
        room, stored = await asyncio.to_thread(history, process)

        assert [message["seq"] for message in stored] == list(range(1, len(stored) + 1))
        assert sorted(message["revision"] for message in stored) == list(range(1, len(stored) + 1))
        assert room["revision"] == room["last_seq"] == len(stored)
        texts = [message["text"] for message in stored]
        assert len(set(texts)) == len(texts)
        for sender in senders:
            mine = [text for text in texts if text.split()[0] == str(sender.number)]
            assert mine == [f"{sender.number} {count}" for count in range(len(sender.written))]
        by_id = {message["id"]: message["text"] for message in stored}
        for sender in senders:
            assert len(sender.acknowledged) == len(sender.written)
            assert sender.acknowledged.items() <= by_id.items()

        expected = [
            tuple(message[name] for name in ("seq", "id", "revision", "text", "author_id"))
            for message in stored
        ]
        for sender in senders:
            await until(lambda chat=sender.chat: chat.state.find("kitchen").revision == room["revision"], 15)
            known = sender.chat.state.find("kitchen")
            assert known is not None
            window = [as_plain(known.messages[seq]) for seq in sorted(known.messages)]
            assert window == expected[-len(window) :]
            assert known.room.last_seq == room["last_seq"]


@pytest.mark.slow
async def test_clients_of_a_killed_server_that_keeps_nothing_begin_anew(tmp_path: Path) -> None:
    async with (
        server(tmp_path, store="memory://") as process,
        Chat(process.url, name="ann", rooms=["kitchen"]) as ann,
    ):
        for number in range(3):
            await ann.send("kitchen", f"before {number}")
        epoch = ann.state.epoch
        process.kill()
        await until(lambda: not ann.is_connected)
        sending = await ann.post("kitchen", "after")
        await asyncio.to_thread(process.start)
        async with asyncio.timeout(15):
            after = await sending
        assert ann.state.epoch != epoch
        assert after.seq == 1
        assert [each.text for each in ann.state.shown(after.room_id)] == ["after"]
        room, stored = await asyncio.to_thread(history, process)
        assert [each["text"] for each in stored] == ["after"]
        assert room["revision"] == 1
