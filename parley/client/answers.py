"""The answers that this client reads."""

import msgspec

from parley.realtime.protocol import Member, Message, Room


class RoomAnswer(msgspec.Struct):
    """The answer that is a room."""

    room: Room


class MessagePage(msgspec.Struct):
    """Some messages."""

    items: list[Message]


class MemberPage(msgspec.Struct):
    """Some members."""

    items: list[Member]


class RoomPage(msgspec.Struct):
    """Some rooms; `next` asks for more."""

    items: list[Room]
    next: str | None = None


room = msgspec.json.Decoder(RoomAnswer).decode
messages = msgspec.json.Decoder(MessagePage).decode
members = msgspec.json.Decoder(MemberPage).decode
