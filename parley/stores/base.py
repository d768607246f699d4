"""What every store promises. One contract test suite holds them all to it.

Each method is one atomic, named step: it happens whole or not at all, and when it returns, what it wrote is
as durable as that store makes anything. A store that cannot answer raises `StoreUnavailable`, and nothing
else of its driver's errors gets out. Rooms are given by id unless a parameter is called `key`, which is an id
or a name.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from msgspec.structs import replace

from parley import permissions
from parley.errors import (
    IdTaken,
    LimitReached,
    MessageNotFound,
    NotAMember,
    ParleyError,
    RoomNotFound,
)
from parley.ids import Time
from parley.models import (
    Applied,
    Change,
    Changes,
    Delete,
    Edit,
    Member,
    Message,
    Model,
    React,
    Role,
    Room,
    RoomKind,
    Send,
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

    async def add_user(self, user: User, rooms: Sequence[str] = (), password_hash: str | None = None) -> None:
        """Add a user and make them a member of these rooms. Raises `NameTaken`, `RoomNotFound`,
        `RoomFull`."""

    async def user(self, key: str) -> User | None:
        """The user of that id or name."""

    async def password_hash(self, user_id: str) -> str | None:
        """The hash of a user's password; None where there is no such user or they have no password."""

    async def find_users(self, text: str, after: str | None, limit: int) -> list[User]:
        """Users whose name or display name begins with `text`, which is casefolded, in the order of their
        ids, those after that id."""

    async def change_user(self, user_id: str, display_name: str) -> User:
        """Give a user another display name; return them as they are now. Raises `UserNotFound`."""

    async def change_password(self, user_id: str, password_hash: str) -> None:
        """Put another password in place of the old one. Raises `UserNotFound`."""

    async def add_session(self, session: Session) -> None:
        """Remember a session. Raises `UserNotFound`."""

    async def session(self, token_hash: bytes) -> tuple[Session, User] | None:
        """The session of that token and whose it is, ended or not is the caller's question. None if
        unknown."""

    async def session_of(self, session_id: str) -> tuple[Session, User] | None:
        """As `session`, by the session's id."""

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

    async def expire_guests(self, at: Time, idle_since: Time, limit: int) -> list[str]:
        """Remove guests that nothing keeps any more, at most so many, and return their ids.

        A guest is kept by a session that ends after `at`, by having been seen after `idle_since`, by an open
        room that they created, and by one that closed after `idle_since`. Removing ends sessions and
        memberships (which in private rooms is a change of the room) and frees the name; what they wrote
        stays. Each is returned to one caller only, however many ask at once.
        """

    # Rooms

    async def add_room(self, room: Room, owner_id: str | None = None) -> None:
        """Add a room, and let its owner join it. Raises `NameTaken`, `UserNotFound`, `RoomFull`."""

    async def room(self, key: str, user_id: str | None = None) -> Room | None:
        """An open room of any kind; with `role`, `read_seq` and `unread` where that user is a member."""

    async def rooms_of(self, user_id: str) -> list[Room]:
        """All open rooms that the user is in, with `role`, `read_seq` and `unread`, oldest membership first.

        Memberships of the same moment come in the order of the rooms' ids.
        """

    async def public_rooms(self, after: str | None, limit: int) -> list[Room]:
        """Open public rooms in the order of their ids, those after that id."""

    async def heads(self, room_ids: Sequence[str]) -> dict[str, int]:
        """The revision of each of these rooms that is open. One query, however many."""

    async def limit_history(self, room_id: str, history_limit: int) -> None:
        """Change how many messages a room keeps, which is a change of the room unless it is so already.

        What is too much is gone when this returns. Raises `RoomNotFound`.
        """

    async def owns_room(self, user_id: str, closed_after: Time) -> bool:
        """Whether a room that the user created is open, or was closed after that moment."""

    async def close_due_rooms(self, at: Time, limit: int) -> list[Room]:
        """Close open rooms that have reached `expires_at`, at most so many, and return them as they are then.

        Closing is a change of the room: it takes its next revision. A closed room is found by no other step
        but `page` and `members`, and its name is free. Each is returned to one caller only, however many ask
        at once.
        """

    # Members

    async def join(self, room_id: str, user_id: str, role: Role, at: Time) -> bool:
        """Make the user a member; False if they were one already. Who comes back finds the old read mark.

        The room takes its next revision and stamps it on the membership, unless it is public: the open door
        of a public room is no change of it. Raises `RoomNotFound`, `UserNotFound`, `RoomFull`.
        """

    async def leave(self, room_id: str, user_id: str, at: Time) -> bool:
        """End a membership; the row stays as a tombstone. False if there was none. Stamped as in `join`."""

    async def members(self, room_id: str, after: str | None, limit: int) -> list[Member]:
        """Present members in the order of their user ids, those after that id."""

    # History

    async def apply(self, changes: Sequence[Change]) -> list[Applied | ParleyError]:
        """Apply a batch over any rooms, in order, in one transaction, and say for each what became of it.

        A refused change does not touch the others. Every change that is `fresh` took its room's next revision
        and stamped it on the message; a fresh `Send` took the next `seq` too. Both are without holes: nothing
        else takes a number. An id that the room has already, perhaps from earlier in this very batch, gives
        the message as it is stored, unless author or text differ (`IdTaken`). Rules are checked inside the
        transaction, against the roles of that moment. Where a room has a `history_limit`, older messages are
        gone when this returns.

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

    async def mark_read(self, room_id: str, user_id: str, seq: int) -> int:
        """Move a member's read mark forward to `seq`, at most to the last message; return where it is now.

        Raises `RoomNotFound`, `NotAMember`.
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


def is_named(user: User, text: str) -> bool:
    """Whether a user's name or display name begins with a casefolded text."""
    return user.name.startswith(text) or user.display_name.casefold().startswith(text)


def can_be_told(messages: Sequence[Message], limit: int) -> bool:
    """Whether so many changed messages are told one by one rather than by a reset."""
    return len(messages) <= limit and sum(len(each.text) for each in messages) <= MAX_TOLD_BYTES


def newest_first(message: Message) -> tuple[Time, str, int]:
    """The key by which search orders messages, descending."""
    return message.sent_at, message.room_id, message.seq


def newest_that_fit(messages: list[Message]) -> list[Message]:
    """The last of these messages, as many as a reset carries."""
    size, begin = 0, len(messages)
    while begin and size + len(messages[begin - 1].text) <= MAX_TOLD_BYTES:
        begin -= 1
        size += len(messages[begin].text)
    return messages[begin:]


def strange(kind: RoomKind) -> ParleyError:
    """What somebody who is not in a room is told: of one that is not public, not even that it exists."""
    return NotAMember() if kind == "public" else RoomNotFound()


def sent(send: Send, seq: int, revision: int) -> Message:
    """The message that a `Send` becomes."""
    return Message(
        id=send.id,
        room_id=send.room_id,
        seq=seq,
        revision=revision,
        author_id=send.author_id,
        author_name=send.author_name,
        kind=send.kind,
        text=send.text,
        sent_at=send.sent_at,
        reply_to=send.reply_to,
    )


def resent(send: Send, stored: Message) -> Applied:
    """The answer to an id that the room has already. Raises `IdTaken` if it was another message.

    The words are compared only while they are the first ones: after an edit the original is not kept.
    """
    untouched = stored.edited_at is None and stored.deleted_at is None
    if stored.author_id != send.author_id or (untouched and stored.text != send.text):
        raise IdTaken
    return Applied(message=stored, fresh=False)


def revised(change: Edit | Delete | React, stored: Message | None, role: Role, revision: int) -> Message:
    """The message after a change, stamped with `revision`; `stored` itself if there is nothing left to do.

    Raises `MessageNotFound`, `NotYourMessage`, `LimitReached`.
    """
    if isinstance(change, Delete):
        if stored is None:
            raise MessageNotFound
        permissions.may_delete(stored, change.user_id, role)
        if stored.deleted_at is not None:
            return stored
        return replace(stored, revision=revision, text="", deleted_at=change.at, reactions={})
    if stored is None or stored.deleted_at is not None:
        raise MessageNotFound
    if isinstance(change, Edit):
        permissions.may_edit(stored, change.user_id)
        if stored.text == change.text:
            return stored
        return replace(stored, revision=revision, text=change.text, edited_at=change.at)
    return _reacted(change, stored, revision)


def _reacted(change: React, stored: Message, revision: int) -> Message:
    reactions = {emoji: list(users) for emoji, users in stored.reactions.items()}
    users = reactions.setdefault(change.emoji, [])
    if change.on == (change.user_id in users):
        return stored
    if not change.on:
        users.remove(change.user_id)
        if not users:
            del reactions[change.emoji]
    elif len(reactions) > MAX_REACTIONS:
        raise LimitReached(f"A message takes at most {MAX_REACTIONS} different reactions.")
    else:
        users.append(change.user_id)
    return replace(stored, revision=revision, reactions=reactions)
