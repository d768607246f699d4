"""Who may do what, in one place. Pure questions about roles; no store, no clock.

| what | in a public room | in a private room | in a direct room |
| --- | --- | --- | --- |
| see it, its members and its messages | everybody | members | the two |
| join by oneself | everybody | nobody | nobody |
| everything else | its members, by `MAY` | its members, by `MAY` | the two, by `MAY` |

The two in a direct room are ordinary members of it, and stay while both are there: nobody is added or
removed, nothing is changed, and nobody closes it. The door of a public room is open: whoever left it, or was
shown the door, may come back, as a member. Whoever may not see a room is told that there is none.
"""

from msgspec import UNSET

from parley.errors import NotAllowed, NotYourMessage, ParleyError, ReadOnlyRoom, RoomNotFound
from parley.models import Message, Role, Room, RoomKind

OWNER, MODERATOR, MEMBER, READER = Role

MAY: dict[str, frozenset[Role]] = {
    "write": frozenset({OWNER, MODERATOR, MEMBER}),
    "write in a read-only room": frozenset({OWNER, MODERATOR}),
    "react, mark as read, leave": frozenset({OWNER, MODERATOR, MEMBER, READER}),
    "delete messages of others": frozenset({OWNER, MODERATOR}),
    "add members and readers": frozenset({OWNER, MODERATOR}),
    "remove members and readers": frozenset({OWNER, MODERATOR}),
    "add and remove moderators, add owners": frozenset({OWNER}),
    "change roles": frozenset({OWNER}),
    "change settings": frozenset({OWNER}),
    "close": frozenset({OWNER}),
}
"""What each role may do. One's own messages anybody edits and deletes who is still a member."""

KEEPS_ORDER = MAY["delete messages of others"]
_ORDINARY = frozenset({MEMBER, READER})


def may_see(room: Room) -> bool:
    """Whether a room, as its store shows it to somebody, is theirs to see."""
    return room.kind == "public" or room.role is not UNSET


def may_send(role: Role, *, read_only: bool) -> None:
    """Refuse a member who may not write. Raises `ReadOnlyRoom`."""
    if role not in MAY["write in a read-only room" if read_only else "write"]:
        raise ReadOnlyRoom


def may_edit(message: Message, user_id: str) -> None:
    """Only the author changes a message's words. Raises `NotYourMessage`."""
    if message.author_id != user_id:
        raise NotYourMessage


def may_delete(message: Message, user_id: str, role: Role) -> None:
    """The author takes a message back, or whoever keeps order removes it. Raises `NotYourMessage`."""
    if message.author_id != user_id and role not in KEEPS_ORDER:
        raise NotYourMessage


def may_join(kind: RoomKind, role: Role) -> None:
    """Refuse somebody who comes by themselves into a room that is not public, or as more than a member.
    Raises `RoomNotFound`, `NotAllowed`."""
    if kind != "public":
        raise RoomNotFound
    if role not in _ORDINARY:
        raise NotAllowed


def may_add(kind: RoomKind, by: Role | None, role: Role) -> None:
    """Refuse somebody who brings another into a room with that role. Raises `NotAllowed`, `RoomNotFound`."""
    ordinary = role in _ORDINARY
    _check(kind, by, "add members and readers" if ordinary else "add and remove moderators, add owners")


def may_remove(kind: RoomKind, by: Role | None, role: Role | None) -> None:
    """Refuse somebody who shows another the door; owners only leave by themselves. Raises `NotAllowed`,
    `RoomNotFound`."""
    ordinary = role is None or role in _ORDINARY
    _check(kind, by, "remove members and readers" if ordinary else "add and remove moderators, add owners")
    if role is OWNER:
        raise NotAllowed("An owner is removed by nobody.")


def may_leave(kind: RoomKind, role: Role, *, owners: int, members: int) -> None:
    """Refuse to go where that would leave others without an owner. Raises `NotAllowed`."""
    if kind == "direct" and members > 1:
        raise NotAllowed("A direct room lasts as long as both of you.")
    if role is OWNER and owners == 1 and members > 1:
        raise NotAllowed("Make somebody else an owner first, or close the room.")


def may_change_role(kind: RoomKind, by: Role | None, was: Role, role: Role, *, owners: int) -> None:
    """Refuse to give somebody another role. Raises `NotAllowed`, `RoomNotFound`."""
    _check(kind, by, "change roles")
    if was is OWNER and role is not OWNER and owners == 1:
        raise NotAllowed("Make somebody else an owner first.")


def may_change(kind: RoomKind, by: Role | None) -> None:
    """Refuse to change a room's settings. Raises `NotAllowed`, `RoomNotFound`."""
    _check(kind, by, "change settings")


def may_close(kind: RoomKind, by: Role | None) -> None:
    """Refuse to close a room by hand. Raises `NotAllowed`, `RoomNotFound`."""
    _check(kind, by, "close")


def _check(kind: RoomKind, by: Role | None, what: str) -> None:
    refusal: ParleyError = RoomNotFound() if by is None and kind != "public" else NotAllowed()
    if by is None or kind == "direct" or by not in MAY[what]:
        raise refusal
