"""The names of the keys; the package says what is under them."""

USER = "parley:user:"
USER_NAME = "parley:user-name:"
USER_ROOMS = "parley:user-rooms:"
ROOM_NAME = "parley:room-name:"
PUBLIC_ROOMS = "parley:public-rooms"
SESSION = "parley:session:"
SESSION_HASH = "parley:session-hash:"
KEPT = "parley:kept:"


def of_room(room_id: str, *parts: str) -> list[str]:
    """The keys of these parts of a room; the room's own is the part without name."""
    room = f"parley:{{room:{room_id}}}"
    return [f"{room}:{part}" if part else room for part in parts]
