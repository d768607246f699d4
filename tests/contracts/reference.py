"""A room as its rules describe it, in the plainest way: what any store is compared with."""

from dataclasses import dataclass, field, replace

from parley.errors import (
    IdTaken,
    MessageNotFound,
    NotAMember,
    NotYourMessage,
    ParleyError,
    ReadOnlyRoom,
    RoomNotFound,
)
from parley.models import Change, Delete, Edit, Message, React, Role, Send


@dataclass
class Entry:
    """A message, reduced to what the rules are about."""

    id: str
    seq: int
    revision: int
    author: str
    text: str
    reply_to: str | None
    edited: bool = False
    deleted: bool = False
    reactions: frozenset[tuple[str, str]] = frozenset()


def seen(message: Message) -> Entry:
    """A store's message in the same form."""
    reactions = {(emoji, user) for emoji, users in message.reactions.items() for user in users}
    return Entry(
        id=message.id,
        seq=message.seq,
        revision=message.revision,
        author=message.author_id,
        text=message.text,
        reply_to=message.reply_to,
        edited=message.edited_at is not None,
        deleted=message.deleted_at is not None,
        reactions=frozenset(reactions),
    )


Outcome = type[ParleyError] | tuple[Entry, bool]


@dataclass
class ReferenceRoom:
    """Everything that was ever sent, of which the last `limit` are kept after each batch."""

    public: bool
    limit: int | None
    sent: list[Entry] = field(default_factory=list)
    trimmed: int = 0
    revision: int = 0
    roles: dict[str, Role] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)

    def kept(self) -> list[Entry]:
        return self.sent[self.trimmed :]

    def trim(self) -> None:
        if self.limit is not None:
            self.trimmed = max(self.trimmed, len(self.sent) - self.limit)

    def comes(self, user: str, role: Role) -> bool:
        if user in self.roles:
            return False
        self.roles[user] = role
        self.marks.setdefault(user, 0)
        self.revision += not self.public
        return True

    def goes(self, user: str) -> bool:
        if self.roles.pop(user, None) is None:
            return False
        self.revision += not self.public
        return True

    def reads(self, user: str, seq: int) -> int | type[ParleyError]:
        if user not in self.roles:
            return self.stranger()
        self.marks[user] = max(self.marks[user], min(seq, len(self.sent)))
        return self.marks[user]

    def apply(self, change: Change) -> Outcome:
        found = [entry for entry in self.kept() if entry.id == change.id]
        if isinstance(change, Send):
            may_look = self.public or change.author_id in self.roles
            return self._again(change, found[0]) if found and may_look else self._send(change)
        role = self.roles.get(change.user_id)
        if role is None:
            return self.stranger()
        if not found or (found[0].deleted and not isinstance(change, Delete)):
            return MessageNotFound
        entry = found[0]
        mine = entry.author == change.user_id
        if isinstance(change, Edit):
            if not mine:
                return NotYourMessage
            return self._becomes(entry, replace(entry, text=change.text), edited=True)
        if isinstance(change, React):
            reaction = {(change.emoji, change.user_id)}
            after = entry.reactions | reaction if change.on else entry.reactions - reaction
            return self._becomes(entry, replace(entry, reactions=after))
        if not mine and role not in (Role.OWNER, Role.MODERATOR):
            return NotYourMessage
        return self._becomes(entry, replace(entry, deleted=True, text="", reactions=frozenset()))

    def stranger(self) -> type[ParleyError]:
        return NotAMember if self.public else RoomNotFound

    def _again(self, send: Send, entry: Entry) -> Outcome:
        original = not entry.edited and not entry.deleted
        if send.author_id != entry.author or (original and send.text != entry.text):
            return IdTaken
        return entry, False

    def _send(self, send: Send) -> Outcome:
        role = self.roles.get(send.author_id)
        if role is None:
            return self.stranger()
        if role is Role.READER:
            return ReadOnlyRoom
        if send.reply_to is not None and all(entry.id != send.reply_to for entry in self.kept()):
            return MessageNotFound
        self.revision += 1
        seq = len(self.sent) + 1
        self.sent.append(Entry(send.id, seq, self.revision, send.author_id, send.text, send.reply_to))
        return self.sent[-1], True

    def _becomes(self, before: Entry, after: Entry, *, edited: bool = False) -> Outcome:
        if after == before:
            return before, False
        self.revision += 1
        after = replace(after, revision=self.revision, edited=before.edited or edited)
        self.sent[before.seq - 1] = after
        return after, True
