"""The database under a running server is killed with -9 and started again, under load: senders are told to
come back, what was acknowledged is there once, and nobody has to restart anything."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect

from parley.ids import new_id
from tests import backends
from tests.redis_servers import redis_server
from tests.servers import ServerProcess, server, until

pytestmark = [pytest.mark.servers, pytest.mark.slow]

ROUNDS = 3
BACK_SECONDS = 15
"""How soon after the database everything works again."""


class Doomed(Protocol):
    """A database that is killed and started again."""

    def kill(self) -> None: ...

    def start(self) -> object: ...


@contextmanager
def doomed_postgres() -> Iterator[tuple[Doomed, str]]:
    with ExitStack() as stack:
        database = backends.own_postgres()
        stack.callback(database.stop)
        yield database, database.address(database.new())


@contextmanager
def doomed_redis() -> Iterator[tuple[Doomed, str]]:
    # It writes and syncs every command before it answers.
    with redis_server() as database:
        yield database, database.url


DOOMED = {"postgresql": doomed_postgres, "redis": doomed_redis}


class Sender:
    """Writes numbered messages one after the other, each until it is acknowledged, under one id."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.acknowledged: dict[str, tuple[int, str]] = {}
        self.refusals = 0

    async def write(self, ended: asyncio.Event) -> None:
        while not ended.is_set():
            id_, text = new_id(), f"{self.name} {len(self.acknowledged)}"
            while (message := await self.send(id_, text)) is None:
                self.refusals += 1
                await asyncio.sleep(0.05)
            assert (message["id"], message["text"]) == (id_, text)
            self.acknowledged[id_] = message["seq"], text

    async def send(self, id_: str, text: str) -> dict[str, Any] | None:
        """The message as it is stored; None where the store was away, and the answer said when to retry."""
        raise NotImplementedError


class HttpSender(Sender):
    def __init__(self, name: str, http: httpx2.AsyncClient) -> None:
        super().__init__(name)
        self._http = http

    async def send(self, id_: str, text: str) -> dict[str, Any] | None:
        answer = await self._http.post("/rooms/kitchen/messages", json={"id": id_, "text": text})
        said: dict[str, Any] = answer.json()
        if answer.status_code in {200, 201}:
            return said
        assert (answer.status_code, said["code"]) == (503, "store_unavailable")
        assert said["title"] == "unavailable"
        assert int(answer.headers["retry-after"]) > 0
        return None


class SocketSender(Sender):
    """Says all over one connection, which stays through all of it."""

    def __init__(self, name: str, connection: ClientConnection) -> None:
        super().__init__(name)
        self._connection = connection
        self.heard: dict[int, str] = {}
        self._ref = 0

    async def ask(self, **command: Any) -> dict[str, Any]:
        self._ref += 1
        await self._connection.send(json.dumps({"ref": self._ref, **command}))
        while True:
            async with asyncio.timeout(20):
                frame = str(await self._connection.recv())
            lines = [json.loads(line) for line in frame.split("\n")]
            answers = [line for line in lines if line.get("ref") == self._ref and "event" not in line]
            for line in lines:
                self._hear(line)
            if answers:
                return dict(answers[0])

    def _hear(self, line: dict[str, Any]) -> None:
        if line.get("event") == "message.sent":
            message = line["message"]
            # An event may come again, and is the same one then.
            assert self.heard.setdefault(message["seq"], message["id"]) == message["id"]
        elif line.get("event") in {"room.changes", "room.reset"}:
            self.heard.update({each["seq"]: each["id"] for each in line["messages"]})

    async def send(self, id_: str, text: str) -> dict[str, Any] | None:
        answer = await self.ask(op="message.send", room="kitchen", id=id_, text=text)
        if "ok" in answer:
            return dict(answer["ok"]["message"])
        error = answer["error"]
        assert (error["kind"], error["code"]) == ("unavailable", "store_unavailable")
        assert error["retryable"] is True
        assert error["retry_after"] > 0
        return None


@pytest.mark.parametrize("kind", DOOMED)
async def test_a_server_whose_database_is_killed_goes_on_by_itself_and_loses_nothing(
    kind: str, tmp_path: Path
) -> None:
    with DOOMED[kind]() as (database, url):
        async with server(tmp_path, store=url) as parley:
            await _kill_under(parley, database)


async def _kill_under(parley: ServerProcess, database: Doomed) -> None:
    async with httpx2.AsyncClient(base_url=f"{parley.url}/api/v1", timeout=20) as http:
        guest = (await http.post("/sessions/guest", json={"display_name": "Ann"})).json()
        http.headers["authorization"] = f"Bearer {guest['token']}"
        assert (await http.post("/rooms", json={"name": "kitchen"})).status_code == 201
        async with connect(parley.ws, proxy=None) as one, connect(parley.ws, proxy=None) as two:
            sockets = [SocketSender("one", one), SocketSender("two", two)]
            for socket in sockets:
                assert "ok" in await socket.ask(op="hello", token=guest["token"])
            senders: list[Sender] = [*sockets, HttpSender("three", http), HttpSender("four", http)]
            pid, ended = parley.pid, asyncio.Event()
            async with asyncio.TaskGroup() as work:
                for each in senders:
                    work.create_task(each.write(ended))
                for _ in range(ROUNDS):
                    await _everybody(senders, lambda each: len(each.acknowledged), 20, 30)
                    await asyncio.to_thread(database.kill)
                    await _everybody(senders, lambda each: each.refusals, 2, 30)
                    assert not await asyncio.to_thread(parley.is_ready)
                    await asyncio.to_thread(database.start)
                    back = time.monotonic()
                    await _everybody(senders, lambda each: len(each.acknowledged), 1, BACK_SECONDS)
                    assert await asyncio.to_thread(parley.is_ready)
                    assert time.monotonic() - back < BACK_SECONDS
                ended.set()
            assert parley.pid == pid
            stored = await _history(http)
            assert [each["seq"] for each in stored] == list(range(1, len(stored) + 1))
            room = (await http.get("/rooms/kitchen")).json()
            assert room["last_seq"] == room["revision"] == len(stored)
            acknowledged = {id_: what for each in senders for id_, what in each.acknowledged.items()}
            assert {each["id"]: (each["seq"], each["text"]) for each in stored} == acknowledged
            # Who was connected all the time has been told everything, or is now.
            places = {each["seq"]: each["id"] for each in stored}
            async with asyncio.timeout(BACK_SECONDS):
                for socket in sockets:
                    while socket.heard != places:
                        await socket.ask(op="room.list")


async def _everybody(
    senders: list[Sender], count: Callable[[Sender], int], more: int, seconds: float
) -> None:
    """Wait until every sender has got so many more of something."""
    before = [count(each) for each in senders]
    await until(
        lambda: all(count(each) >= had + more for each, had in zip(senders, before, strict=True)), seconds
    )


async def _history(http: httpx2.AsyncClient) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    while True:
        after = messages[-1]["seq"] if messages else 0
        page = (await http.get("/rooms/kitchen/messages", params={"after": after, "limit": 200})).json()
        if not page["items"]:
            return messages
        messages += page["items"]
