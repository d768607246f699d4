"""One room as a client knows it: its summary and the window of messages that it holds. Pure."""

from collections.abc import Iterable

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from parley.realtime.protocol import Member, Message, Room

MAX_STRAYS = 200
"""Changed messages outside the window that a room remembers."""


class RoomState(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A room's summary, members as far as they are told, and messages.

    `messages` is the window: an unbroken run by `seq`, in order, that ends with the newest message and need
    not begin with the first. The summary's `revision`, `last_seq`, `read_seq` and `unread` are kept current.
    """

    room: Room
    messages: dict[int, Message] = {}
    members: dict[str, Member] = {}
    heard: int = 0
    """The highest revision that was heard of."""
    told: int = 0
    """The highest `seq` that was told as a new message, or was there when the room was first seen."""
    strays: dict[int, Message] = {}
    """Changed messages outside the window: a page that was read before such a change must not undo it."""
    forgotten: int = 0
    """The highest revision among the strays that were given up."""

    @property
    def revision(self) -> int:
        """Up to where everything is known."""
        return self.room.revision

    @property
    def has_hole(self) -> bool:
        """Whether a change was heard of, but not all of those before it."""
        return self.heard > self.revision

    @property
    def begin(self) -> int:
        """The `seq` at which the window begins; what lies before it has to be paged in."""
        return next(iter(self.messages), self.room.last_seq + 1)

    def note(self, **fields: object) -> None:
        """Change the summary."""
        room = replace(self.room, **fields)
        if room.read_seq is not UNSET:
            room = replace(room, unread=max(0, room.last_seq - room.read_seq))
        self.room = room

    def place(self, messages: Iterable[Message], keep: int) -> bool:
        """Put messages in their places unless as new a version is there; say whether that changed anything.

        When new ones join the window's end, at most `keep` messages stay in it.
        """
        end = next(reversed(self.messages), 0)
        changed = self._put(messages)
        self._grow()
        if (new_end := next(reversed(self.messages), 0)) > end:
            self._drop_until(new_end - keep)
        while len(self.strays) > MAX_STRAYS:
            given_up = self.strays.pop(next(iter(self.strays)))
            self.forgotten = max(self.forgotten, given_up.revision)
        self._trim()
        return changed

    def place_page(self, page: list[Message], asked_at: int) -> bool:
        """Take in a page of history that was asked for when the room stood at revision `asked_at`.

        Returns False where the page may be older than what was forgotten since then: ask again.
        """
        if self.forgotten > asked_at:
            return False
        before = set(self.strays)
        self._put(page)
        self._grow()
        # What does not join the window is nowhere anybody could read it.
        self.strays = {seq: each for seq, each in self.strays.items() if seq in before}
        self._trim()
        return True

    def _put(self, messages: Iterable[Message]) -> bool:
        changed = False
        for message in messages:
            place = self.messages if message.seq in self.messages else self.strays
            known = place.get(message.seq)
            if known is None or known.revision < message.revision:
                place[message.seq] = message
                changed = True
        return changed

    def _grow(self) -> None:
        """Move the strays that join the window into it."""
        if self.strays and not self.messages:
            newest = max(self.strays)
            if newest >= self.room.last_seq:
                self.messages[newest] = self.strays.pop(newest)
        if not self.strays or not self.messages:
            return
        end = next(reversed(self.messages))
        while (later := self.strays.pop(end + 1, None)) is not None:
            end += 1
            self.messages[end] = later
        begin, earlier = self.begin, []
        while (message := self.strays.pop(begin - 1, None)) is not None:
            begin -= 1
            earlier.append(message)
        if earlier:
            self.messages = {each.seq: each for each in reversed(earlier)} | self.messages

    def _trim(self) -> None:
        """Let go of what the room itself no longer keeps."""
        if self.room.history_limit is not None:
            floor = self.room.last_seq - self.room.history_limit
            self._drop_until(floor)
            for seq in [each for each in self.strays if each <= floor]:
                del self.strays[seq]

    def _drop_until(self, seq: int) -> None:
        begin = self.begin
        while begin <= seq and self.messages.pop(begin, None) is not None:
            begin += 1
