"""Users, their names and their sessions."""

from collections.abc import Sequence

from parley.errors import RoomFull, RoomNotFound, UserNotFound
from parley.ids import Time, as_id, now
from parley.models import Role, Session, User
from parley.stores.redis import keys, names, rooms, rows, scripts
from parley.stores.redis.servers import Servers, script


async def keep(servers: Servers, name: str, value: str) -> str:
    key = keys.KEPT + name
    _, kept = await servers.all([("SET", key, value, "NX"), ("GET", key)])
    return str(kept, "utf-8")


async def add_user(servers: Servers, user: User, room_ids: Sequence[str]) -> None:
    """First the name, then the user, then the rooms: the package says what a crash leaves."""
    name = keys.USER_NAME + user.name
    await names.claim(servers, name, user.id, (keys.USER, ""))
    try:
        for room_id in room_ids:
            await _look_into(servers, room_id)
        await servers.one("SET", keys.USER + user.id, rows.user_text(user))
        for room_id in room_ids:
            await rooms.join(servers, room_id, user.id, Role.MEMBER, now())
    except (RoomFull, RoomNotFound):
        # Seen at once, or else a room has filled up meanwhile. Not after a loss of the connection: what
        # is done then is not known, and it is left as after a crash.
        for room_id in room_ids:
            await rooms.leave(servers, room_id, user.id, now())
        await servers.one("DEL", keys.USER + user.id)
        await names.release(servers, name, user.id)
        raise


async def _look_into(servers: Servers, room_id: str) -> None:
    room = await rooms.room(servers, room_id, None)
    if room is None:
        raise RoomNotFound
    if room.capacity is not None and room.member_count >= room.capacity:
        raise RoomFull


async def user(servers: Servers, key: str) -> User | None:
    user_id = as_id(key) or await names.holder(servers, keys.USER_NAME + key)
    return rows.user(await servers.one("GET", keys.USER + user_id)) if user_id else None


async def add_session(servers: Servers, session: Session) -> None:
    if not await servers.one("EXISTS", keys.USER + session.user_id):
        raise UserNotFound
    # A session that works can always be ended, so what ends it comes first.
    token_hash = session.token_hash.hex()
    await servers.one("SET", keys.SESSION_HASH + session.id, token_hash)
    await servers.one("HSET", keys.SESSION + token_hash, *rows.session_fields(session))


async def session(servers: Servers, token_hash: bytes) -> tuple[Session, User] | None:
    session = rows.session(await servers.one("HGETALL", keys.SESSION + token_hash.hex()))
    if session is None:
        return None
    user = rows.user(await servers.one("GET", keys.USER + session.user_id))
    return (session, user) if user is not None else None


async def extend_sessions(servers: Servers, expires_at: dict[str, Time]) -> None:
    hashes = await servers.all([("GET", keys.SESSION_HASH + id_) for id_ in expires_at])
    await servers.all(
        [
            script(scripts.EXTEND, [keys.SESSION + token_hash.decode()], until)
            for token_hash, until in zip(hashes, expires_at.values(), strict=True)
            if token_hash is not None
        ]
    )


async def end_session(servers: Servers, session_id: str) -> None:
    token_hash = await servers.one("GET", keys.SESSION_HASH + session_id)
    if token_hash is not None:
        await servers.one("DEL", keys.SESSION + token_hash.decode())
        await servers.one("DEL", keys.SESSION_HASH + session_id)
