"""The Python client: take part in a chat as a person, a script or a bot.

    async with Chat("http://127.0.0.1:8000", name="ann", rooms=["kitchen"]) as chat:
        await chat.send("kitchen", "hello")
        async for event in chat.events():
            ...

Nothing else of Parley is needed; see docs/protocol.md for what happens on the wire.
"""

from parley.client.chat import Chat
from parley.client.errors import (
    ChatEnded,
    ChatError,
    ConnectionLost,
    EventsUnread,
    NotParley,
    Refused,
)
from parley.client.lifeline import Status
from parley.client.room_state import RoomState
from parley.client.state import ChatState
from parley.realtime.protocol import Member, Message, Room, User, events

__all__ = [
    "Chat",
    "ChatEnded",
    "ChatError",
    "ChatState",
    "ConnectionLost",
    "EventsUnread",
    "Member",
    "Message",
    "NotParley",
    "Refused",
    "Room",
    "RoomState",
    "Status",
    "User",
    "events",
]
