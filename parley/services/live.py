"""What the services tell the people who are connected; the hub answers to it."""

from collections.abc import Iterable
from typing import Protocol

from parley.events import RoomEvent
from parley.models import User


class Live(Protocol):
    """The connections of this node and, through the bus, of the others. Nothing here waits."""

    def joined(self, user_id: str, room_id: str) -> None:
        """Tell the user's sessions that they are in a room now."""

    def left(self, user_id: str, room_id: str) -> None:
        """Tell the user's sessions that they are no longer in a room."""

    def announce(self, event: RoomEvent) -> None:
        """Tell all who are in a room, here and elsewhere, what was just stored."""

    def closed(self, room_id: str) -> None:
        """Tell all who follow a room that it is closed, and nothing of it any more."""

    def read(self, user_id: str, room_id: str, seq: int, *, to_all: bool) -> None:
        """Tell the user's sessions, or all who are in the room, how far the user has read."""

    def typing(self, user: User, room_id: str, on: bool) -> None:
        """Tell the others in a room that the user has begun or stopped to write."""

    def ended(self, user_id: str, session_id: str | None, reason: str) -> None:
        """Tell the connections of a session, or of all of a user's, that it is over, and close them."""

    def renamed(self, user: User) -> None:
        """Let the user's connections go on under another name, and tell those who share a room with them."""

    def moved(self, user: User, room_ids: Iterable[str]) -> None:
        """Tell those who are in these rooms whether the user is online."""

    def is_online(self, user_id: str) -> bool:
        """Whether the user has a connection."""

    def who_is_online(self) -> list[str]:
        """The ids of all users with a connection, in order."""

    def users_online(self) -> int:
        """How many users have a connection."""

    def online_count(self, room_id: str) -> int:
        """How many users with a connection here follow the room."""
