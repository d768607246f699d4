"""What every store promises. One contract test suite holds them all to it.

Each method is one atomic, named step: it happens whole or not at all, and when it returns, what it wrote is
as durable as that store makes anything. A store that cannot answer raises `StoreUnavailable`, and nothing
else of its driver's errors gets out. Rooms are given by id unless a parameter is called `key`, which is an id
or a name.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from parley.errors import (
    ParleyError,
)
from parley.ids import Time
from parley.models import (
    Applied,
    Change,
    Changes,
    Mark,
    Marked,
    Member,
    Message,
    Model,
    Role,
    Room,
    RoomChange,
    Session,
    Stats,
    User,
)

MAX_REACTIONS = 32
"""Different emoji on one message; one more is refused with `limit_reached`."""

NEWEST_PAGE = 50
"""Messages that come with a reset."""

MAX_TOLD_BYTES = 512 * 1024
"""Text that one answer to "what has changed?" carries, so that it fits into a connection's buffer."""

DELETED = "deleted user"
"""The name under which those who are gone are still seen."""

MAX_SCAN = 10_000
"""Messages that a search looks through where there is no index."""


class UserState(Model):
    """A user as the store keeps them."""

    user: User
    deleted_at: Time | None = None
    password_hash: str | None = None


class RoomState(Model):
    """A room as the store keeps it, with the counters that are nobody else's business."""

    room: Room
    first_seq: int
    trimmed_revision: int
    settings_revision: int


Record = UserState | Session | RoomState | Member | Message
"""What a whole chat consists of."""


class Query(Model):
    """What to search for: `words` as `parley.words` gives them, in one room or in all that the user
    may read. `before` is the key of the last message of the page before."""

    user_id: str
    words: tuple[str, ...]
    room_id: str | None = None
    before: tuple[Time, str, int] | None = None
    limit: int


class Found(Model):
    """Messages that were searched for, the newest first."""

    messages: list[Message]
    complete: bool = True


class Store(Protocol):
    """A chat's memory. Safe to call from many tasks of one event loop at once."""

    epoch: str
    """A random id made with the store; another one after a restore. Read it after `open`."""

    async def open(self) -> None:
        """Connect, and make what must be there: the schema and the epoch. Raises `StartError`."""

    async def close(self) -> None:
        """Let go of everything. Steps under way end first."""

    async def ping(self) -> None:
        """Return if the store can answer. Raises `StoreUnavailable`."""

    async def keep(self, name: str, value: str) -> str:
        """Keep `value` under `name` unless something is kept there already; return what is kept."""

    async def kept(self, name: str) -> str | None:
        """What is kept under `name`."""

    # People

    async def add_user(
        self,
        user: User,
        rooms: Sequence[str] = (),
        password_hash: str | None = None,
        most: int | None = None,
    ) -> None:
        """Add a user and make them a member of these rooms. Raises `NameTaken`, `RoomNotFound`,
        `RoomFull`, and `LimitReached` where there are `most` users and guests already."""

    async def user(self, key: str) -> User | None:
        """The user of that id or name."""

    async def users(self, user_ids: Sequence[str]) -> dict[str, User]:
        """Those of the users that are there, by id. One query, however many."""

    async def password_hash(self, user_id: str) -> str | None:
        """The hash of a user's password; None where there is no such user or they have no password."""

    async def find_users(self, text: str, after: str | None, limit: int) -> list[User]:
        """Users whose name or display name begins with `text`, which is casefolded, in the order of their
        ids, those after that id."""

    async def change_user(self, user_id: str, display_name: str) -> User:
        """Give a user another display name; return them as they are now. Raises `UserNotFound`."""

    async def change_password(self, user_id: str, password_hash: str) -> None:
        """Put another password in place of the old one. Raises `UserNotFound`."""

    async def remove_user(self, user_id: str, at: Time) -> None:
        """Remove a user: their memberships and sessions end, their password is gone, their name is free and
        they are called `DELETED` from now on. What they wrote stays: see `disown`. It is no error if they
        are gone already."""

    async def add_session(self, session: Session) -> None:
        """Remember a session. Raises `UserNotFound`."""

    async def sessions(self, session_ids: Sequence[str]) -> dict[str, tuple[Session, User]]:
        """Those of these sessions that are known, by id, and whose each is; ended or not is the caller's
        question. One query, however many."""

    async def sessions_of(self, user_id: str) -> list[Session]:
        """All of a user's sessions, in the order of their ids."""

    async def rotate_session(
        self, session_id: str, generation: int, at: Time, expires_at: Time
    ) -> Session | None:
        """Move a session that is at `generation` to the next one, and its end to that time; return it as it
        is then. None if there is no such session or it is not at that generation."""

    async def extend_sessions(self, expires_at: dict[str, Time]) -> None:
        """Move the end of sessions (id -> time) to later; never to earlier, and unknown ones are passed
        over."""

    async def end_session(self, session_id: str) -> None:
        """Forget a session. It is no error if it is gone already."""

    async def saw(self, users: dict[str, Time]) -> None:
        """Move `last_seen_at` of users (id -> time) to later; never to earlier, and unknown ones are passed
        over."""

    async def report(self, node_id: str, until: Time, came: Sequence[str], went: Sequence[str]) -> bool:
        """A node says which users have connections to it now and which no longer, and that all of it holds
        until then. False if its time had run out, or this is its first report: what it said before is
        forgotten, and it has to say again who is there."""

    async def online(self, at: Time, but: str) -> dict[str, set[str]]:
        """The users who are connected to each node, except that one, whose report still holds."""

    async def expire_guests(self, at: Time, idle_since: Time, limit: int) -> list[str]:
        """Remove guests that nothing keeps any more, at most so many, and return their ids.

        A guest is kept by a session that ends after `at`, by having been seen after `idle_since`, by an open
        room that they created, and by one that closed after `idle_since`. Removing ends sessions and
        memberships (which in private rooms is a change of the room) and frees the name; what they wrote
        stays. Each is returned to one caller only, however many ask at once.
        """

    # Rooms

    async def add_room(
        self,
        room: Room,
        owner_id: str | None = None,
        peer_id: str | None = None,
        most: int | None = None,
    ) -> None:
        """Add a room and let its owner join it, or both of the two in a direct room, as members.

        Raises `NameTaken`, also where there is a room of that id, `UserNotFound`, `RoomFull`, and
        `LimitReached` where `most` rooms are open already.
        """

    async def room(self, key: str, user_id: str | None = None) -> Room | None:
        """An open room of any kind; with `role`, `read_seq`, `unread` and perhaps `peer` where that user is
        a member."""

    async def rooms_of(self, user_ids: Sequence[str]) -> dict[str, list[Room]]:
        """All open rooms that each of these users is in, as `room` shows them to that user, oldest membership
        first. One query, however many.

        Memberships of the same moment come in the order of the rooms' ids.
        """

    async def public_rooms(self, after: str | None, limit: int) -> list[Room]:
        """Open public rooms in the order of their ids, those after that id."""

    async def heads(self, room_ids: Sequence[str]) -> dict[str, int]:
        """The revision of each of these rooms that is open. One query, however many."""

    async def change_room(self, room_id: str, change: RoomChange, by: str | None = None) -> Room | None:
        """Change a room's settings, which is a change of the room; return it as it is then, or None if it is
        so already.

        What is beyond another `history_limit` is gone when this returns. Where a room becomes private, all
        present members are stamped with the revision. `by` is who asks: whether they may is decided in this
        step. Raises `RoomNotFound`, `NotAllowed`.
        """

    async def close_room(
        self, room_id: str, at: Time, by: str | None = None, only_if_empty: bool = False
    ) -> Room | None:
        """Close a room as `close_due_rooms` does, and return it as it is then; None if it is not empty, where
        that was asked. Raises `RoomNotFound`, `NotAllowed`."""

    async def owns_room(self, user_id: str, closed_after: Time) -> bool:
        """Whether a room that the user created is open, or was closed after that moment."""

    async def close_due_rooms(self, at: Time, limit: int) -> list[Room]:
        """Close open rooms that have reached `expires_at` and those that are empty, at most so many, and
        return them as they are then.

        Empty means without members, where the room is to close then or nobody could come back: it is not
        public.

        Closing is a change of the room: it takes its next revision. A closed room is found by no other step
        but `page` and `members`, and its name is free. Each is returned to one caller only, however many ask
        at once.
        """

    # Members

    async def join(
        self,
        room_id: str,
        user_id: str,
        role: Role,
        at: Time,
        by: str | None = None,
        most: int | None = None,
    ) -> Member | None:
        """Make the user a member; None if they were one already. Who comes back finds the old read mark.

        The room takes its next revision and stamps it on the membership, unless it is public: the open door
        of a public room is no change of it. `by` is who asks, the user or another: whether they may is
        decided in this step. Raises `RoomNotFound`, `UserNotFound`, `NotAllowed`, `RoomFull`, and
        `LimitReached` where the room has `most` members already.
        """

    async def leave(self, room_id: str, user_id: str, at: Time, by: str | None = None) -> Member | None:
        """End a membership; the row stays as a tombstone. None if there was none. Stamped as in `join`.

        Raises `NotAllowed`, and where somebody asks `RoomNotFound`.
        """

    async def change_role(
        self, room_id: str, user_id: str, role: Role, by: str | None = None
    ) -> Member | None:
        """Give a member another role, which is a change of any room; None if they have it already.

        Raises `RoomNotFound`, `UserNotFound` where they are not in the room, `NotAllowed`.
        """

    async def moved(self, since: Time) -> set[str]:
        """The users who came into a room or left one at that time or later; perhaps others too, and perhaps
        not those of a time that was purged."""

    async def memberships_of(self, user_id: str) -> list[Member]:
        """All of a user's memberships of rooms that are still in the store, ended ones too, in the order of
        the rooms' ids. Ended ones of public rooms may be missing where the user is a guest."""

    async def members(self, room_id: str, after: str | None, limit: int) -> list[Member]:
        """Present members in the order of their user ids, those after that id."""

    # History

    async def apply(self, changes: Sequence[Change]) -> list[Applied | ParleyError]:
        """Apply a batch over any rooms, in order, in one transaction, and say for each what became of it.

        A refused change does not touch the others. Every change that is `fresh` took its room's next revision
        and stamped it on the message; a fresh `Send` took the next `seq` too. Both are without holes: nothing
        else takes a number. An id that the room has already, perhaps from earlier in this very batch, gives
        the message as it is stored, unless author or text differ (`IdTaken`) or the author may not see the
        room. Rules are checked inside the transaction, against the roles of that moment. Where a room has a
        `history_limit`, older messages are gone when this returns.

        Refusals: `RoomNotFound`, `NotAMember`, `ReadOnlyRoom`, `IdTaken`, `MessageNotFound`,
        `NotYourMessage`, `LimitReached`.
        """

    async def page(
        self, room_id: str, *, before: int | None = None, after: int | None = None, limit: int
    ) -> list[Message]:
        """Messages in `seq` order: the last ones before a `seq`, the first ones after one, or the newest."""

    async def changes(self, room_id: str, since: int, limit: int) -> Changes:
        """What the room has become since a revision, as one consistent picture, in the order of the
        revisions.

        `members` are those whose membership was stamped since, gone ones included; `room` is there if it was
        itself stamped since. With `reset`, the newest page in `seq` order, the room and (unless it is public)
        all present members: where the history since then is trimmed, where more than `limit` messages or
        `MAX_TOLD_BYTES` of text changed, or where `since` lies ahead of the room. Raises `RoomNotFound`.
        """

    async def mark_read(self, marks: Sequence[Mark]) -> list[Marked | ParleyError]:
        """Move read marks forward, each at most to its room's last message, in one transaction, and say for
        each what became of it. Refusals: `RoomNotFound`, `NotAMember`."""

    async def disown(self, room_id: str, user_id: str, after: int, limit: int) -> int | None:
        """Write `DELETED` over the user's name on those of their messages that lie among the next `limit`
        after that `seq`; return where to go on, or None at the end.

        If there were any it is a change of the room, after which nothing before it is told one by one:
        `changes` answers with a reset.
        """

    async def search(self, query: Query) -> Found:
        """Messages in open rooms that hold all words of the query, the newest first (`newest_first`).

        A word is found by its beginning; `parley.words` says what a word is. Of rooms that are not
        public, only those are searched in which `user_id` is a member. `complete` is False where older
        messages were not looked at. Raises `SearchTooBroad` where it would take too long.
        """

    # Upkeep

    async def index(self) -> bool:
        """Prepare some of what is new for searching; True if there is more. A step of a few milliseconds."""

    async def purge(self, before: Time, limit: int) -> int:
        """Delete what nobody can reach any more: rooms that were closed and sessions of people that ended
        before that moment; a guest's session goes with the guest.

        About so many messages at most; return how many rows it were, 0 when nothing is left.
        """

    async def stats(self, at: Time) -> Stats:
        """How much there is, without counting messages. `online` is the caller's to fill in."""

    def dump(self) -> AsyncIterator[Record]:
        """Everything in the store: users, sessions, and then each open room followed by its members, gone
        ones included, and its messages in `seq` order. Raises `StartError` if a room changes meanwhile."""

    async def load(self, records: Sequence[Record]) -> None:
        """Write records that another store dumped, in their order, as they are. For an empty store only."""
