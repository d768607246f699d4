"""A client that speaks raw frames: it writes, remembers all that it was told, and comes back by itself."""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

from parley.ids import new_id
from parley.realtime.protocol import SUBPROTOCOL, may_return
from tests.delivery.nodes import Place
from tests.delivery.stream import Json, RoomStream

OPEN_SECONDS = 5
BACK_SECONDS = 0.1
MAX_PENDING = 20
EMOJI = "👍🎉🐟"


@dataclass
class Op:
    """Something that was asked for, until it is answered."""

    line: Json
    room_id: str
    message_id: str
    answered_at: float = 0.0
    answer: Json = field(default_factory=dict)
    error: Json | None = None

    @property
    def kind(self) -> str:
        return str(self.line["op"])


class Person:
    """Hears `reads_in` and speaks in `writes_in`.

    What has no answer when a connection ends is asked again on the next one, under the same ids and in the
    same order. Nothing wrong is raised; it is put down in `wrong`.
    """

    def __init__(
        self, name: str, user: Json, token: str, nodes: Sequence[Place], at: int, seed: str, interval: float
    ) -> None:
        self.name = name
        self.user = user
        self.token = token
        self.at = at
        self.reads_in: list[str] = []
        self.writes_in: list[str] = []
        self.rooms: dict[str, RoomStream] = {}
        self.answered: list[Op] = []
        self.pending: dict[int, Op] = {}
        self.shown: dict[str, float] = {}
        """When each message was new here."""
        self.came: list[float] = []
        """When each connection was let in."""
        self.ended = 0
        self._wrong: list[str] = []
        self._nodes = nodes
        self._chance = random.Random(seed)
        self._interval = interval
        self._epoch = ""
        self._refs = 0
        self._again: dict[int, float] = {}
        self._mine: dict[str, str] = {}
        self._socket: ClientConnection | None = None

    @property
    def wrong(self) -> list[str]:
        told = [f"{each.room_id}: {wrong}" for each in self.rooms.values() for wrong in each.wrong]
        return [f"{self.name}: {each}" for each in (*self._wrong, *told)]

    @property
    def is_connected(self) -> bool:
        return self._socket is not None

    def knows(self, heads: dict[str, int]) -> bool:
        """Whether it stands, in all of its rooms, where the store does."""
        return all(heads[room_id] == self.rooms[room_id].revision for room_id in self.reads_in)

    async def move(self, at: int) -> None:
        """Go to another node."""
        self.at = at
        if self._socket is not None:
            await self._socket.close()

    async def live(self) -> None:
        """Be connected, to a node that is up, for ever."""
        while True:
            place = self._nodes[self.at]
            if place.process.is_up:
                try:
                    await self._connected_to(place)
                except (OSError, TimeoutError, WebSocketException):
                    pass
                finally:
                    self._socket = None
                self.ended += 1
            if not place.process.is_up:
                self.at = (self.at + 1) % len(self._nodes)
            await asyncio.sleep(BACK_SECONDS)

    async def write(self, enough: asyncio.Event) -> None:
        """Do something now and then; return when there is enough and all of it is answered."""
        while not enough.is_set() or self.pending:
            if self._socket is not None:
                moment = time.monotonic()
                for ref in [ref for ref, due in self._again.items() if due <= moment]:
                    del self._again[ref]
                    await self._say(self.pending[ref].line)
                if not enough.is_set() and self.rooms and len(self.pending) < MAX_PENDING:
                    await self._do_something()
            await asyncio.sleep(self._interval * self._chance.uniform(0.5, 1.5))

    async def _do_something(self) -> None:
        dice = self._chance.random()
        busy = {op.message_id for op in self.pending.values()}
        mine = [each for each in self._mine if each not in busy]
        seen = self.rooms[self._chance.choice(self.writes_in)]
        if dice < 0.15 and mine:
            own = self._chance.choice(mine)
            await self._ask("message.edit", self._mine[own], message=own, text=self._words())
        elif dice < 0.25 and mine:
            own = self._chance.choice(mine)
            await self._ask("message.delete", self._mine.pop(own), message=own)
        elif dice < 0.3 and seen.messages:
            message = self._chance.choice(list(seen.messages.values()))
            emoji = self._chance.choice(EMOJI)
            await self._ask("message.react", seen.room_id, message=message["id"], emoji=emoji)
        else:
            await self._ask("message.send", seen.room_id, id=new_id(), text=self._words())

    def _words(self) -> str:
        return f"{self.name} says {self._chance.randrange(10**9)}"

    async def _ask(self, op: str, room_id: str, **fields: Any) -> None:
        self._refs += 1
        line = {"op": op, "ref": self._refs, "room": room_id, **fields}
        self.pending[self._refs] = Op(line, room_id, str(fields.get("message") or fields["id"]))
        await self._say(line)

    async def _say(self, line: Json) -> None:
        if self._socket is not None:
            try:
                await self._socket.send(json.dumps(line))
            except ConnectionClosed:
                pass  # it is asked again on the next one

    async def _connected_to(self, place: Place) -> None:
        subprotocols = [Subprotocol(SUBPROTOCOL)]
        connecting = connect(
            place.ws, subprotocols=subprotocols, proxy=None, compression=None, open_timeout=OPEN_SECONDS
        )
        async with connecting as socket:
            since = {room_id: room.revision for room_id, room in self.rooms.items()}
            hello = {"op": "hello", "ref": 0, "token": self.token, "since": since}
            await socket.send(json.dumps(hello | ({"epoch": self._epoch} if self._epoch else {})))
            try:
                async for frame in socket:
                    for line in frame.split("\n") if isinstance(frame, str) else ():
                        await self._take(json.loads(line), socket)
            finally:
                if socket.close_code is not None and not may_return(socket.close_code):
                    self._wrong.append(f"sent away: {socket.close_code} {socket.close_reason}")

    async def _take(self, said: Json, socket: ClientConnection) -> None:
        if "event" in said:
            self._hear(said)
        elif said.get("ref") == 0:
            self._welcome(said)
            self._socket = socket
            self._again.clear()
            for op in list(self.pending.values()):
                await self._say(op.line)
        elif said["ref"] in self.pending:
            self._answered(self.pending[said["ref"]], said)

    def _welcome(self, said: Json) -> None:
        if "error" in said:
            self._wrong.append(f"not let in: {said['error']}")
            return
        welcome = said["ok"]
        if self._epoch not in ("", welcome["epoch"]):
            self._wrong.append("the epoch is another one")
        self._epoch = welcome["epoch"]
        self.came.append(time.monotonic())
        for room in welcome["rooms"]:
            self.rooms.setdefault(room["id"], RoomStream(room))

    def _hear(self, event: Json) -> None:
        room = self.rooms.get(str(event.get("room_id")))
        if event["event"] in ("room.added", "room.closed", "session.ended") or (
            event["event"] == "member.left" and event["user_id"] == self.user["id"]
        ):
            self._wrong.append(f"heard {event}")
        elif room is not None:
            for message_id in room.take(event):
                if self.shown.setdefault(message_id, moment := time.monotonic()) != moment:
                    self._wrong.append(f"message {message_id} was shown twice")

    def _answered(self, op: Op, said: Json) -> None:
        error = said.get("error")
        if error is not None and error["retryable"]:
            self._again[said["ref"]] = time.monotonic() + float(error.get("retry_after") or 0.2)
            return
        del self.pending[said["ref"]]
        self._again.pop(said["ref"], None)
        op.answered_at = time.monotonic()
        self.answered.append(op)
        if error is not None:
            op.error = error
            if not (op.kind == "message.react" and error["code"] == "message_not_found"):
                self._wrong.append(f"{op.line} was refused: {error}")
            return
        op.answer = said["ok"]["message"]
        if op.kind == "message.send":
            self._mine[op.message_id] = op.room_id
