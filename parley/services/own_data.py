"""What belongs to one user: taking it along, and going for good."""

from collections.abc import Callable

from msgspec.structs import replace

from parley.ids import now
from parley.models import Device, Member, Message, Model, User
from parley.services import names
from parley.services.live import Live
from parley.services.rooms import Rooms
from parley.services.sessions import Caller, Sessions
from parley.stores.base import Store

SCANNED = 2000
"""Messages that one page of an export looks through."""

RENAMED = 2000
"""Messages that are looked through in one step when an author goes."""


class Export(Model):
    """Somebody's data: who they are, where they are signed in, the rooms they are or were in, and some of
    their messages. `next` asks for more; a page may hold no messages before the last one."""

    user: User
    sessions: list[Device]
    memberships: list[Member]
    messages: list[Message]
    next: str | None = None


class OwnData:
    """Everything of one user, wherever it lies."""

    def __init__(self, store: Store, sessions: Sessions, rooms: Rooms, live: Live) -> None:
        self._store = store
        self._sessions = sessions
        self._rooms = rooms
        self._live = live

    async def export(self, caller: Caller, cursor: str | None) -> Export:
        """The caller's own data, page by page. Raises `InvalidField`."""
        memberships = await self._store.memberships_of(caller.user.id)
        room_id, after = names.export_cursor(cursor)
        there = [each for each in memberships if each.room_id >= room_id]
        messages: list[Message] = []
        following, scanned = None, 0
        for membership in there:
            here = membership.room_id
            begin = after if here == room_id else 0
            page = await self._store.page(here, after=begin, limit=SCANNED - scanned)
            scanned += len(page)
            mine = [each for each in page if each.author_id == caller.user.id]
            messages += [_as_left(membership, each) for each in mine]
            if scanned >= SCANNED:
                following = f"{here}_{page[-1].seq}"
                break
        return Export(
            user=caller.user,
            sessions=await self._sessions.devices(caller),
            memberships=memberships,
            messages=messages,
            next=following,
        )

    async def delete(self, caller: Caller, done: Callable[[], None] = lambda: None) -> None:
        """Remove the caller: sessions end, memberships end, and what they wrote stays under nobody's name.
        `done` is called before the connections of the last session are closed.

        Where the server dies half-way, asking again does the rest. Raises `StoreUnavailable`.
        """
        user_id = caller.user.id
        await self._sessions.sign_out_others(caller)
        memberships = await self._store.memberships_of(user_id)
        for membership in memberships:
            if membership.left_at is None:
                gone = await self._store.leave(membership.room_id, user_id, now())
                if gone is not None:
                    await self._rooms.left(gone)
            await self._disown(membership.room_id, user_id)
        await self._store.remove_user(user_id, now())
        await self._sessions.sign_out(caller, everywhere=True, done=done, reason="account deleted")
        self._live.moved(caller.user, [each.room_id for each in memberships])

    async def _disown(self, room_id: str, user_id: str) -> None:
        """Where everybody has to look anew, the room's next comparison with the store tells them."""
        after: int | None = 0
        while after is not None:
            after = await self._store.disown(room_id, user_id, after, RENAMED)


def _as_left(membership: Member, message: Message) -> Message:
    """A message of somebody's own; what others have done with it since they left is not theirs to know."""
    if membership.left_at is None or not membership.revision:
        return message
    return replace(message, reactions={}, revision=min(message.revision, membership.revision))
