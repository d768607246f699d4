"""What nodes tell each other beside events of rooms: what happened to a user, and who is connected where."""

import msgspec

from parley.models import Model, User


class Joined(Model, tag_field="note", tag="joined"):
    """The user is in a room now."""

    room_id: str


class Left(Model, tag_field="note", tag="left"):
    """The user is no longer in a room."""

    room_id: str


class Read(Model, tag_field="note", tag="read"):
    """The user has read a room up to `seq`."""

    room_id: str
    seq: int


class Renamed(Model, tag_field="note", tag="renamed"):
    """The user is shown under another name."""

    user: User


class Ended(Model, tag_field="note", tag="ended"):
    """A session of the user's is over, or all of them."""

    session_id: str | None
    reason: str


UserNote = Joined | Left | Read | Renamed | Ended


class Came(Model):
    """A user with a connection to the node, by which they follow these rooms."""

    user_id: str
    display_name: str
    rooms: list[str]


class Connected(Model):
    """Who is connected to a node, where that has changed: all that is to know of those who came, and who
    went."""

    epoch: str
    """The store's, as chats that have nothing to do with each other may share a broker."""
    node_id: str
    came: list[Came]
    went: list[str]


encode = msgspec.json.Encoder().encode
_decode_user_note = msgspec.json.Decoder(UserNote).decode
connected = msgspec.json.Decoder(Connected).decode
"""Read what another node says of its connections. Raises `ValueError`."""


def user_note(line: bytes) -> UserNote:
    """Read what another node says of a user. Raises `ValueError`."""
    note: UserNote = _decode_user_note(line)
    return note
