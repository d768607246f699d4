"""Users and their names."""

from collections.abc import Collection, Sequence

from parley.errors import RoomFull, RoomNotFound, UserNotFound
from parley.ids import Time, as_id, now, to_ms
from parley.models import Role, User
from parley.stores.base import DELETED, UserState
from parley.stores.redis import guests, keys, lists, members, names, rooms, rows, scripts
from parley.stores.redis.servers import Command, Servers, script
from parley.stores.rules import is_named, too_many


async def keep(servers: Servers, name: str, value: str) -> str:
    key = keys.KEPT + name
    _, kept = await servers.all([("SET", key, value, "NX"), ("GET", key)])
    return str(kept, "utf-8")


async def kept(servers: Servers, name: str) -> str | None:
    value = await servers.one("GET", keys.KEPT + name)
    return str(value, "utf-8") if value is not None else None


async def add_user(
    servers: Servers, user: User, room_ids: Sequence[str], password_hash: str | None, most: int | None
) -> None:
    """First the name and the lists of where to look, then the user, then the rooms: the package says what a
    crash leaves."""
    name = keys.USER_NAME + user.name
    await names.claim(servers, name, user.id, keys.user)
    try:
        for room_id in room_ids:
            await _look_into(servers, room_id)
    except (RoomFull, RoomNotFound):
        await names.release(servers, name, user.id)
        raise
    await lists.note_coming(servers, f"user {user.id}")
    if not await servers.one(*listing(user, most)) and most is not None:
        await names.release(servers, name, user.id)
        raise too_many("PARLEY_MAX_USERS", most)
    if password_hash is not None:
        await _keep_password(servers, user.id, password_hash)
    await servers.one("SET", keys.user(user.id), rows.user_text(user))
    try:
        for room_id in room_ids:
            await members.join(servers, room_id, user.id, Role.MEMBER, now())
    except (RoomFull, RoomNotFound):
        # It has filled up meanwhile. Not after a loss of the connection: what is done then is not known,
        # and it is left as after a crash.
        at = now()
        await servers.one("SET", keys.user(user.id), rows.user_text(user, at))
        await guests.finish(servers, UserState(user=user, deleted_at=at), user.name)
        raise


async def _look_into(servers: Servers, room_id: str) -> None:
    room = await rooms.room(servers, room_id, None)
    if room is None:
        raise RoomNotFound
    if room.capacity is not None and room.member_count >= room.capacity:
        raise RoomFull


def listing(user: User, most: int | None = None) -> Command:
    """What puts a user into the lists of where to look, if fewer than so many are there."""
    place = guests.place(user) if user.kind == "guest" else ""
    lists_of_people = [keys.PEOPLE, keys.GUESTS, keys.REMOVED]
    return script(scripts.ENLIST, lists_of_people, user.id, place, "" if most is None else most)


async def user(servers: Servers, key: str) -> User | None:
    user_id = as_id(key) or await names.holder(servers, keys.USER_NAME + key)
    return rows.user(await servers.one("GET", keys.user(user_id))) if user_id else None


async def users(servers: Servers, user_ids: Collection[str]) -> dict[str, User]:
    found = map(rows.user, await servers.all([("GET", keys.user(user_id)) for user_id in user_ids]))
    return {user.id: user for user in found if user is not None}


async def password_hash(servers: Servers, user_id: str) -> str | None:
    if await user(servers, user_id) is None:
        return None
    kept = await servers.one("GET", *keys.of_user(user_id, "password"))
    return str(kept, "utf-8") if kept is not None else None


async def change_password(servers: Servers, user_id: str, password_hash: str) -> None:
    if await user(servers, user_id) is None:
        raise UserNotFound
    await _keep_password(servers, user_id, password_hash)


async def _keep_password(servers: Servers, user_id: str, password_hash: str) -> None:
    await servers.one("SET", *keys.of_user(user_id, "password"), password_hash)


async def change_user(servers: Servers, user_id: str, display_name: str) -> User:
    """First the user, then the memberships, which repeat the name; after a crash between, doing it again
    mends them."""
    changed = rows.user(await servers.one(*script(scripts.RENAME, [keys.user(user_id)], display_name)))
    if changed is None:
        raise UserNotFound
    renames = [
        script(scripts.RENAME_MEMBER, keys.of_room(room_id, "members"), user_id, display_name)
        for room_id in await members.places(servers, user_id)
    ]
    await servers.all(renames)
    return changed


async def remove_user(servers: Servers, user_id: str, at: Time) -> None:
    """One script marks the user as removed. The next call, or `purge` a minute later, does the rest again."""
    await lists.note_coming(servers, f"user {user_id}")
    marking = script(scripts.UNNAME, keys.of_user(user_id, "", "password"), user_id, at, DELETED)
    await finish_removal(servers, await servers.one(*marking))


async def finish_removal(servers: Servers, value: bytes | None) -> None:
    """Do what follows from a user's having been removed, if that is what their record says.

    A person's tombstones stay in public rooms too: they tell where the words are that they wrote.
    """
    gone, name = rows.user_state(value), rows.freed_name(value)
    if gone is None or gone.deleted_at is None:
        return
    await guests.finish(servers, gone, name or gone.user.name, traceless=gone.user.kind == "guest")
    if name is not None:
        nameless = rows.user_text(gone.user, gone.deleted_at)
        await servers.one("SET", keys.user(gone.user.id), nameless, "XX")


async def find_users(servers: Servers, text: str, after: str | None, limit: int) -> list[User]:
    """Looks at everybody, some at a time."""
    found: list[User] = []
    async for ids in lists.pages(servers, keys.PEOPLE, after):
        values = await servers.all([("GET", keys.user(user_id)) for user_id in ids])
        users = (user for value in values if (user := rows.user(value)) is not None)
        found += [user for user in users if is_named(user, text)]
        if len(found) >= limit:
            break
    return found[:limit]


async def saw(servers: Servers, moments: dict[str, Time]) -> None:
    """The list of guests follows; where it falls behind, whoever looks there puts it right."""
    seen = [script(scripts.SAW, [keys.user(user_id)], at) for user_id, at in moments.items()]
    moved = zip(moments.items(), await servers.all(seen), strict=True)
    await servers.all(
        [("ZADD", keys.GUESTS, "XX", to_ms(at), user_id) for (user_id, at), is_later in moved if is_later]
    )
