"""The names of the keys; the package says what is under them."""

PEOPLE = "parley:{people}"
GUESTS = "parley:{people}:guests"
REMOVED = "parley:{people}:removed"
USER_NAME = "parley:user-name:"
ROOM_NAME = "parley:room-name:"
ROOMS = "parley:rooms"
PUBLIC_ROOMS = "parley:public-rooms"
EXPIRING_ROOMS = "parley:expiring-rooms"
DUE_ROOMS = "parley:due-rooms"
CLOSED_ROOMS = "parley:closed-rooms"
COMING = "parley:coming"
MOVED = "parley:moved"
SESSIONS = "parley:sessions"
SESSION = "parley:session:"
NODES = "parley:{nodes}"
SENT = "parley:sent:"
KEPT = "parley:kept:"

ROOM_PARTS = (
    "",
    "messages",
    "ids",
    "revisions",
    "members",
    "member-revisions",
    "roles",
    "present",
    "marks",
)
USER_PARTS = ("", "password", "rooms", "left", "created", "sessions")


def of_room(room_id: str, *parts: str) -> list[str]:
    """The keys of these parts of a room; the room's own is the part without name."""
    return [_part(room(room_id), part) for part in parts]


def of_user(user_id: str, *parts: str) -> list[str]:
    """As `of_room`, but of a user."""
    return [_part(user(user_id), part) for part in parts]


def room(room_id: str) -> str:
    """The key of a room's own record."""
    return f"parley:{{room:{room_id}}}"


def user(user_id: str) -> str:
    """The key of a user's own record."""
    return f"parley:{{user:{user_id}}}"


def _part(record: str, part: str) -> str:
    return f"{record}:{part}" if part else record
