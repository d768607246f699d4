"""Keeps what is known in step with the server: takes in events and asks for what is missing between them."""

import asyncio
from asyncio import Future, Task
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import Raw

from parley.client.backoff import Backoff
from parley.client.errors import ChatEnded, ConnectionLost, NotParley, Refused
from parley.client.inbox import Inbox
from parley.client.requests import ANSWER_SECONDS, Requests
from parley.client.state import ChatState
from parley.realtime.protocol import Room, Welcome, events


class Mirror:
    """Applies events to the state, in order, and passes on what is new."""

    def __init__(self, state: ChatState, inbox: Inbox, requests: Requests) -> None:
        self._state = state
        self._inbox = inbox
        self._requests = requests
        self._filling: dict[str, Task[None]] = {}
        self._awaited: dict[str, Future[None]] = {}

    def take(self, event: events.Event | Welcome) -> None:
        """Take in an event at once."""
        self._inbox.put(self._state.apply(event))
        if isinstance(event, Welcome | events.SessionEnded | events.PresenceChanged):
            return
        if isinstance(event, events.RoomAdded) and event.room_id in self._awaited:
            self._awaited.pop(event.room_id).set_result(None)
        self._look_at(event.room_id)

    async def hear(self, event: events.Event) -> None:
        """Take in an event; return when the next one may come."""
        self.take(event)
        await self._inbox.settle()

    def hear_of(self, room_id: str, revision: int) -> None:
        """Take note of an event that cannot be read: what it changed can be asked for."""
        self._state.heard_of(room_id, revision)
        self._look_at(room_id)

    async def added(self, room_id: str) -> None:
        """Wait until the room is followed. Raises `TimeoutError`."""
        if room_id not in self._state.rooms:
            awaited = self._awaited.setdefault(room_id, asyncio.get_running_loop().create_future())
            async with asyncio.timeout(ANSWER_SECONDS):
                await asyncio.shield(awaited)

    async def close(self) -> None:
        """Stop asking."""
        filling = list(self._filling.values())
        for task in filling:
            task.cancel()
        if filling:
            await asyncio.wait(filling)

    def _look_at(self, room_id: str) -> None:
        known = self._state.rooms.get(room_id)
        if known is not None and known.has_hole and room_id not in self._filling:
            task = asyncio.create_task(self._fill(room_id), name="chat hole")
            self._filling[room_id] = task
            task.add_done_callback(lambda _: self._filling.pop(room_id))

    async def _fill(self, room_id: str) -> None:
        """Ask what the room has become until nothing is missing. A new connection brings it, too."""
        backoff = Backoff()
        while (known := self._state.rooms.get(room_id)) is not None and known.has_hole:
            since = known.revision

            def read(raw: Raw, since: int = since) -> None:
                self.take(_as_event(raw, room_id, since))

            try:
                await self._requests.ask("message.changes", {"room": room_id, "since": since}, read)
            except ChatEnded:
                return
            except Refused as error:
                if error.code == "room_not_found":  # its end will be told
                    return
            except (ConnectionLost, NotParley, TimeoutError):
                pass
            if known.revision == since:
                await asyncio.sleep(backoff.next_seconds())


async def enter(key: str, ask: Callable[[str, dict[str, Any]], Awaitable[Room]]) -> Room:
    """Come into a public room, which is made if there is none of that name. Raises `Refused`."""
    try:
        return await ask("room.join", {"room": key})
    except Refused as error:
        if error.code != "room_not_found":
            raise
    try:
        return await ask("room.create", {"name": key})
    except Refused as error:
        if error.code != "name_taken":
            raise
    return await ask("room.join", {"room": key})  # somebody else was quicker


def _as_event(raw: Raw, room_id: str, since: int) -> events.RoomChanges | events.RoomReset:
    """The answer to `message.changes` as the event that says the same."""
    fields = msgspec.json.decode(raw) | {"room_id": room_id, "since": since}
    if not fields["reset"]:
        return msgspec.convert(fields | {"event": "room.changes"}, events.RoomChanges)
    fields["reason"] = "ahead" if fields["revision"] < since else "behind"
    return msgspec.convert(fields | {"event": "room.reset"}, events.RoomReset)
