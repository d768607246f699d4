"""One real server for the tests of a module, and small clients for it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_unchecked

from tests.frames import FEED, WS, Conversation
from tests.servers import ServerProcess

SECONDS = 20
"""How long a client listens in vain."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(Path(tmp_path_factory.mktemp("server"))) as process:
        yield process


class Person:
    """A guest who uses HTTP."""

    def __init__(self, server: ServerProcess, name: str) -> None:
        self.server = server
        self.http = httpx2.Client(base_url=server.url, timeout=10)
        answer = self.http.post("/api/v1/sessions/guest", json={"display_name": name}).json()
        self.id: str = answer["user"]["id"]
        self.token: str = answer["token"]
        self.http.headers["authorization"] = f"Bearer {self.token}"

    def request(self, method: str, path: str, **more: Any) -> httpx2.Response:
        return self.http.request(method, f"/api/v1{path}", **more)

    def get(self, path: str, **more: Any) -> httpx2.Response:
        return self.request("GET", path, **more)

    def post(self, path: str, **more: Any) -> httpx2.Response:
        return self.request("POST", path, **more)

    def put(self, path: str, **more: Any) -> httpx2.Response:
        return self.request("PUT", path, **more)

    def patch(self, path: str, **more: Any) -> httpx2.Response:
        return self.request("PATCH", path, **more)

    def delete(self, path: str) -> httpx2.Response:
        return self.request("DELETE", path)


@pytest.fixture
def ann(server: ServerProcess) -> Iterator[Person]:
    person = Person(server, "Ann")
    yield person
    person.http.close()


@pytest.fixture
def bob(server: ServerProcess) -> Iterator[Person]:
    person = Person(server, "Bob")
    yield person
    person.http.close()


class Connection(ClientConnection):
    """A connection of which every frame is held against the AsyncAPI document."""

    _conversation: Conversation | None = None

    @property
    def conversation(self) -> Conversation:
        if self._conversation is None:
            assert self.request is not None
            self._conversation = Conversation(FEED if "/updates/" in self.request.path else WS)
        return self._conversation

    async def send(self, message: Any, *, text: bool | None = None) -> None:
        self.conversation.sent(message)
        await super().send(message, text=text)

    async def send_wrong(self, frame: str) -> None:
        """Send what is not documented."""
        self.conversation.sent_wrong(frame)
        await super().send(frame)

    async def recv(self, decode: bool | None = None) -> Any:
        frame = await super().recv(decode)
        self.conversation.heard(frame)
        return frame


@asynccontextmanager
async def connect(uri: str, **more: Any) -> AsyncIterator[Connection]:
    """A connection, refused as websockets says it."""
    async with connect_unchecked(uri, create_connection=Connection, proxy=None, **more) as connection:
        assert isinstance(connection, Connection)
        yield connection


class Socket:
    """A WebSocket that has said hello; reads lines, not frames."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._lines: list[dict[str, Any]] = []
        self._messages: list[dict[str, Any]] = []
        self._ref = 0

    async def next(self) -> dict[str, Any]:
        if not self._lines:
            frame = await self.connection.recv()
            self._lines = [json.loads(line) for line in str(frame).split("\n")]
        return self._lines.pop(0)

    async def event(self, kind: str) -> dict[str, Any]:
        """The next event of that kind."""
        async with asyncio.timeout(SECONDS):
            while (line := await self.next()).get("event") != kind:
                pass
        return line

    async def message(self) -> dict[str, Any]:
        """The next message that it is told of, by itself or with all that has changed."""
        async with asyncio.timeout(SECONDS):
            while not self._messages:
                line = await self.next()
                if line.get("event") == "message.sent":
                    self._messages = [line["message"]]
                elif line.get("event") == "room.changes":
                    self._messages = sorted(line["messages"], key=lambda each: int(each["seq"]))
        return self._messages.pop(0)

    async def answer(self, ref: object) -> dict[str, Any]:
        while (line := await self.next()).get("ref", "none") != ref or "event" in line:
            pass
        return line

    async def ask(self, **command: Any) -> dict[str, Any]:
        self._ref += 1
        await self.connection.send(json.dumps({"ref": self._ref, **command}))
        return await self.answer(self._ref)


@asynccontextmanager
async def socket(person: Person, **hello: Any) -> AsyncIterator[Socket]:
    async with connect(person.server.ws, max_size=2**24, compression=None) as connection:
        client = Socket(connection)
        answer = await client.ask(op="hello", token=person.token, **hello)
        assert "ok" in answer, answer
        yield client
