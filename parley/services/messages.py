"""Messages: writing, changing and reading them."""

from asyncio import Future
from functools import partial

from msgspec import UNSET

from parley.config import Settings
from parley.errors import InvalidField, MessageNotFound, NotAMember
from parley.ids import as_id, new_id, now
from parley.models import (
    Applied,
    Changes,
    Delete,
    Edit,
    MessageKind,
    Page,
    React,
    SearchResult,
    Send,
    Session,
    User,
)
from parley.services import names
from parley.services.journal import Journal
from parley.services.marks import Marks
from parley.services.rooms import MAX_CHANGES, Rooms
from parley.services.sessions import Sessions
from parley.services.typing import Typing
from parley.stores.base import Query, Store
from parley.stores.rules import newest_first
from parley.words import words_of

MAX_PAGE = 200
MAX_WORDS = 16
"""Words that one search may ask for."""


class Messages:
    """What is said in rooms. Writing goes through the journal, reading straight to the store."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        rooms: Rooms,
        marks: Marks,
        sessions: Sessions,
        typing: Typing,
        settings: Settings,
    ) -> None:
        self._store = store
        self._journal = journal
        self._rooms = rooms
        self._marks = marks
        self._sessions = sessions
        self._typing = typing
        self._max_bytes = settings.max_message_bytes

    # Writing: each returns at once with a future that is done when the change is durable, or refused.

    def send(
        self,
        user: User,
        room_id: str,
        text: str,
        *,
        id: str | None = None,
        reply_to: str | None = None,
        kind: MessageKind = "text",
        session: Session | None = None,
    ) -> Future[Applied]:
        """Write into a room that the user is in. The same `id` again gives the message as it was stored.

        Raises `EmptyMessage`, `MessageTooLong`, `InvalidField`, `Overloaded`; the future may hold what
        `Store.apply` refuses, or `StoreUnavailable`, after which the message may or may not be there: send it
        again under the same id.
        """
        change = Send(
            room_id=room_id,
            id=names.message_id(id) if id is not None else new_id(),
            author_id=user.id,
            author_name=user.display_name,
            kind=kind,
            text=names.message_text(text, self._max_bytes),
            sent_at=now(),
            reply_to=names.message_id(reply_to) if reply_to is not None else None,
        )
        future = self._journal.write(change)
        self._typing.said(user, room_id)
        if session is not None:
            future.add_done_callback(partial(self._spoke, session, user))
        return future

    def check(self, text: str, id: str | None = None) -> None:
        """Refuse what `send` would refuse. Raises `EmptyMessage`, `MessageTooLong`, `InvalidField`."""
        names.message_text(text, self._max_bytes)
        if id is not None:
            names.message_id(id)

    def edit(self, user: User, room_id: str, message_id: str, text: str) -> Future[Applied]:
        """Change the words of one's own message."""
        text = names.message_text(text, self._max_bytes)
        return self._journal.write(
            Edit(room_id=room_id, id=_existing(message_id), user_id=user.id, text=text, at=now())
        )

    def delete(self, user: User, room_id: str, message_id: str) -> Future[Applied]:
        """Take a message back; it keeps its place, without its text."""
        return self._journal.write(
            Delete(room_id=room_id, id=_existing(message_id), user_id=user.id, at=now())
        )

    def react(self, user: User, room_id: str, message_id: str, emoji: str, *, on: bool) -> Future[Applied]:
        """Add an emoji to a message, or take it back. Doing it twice is doing it once."""
        return self._journal.write(
            React(
                room_id=room_id,
                id=_existing(message_id),
                user_id=user.id,
                emoji=names.emoji(emoji),
                on=on,
            )
        )

    def _spoke(self, session: Session, user: User, future: Future[Applied]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._sessions.spoke(session, user)

    # Reading

    # What was read is answered only to those who may see the room after that: whoever was shut out while it
    # was read gets nothing that came later.

    async def page(
        self,
        user_id: str | None,
        key: str,
        *,
        before: int | None = None,
        after: int | None = None,
        limit: int = 50,
    ) -> Page:
        """Messages in `seq` order; the newest ones unless told otherwise. Raises `RoomNotFound`."""
        room_id = await self._rooms.id_of(key, user_id)
        found = await self._store.page(room_id, before=before, after=after, limit=limit + 1)
        await self._rooms.see(room_id, user_id)
        if len(found) <= limit:
            return Page(items=found)
        if after is not None:
            return Page(items=found[:limit], next=str(found[limit - 1].seq))
        return Page(items=found[1:], next=str(found[1].seq))

    async def unread(self, user: User, key: str, *, mark: bool = False) -> Page:
        """The first messages after the caller's read mark; `mark` moves it behind them.

        Raises `RoomNotFound`, `NotAMember`.
        """
        room = await self._rooms.see(key, user.id)
        if room.read_seq is UNSET:
            raise NotAMember
        page = await self.page(user.id, room.id, after=room.read_seq, limit=MAX_PAGE)
        if mark and page.items:
            await self._marks.mark(user, room.id, page.items[-1].seq)
        return page

    async def search(
        self, user_id: str, query: str, key: str | None, cursor: str | None, limit: int
    ) -> SearchResult:
        """Messages that the caller may read and that hold all words of the query, the newest first.

        Raises `InvalidField`, `RoomNotFound`, `SearchTooBroad`.
        """
        words = words_of(query)
        if not 1 <= len(words) <= MAX_WORDS:
            raise InvalidField(f"query: 1 to {MAX_WORDS} words are needed.")
        room = await self._rooms.see(key, user_id) if key is not None else None
        found = await self._store.search(
            Query(
                user_id=user_id,
                words=words,
                room_id=room.id if room is not None else None,
                before=names.search_cursor(cursor),
                limit=limit + 1,
            )
        )
        items = found.messages[:limit]
        following = None
        if len(found.messages) > limit:
            following = "_".join(map(str, newest_first(items[-1])))
        return SearchResult(items=items, next=following, complete=found.complete)

    async def changes(self, user_id: str | None, key: str, since: int) -> Changes:
        """What a room has become since a revision. Raises `RoomNotFound`."""
        room_id = await self._rooms.id_of(key, user_id)
        changes = await self._store.changes(room_id, since, MAX_CHANGES)
        await self._rooms.see(room_id, user_id)
        return changes


def _existing(message_id: str) -> str:
    """The id of a message that should be there; what is no id names no message. Raises `MessageNotFound`."""
    found = as_id(message_id)
    if found is None:
        raise MessageNotFound
    return found
