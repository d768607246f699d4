"""A participant that uses the Python client: it writes, and reads what the client says is new."""

import asyncio
from asyncio import Future

from parley.client import Chat, Message
from parley.realtime.protocol import events


class Talker:
    """One `Chat` on one node. What must not be is put down in `wrong`."""

    def __init__(self, name: str, chat: Chat, rooms: list[str], interval: float) -> None:
        self.name = name
        self.chat = chat
        self.rooms = rooms
        self.written: list[Future[Message]] = []
        self.shown: dict[str, int] = {}
        self.wrong: list[str] = []
        self._interval = interval
        self._last: dict[str, int] = {}

    def knows(self, heads: dict[str, int]) -> bool:
        """Whether it stands, in all of its rooms, where the store does."""
        known = self.chat.state.since()
        return all(known.get(room_id) == heads[room_id] for room_id in self.rooms)

    async def write(self, enough: asyncio.Event) -> None:
        """Write now and then; return when there is enough and all of it is stored."""
        while not enough.is_set():
            room_id = self.rooms[len(self.written) % len(self.rooms)]
            self.written.append(await self.chat.post(room_id, f"{self.name} {len(self.written)}"))
            await asyncio.sleep(self._interval)
        await self.chat.flush()

    async def read(self) -> None:
        """Take in what is new, for ever."""
        async for event in self.chat.events():
            if isinstance(event, events.RoomReset):
                self.wrong.append(f"{self.name}: told to begin anew: {event.reason}")
            if isinstance(event, events.MessageSent):
                message = event.message
                if message.id in self.shown:
                    self.wrong.append(f"{self.name}: {message.id} was shown twice")
                if message.seq != self._last.setdefault(message.room_id, 0) + 1:
                    last = self._last[message.room_id]
                    self.wrong.append(f"{self.name}: message {message.seq} came after {last}")
                self._last[message.room_id] = message.seq
                self.shown[message.id] = message.seq
