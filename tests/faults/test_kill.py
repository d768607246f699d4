"""The server is killed with -9 at random moments under load: nothing acknowledged is lost, nothing is
doubled."""

import asyncio
import random
import time
from asyncio import Future
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from parley.client import Chat, Message
from tests.servers import ServerProcess, server, until

ROUNDS = 10
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
async def test_nothing_is_lost_or_doubled_when_the_server_is_killed(tmp_path: Path) -> None:
    dice = random.Random()
    seed = dice.randrange(10**6)
    dice.seed(seed)
    print(f"seed {seed}")
    async with server(tmp_path) as process, AsyncExitStack() as stack:
        senders = []
        for number in range(CLIENTS):
            chat = await stack.enter_async_context(
                Chat(process.url, name=f"Guest {number}", rooms=["kitchen"])
            )
            await chat.ready()
            senders.append(Sender(number, chat))
        enough = asyncio.Event()
        writing = [asyncio.create_task(sender.write(enough)) for sender in senders]
        for _ in range(ROUNDS):
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
