"""Ann, bob and cleo, and the kitchen where they talk: what the tests of the stores are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parley.errors import ParleyError
from parley.ids import Time, from_ms, new_id
from parley.models import (
    Applied,
    Change,
    Delete,
    Edit,
    Mark,
    Message,
    React,
    Role,
    Room,
    Send,
    Session,
    User,
)
from parley.stores.base import Store

START_MS = 1_795_000_000_000


def at(seconds: float) -> Time:
    """A time some seconds after the tests' beginning of time."""
    return from_ms(START_MS + round(seconds * 1000))


def a_user(name: str, **fields: Any) -> User:
    return User(**{"id": new_id(), "name": name, "display_name": name.title(), "kind": "person", **fields})


def a_room(name: str | None, **fields: Any) -> Room:
    plain = {"title": name or "", "kind": "public", "created_by": None, "created_at": at(0)}
    return Room(**{"id": new_id(), "name": name, **plain, **fields})


def a_session(user: User, token_hash: bytes, expires_at: Time) -> Session:
    return Session(
        id=new_id(), user_id=user.id, token_hash=token_hash, created_at=at(0), expires_at=expires_at
    )


def send(room: Room, author: User, text: str, **fields: Any) -> Send:
    plain = {"author_name": author.display_name, "kind": "text", "sent_at": at(1)}
    return Send(
        **{
            "room_id": room.id,
            "id": new_id(),
            "author_id": author.id,
            "text": text,
            **plain,
            **fields,
        }
    )


def edit(message: Message | Send, user: User, text: str) -> Edit:
    return Edit(room_id=message.room_id, id=message.id, user_id=user.id, text=text, at=at(2))


def delete(message: Message | Send, user: User) -> Delete:
    return Delete(room_id=message.room_id, id=message.id, user_id=user.id, at=at(3))


def react(message: Message | Send, user: User, emoji: str, *, on: bool = True) -> React:
    return React(room_id=message.room_id, id=message.id, user_id=user.id, emoji=emoji, on=on)


async def outcome(store: Store, change: Change) -> Applied | ParleyError:
    """What became of a single change."""
    (result,) = await store.apply([change])
    return result


async def done(store: Store, change: Change) -> Message:
    """The message after a single change, which must be a fresh one."""
    (result,) = all_done(await store.apply([change]))
    assert result.fresh
    return result.message


async def refused(store: Store, change: Change) -> type[ParleyError] | None:
    """The error that a single change got, or None."""
    result = await outcome(store, change)
    return type(result) if isinstance(result, ParleyError) else None


def all_done(results: Sequence[Applied | ParleyError]) -> list[Applied]:
    """The results, none of which may be a refusal."""
    applied = [result for result in results if isinstance(result, Applied)]
    assert len(applied) == len(results), results
    return applied


@dataclass(frozen=True)
class Kitchen:
    """A store with a public room that ann owns and bob is in. Cleo has an account only."""

    store: Store
    room: Room
    ann: User
    bob: User
    cleo: User

    async def says(self, author: User, text: str, **fields: Any) -> Message:
        return await done(self.store, send(self.room, author, text, **fields))

    async def now(self, user: User | None = None) -> Room:
        """The kitchen as it is now, as that user sees it."""
        room = await self.store.room(self.room.id, user.id if user else None)
        assert room is not None
        return room


async def kitchen_in(store: Store, **fields: Any) -> Kitchen:
    """Ann makes the kitchen, bob comes in, cleo stays outside."""
    ann, bob, cleo = a_user("ann"), a_user("bob"), a_user("cleo")
    for user in (ann, bob, cleo):
        await store.add_user(user)
    room = a_room("kitchen", created_by=ann.id, **fields)
    await store.add_room(room, ann.id)
    await store.join(room.id, bob.id, Role.MEMBER, at(0))
    return Kitchen(store, room, ann, bob, cleo)


async def marked(store: Store, room_id: str, user_id: str, seq: int) -> int:
    """Move one read mark, and return where it is then. Raises what refuses it."""
    [result] = await store.mark_read([Mark(room_id=room_id, user_id=user_id, seq=seq)])
    if isinstance(result, ParleyError):
        raise result
    return result.seq
