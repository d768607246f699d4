"""Who may do what, in one place. Pure questions about roles; no store, no clock."""

from parley.errors import NotYourMessage, ReadOnlyRoom
from parley.models import Message, Role

KEEPS_ORDER = frozenset({Role.OWNER, Role.MODERATOR})
WRITES = KEEPS_ORDER | {Role.MEMBER}


def may_send(role: Role, *, read_only: bool) -> None:
    """Refuse a member who may not write. Raises `ReadOnlyRoom`."""
    if role not in (KEEPS_ORDER if read_only else WRITES):
        raise ReadOnlyRoom


def may_edit(message: Message, user_id: str) -> None:
    """Only the author changes a message's words. Raises `NotYourMessage`."""
    if message.author_id != user_id:
        raise NotYourMessage


def may_delete(message: Message, user_id: str, role: Role) -> None:
    """The author takes a message back, or whoever keeps order removes it. Raises `NotYourMessage`."""
    if message.author_id != user_id and role not in KEEPS_ORDER:
        raise NotYourMessage
