"""What is to be shown of one room, in its order and nothing twice, however the connection fares."""

from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from parley.client.chat import Chat
from parley.client.errors import NotParley, Refused
from parley.realtime.protocol import Message, events

PAGE = 20
"""Messages that are shown at the beginning."""
MAX_PAGE = 200

What = Literal["sent", "edited", "deleted", "reacted"]
WHAT: dict[type[events.Event], What] = {
    events.MessageSent: "sent",
    events.MessageEdited: "edited",
    events.MessageDeleted: "deleted",
    events.MessageReacted: "reacted",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A message, and what has happened to it."""

    what: What
    message: Message


@dataclass(frozen=True, slots=True)
class Begun:
    """The messages before were the end of the history; what follows is live."""

    count: int


@dataclass(frozen=True, slots=True)
class Missing:
    """So many messages in between are not shown."""

    count: int


@dataclass(frozen=True, slots=True)
class Replaced:
    """What follows is another history than what came before."""


Item = Shown | Begun | Missing | Replaced


class Transcript:
    """One room of a chat. Make it before the chat connects, so that nothing is missed."""

    def __init__(self, chat: Chat, room: str) -> None:
        self._chat = chat
        self._key = room
        self._events = chat.events()
        self._room_id = ""
        self.last_seq = 0

    async def items(self) -> AsyncIterator[Item]:
        """The end of the history, and then what happens. Raises `ChatEnded`."""
        async for event in self._events:
            if isinstance(event, events.RoomAdded):
                known = self._chat.state.find(self._key)
                if known is not None and known.room.id == event.room_id:
                    for item in await self._catch_up(event.room_id):
                        yield item
            elif (
                isinstance(event, events.SessionEnded | events.PresenceChanged)
                or event.room_id != self._room_id
            ):
                continue
            elif isinstance(event, events.RoomReset) and event.reason != "behind":
                self.last_seq = 0
                yield Replaced()
                for item in self._new(event.messages):
                    yield item
            elif isinstance(event, events.MessageSent):
                for item in self._new([event.message]):
                    yield item
            elif isinstance(event, events.MessageEvent) and event.message.seq <= self.last_seq:
                yield Shown(WHAT[type(event)], event.message)

    async def _catch_up(self, room_id: str) -> list[Item]:
        """What to show on coming into the room: the first time, again, or into another of that name."""
        items: list[Item] = []
        is_first = not self._room_id
        if room_id != self._room_id and not is_first:
            items.append(Replaced())
            self.last_seq = 0
        self._room_id = room_id
        page = await self._page(PAGE if is_first else MAX_PAGE)
        if is_first and page:
            self.last_seq = page[0].seq - 1
        items += self._new(page)
        return [*items, Begun(len(items))] if is_first else items

    async def _page(self, limit: int) -> list[Message]:
        while True:
            try:
                return await self._chat.history(self._room_id, limit=limit)
            except TimeoutError:
                continue  # the server went away: it is asked again when it is back
            except (Refused, NotParley):
                return []  # the room is gone again; what comes next says so

    def _new(self, messages: Iterable[Message]) -> Iterator[Item]:
        for message in messages:
            if message.seq > self.last_seq:
                if self.last_seq and message.seq > self.last_seq + 1:
                    yield Missing(message.seq - self.last_seq - 1)
                self.last_seq = message.seq
                if message.deleted_at is None:
                    yield Shown("sent", message)
