"""Sessions: found by their tokens, by their users, and by when they end."""

from collections.abc import Sequence

from parley.errors import UserNotFound
from parley.ids import Time, to_ms
from parley.models import Session, User
from parley.stores.redis import keys, lists, rows, scripts
from parley.stores.redis.servers import Command, Servers, script


async def add_session(servers: Servers, session: Session) -> None:
    """A session that works can always be found and ended, so what finds it comes first."""
    ends_ms = to_ms(session.expires_at)
    await servers.one("ZADD", keys.SESSIONS, ends_ms, session.id)
    await servers.one("SET", keys.SESSION_HASH + session.id, _owner_text(session))
    of_user = keys.of_user(session.user_id, "", "sessions")
    if not await servers.one(*script(scripts.ENTER, of_user, session.id, ends_ms)):
        await end_sessions(servers, [session.id])
        raise UserNotFound
    await servers.one(*_record(session))


def loading(session: Session) -> list[Command]:
    """What writes a session and its places in the lists."""
    ends_ms = to_ms(session.expires_at)
    return [
        ("ZADD", keys.SESSIONS, ends_ms, session.id),
        ("SET", keys.SESSION_HASH + session.id, _owner_text(session)),
        ("ZADD", *keys.of_user(session.user_id, "sessions"), ends_ms, session.id),
        _record(session),
    ]


def _owner_text(session: Session) -> str:
    return f"{session.token_hash.hex()} {session.user_id}"


def _record(session: Session) -> Command:
    return ("HSET", keys.SESSION + session.token_hash.hex(), *rows.session_fields(session))


async def session(servers: Servers, token_hash: bytes) -> tuple[Session, User] | None:
    session = rows.session(await servers.one("HGETALL", keys.SESSION + token_hash.hex()))
    if session is None:
        return None
    user = rows.user(await servers.one("GET", keys.user(session.user_id)))
    return (session, user) if user is not None else None


async def session_of(servers: Servers, session_id: str) -> tuple[Session, User] | None:
    owners = await _owners(servers, [session_id])
    if session_id not in owners:
        return None
    return await session(servers, bytes.fromhex(owners[session_id][0]))


async def sessions_of(servers: Servers, user_id: str) -> list[Session]:
    ids = await servers.one("ZRANGE", *keys.of_user(user_id, "sessions"), 0, -1)
    return await read(servers, sorted(each.decode() for each in ids))


async def rotate_session(
    servers: Servers, session_id: str, generation: int, at: Time, expires_at: Time
) -> Session | None:
    owners = await _owners(servers, [session_id])
    if session_id not in owners:
        return None
    token_hash, user_id = owners[session_id]
    await servers.all(_later(session_id, user_id, expires_at))
    key = keys.SESSION + token_hash
    return rows.session(await servers.one(*script(scripts.ROTATE, [key], generation, at, expires_at)))


async def extend_sessions(servers: Servers, expires_at: dict[str, Time]) -> None:
    """First the lists: they may say later than the session, but never earlier."""
    owners = await _owners(servers, list(expires_at))
    later = [_later(id_, user_id, expires_at[id_]) for id_, (_, user_id) in owners.items()]
    await servers.all([command for commands in later for command in commands])
    extended = [
        script(scripts.EXTEND, [keys.SESSION + token_hash], expires_at[id_])
        for id_, (token_hash, _) in owners.items()
    ]
    await servers.all(extended)


def _later(session_id: str, user_id: str, until: Time) -> list[Command]:
    """What moves a session to later in the lists."""
    lists_with_it = (keys.SESSIONS, *keys.of_user(user_id, "sessions"))
    return [("ZADD", key, "XX", "GT", to_ms(until), session_id) for key in lists_with_it]


async def end_sessions(servers: Servers, ids: Sequence[str]) -> None:
    """Forget sessions. Last the list by which the next one to end them would find what a crash has left."""
    owners = await _owners(servers, ids)
    await servers.all([("DEL", keys.SESSION + token_hash) for token_hash, _ in owners.values()])
    await servers.all(
        [("ZREM", *keys.of_user(user_id, "sessions"), id_) for id_, (_, user_id) in owners.items()]
    )
    await servers.all([("DEL", keys.SESSION_HASH + id_) for id_ in owners])
    if ids:
        await servers.one("ZREM", keys.SESSIONS, *ids)


async def purge(servers: Servers, before: Time, limit: int) -> int:
    """Passes over those of guests, which go with the guest."""
    ended: list[str] = []
    passed = 0
    while len(ended) < limit:
        ids = await lists.up_to(servers, keys.SESSIONS, to_ms(before), limit, passed)
        if not ids:
            break
        owners = await _owners(servers, ids)
        users = [owners[id_][1] if id_ in owners else "" for id_ in ids]
        found = await servers.all([("GET", keys.user(user_id)) for user_id in users])
        for id_, user in zip(ids, map(rows.user, found), strict=True):
            if user is None or user.kind != "guest":
                ended.append(id_)
        passed += len(ids)
    await end_sessions(servers, ended[:limit])
    return len(ended[:limit])


async def read(servers: Servers, ids: Sequence[str]) -> list[Session]:
    """Those of the sessions that are there."""
    owners = await _owners(servers, ids)
    found = await servers.all([("HGETALL", keys.SESSION + token_hash) for token_hash, _ in owners.values()])
    return [session for fields in found if (session := rows.session(fields)) is not None]


async def _owners(servers: Servers, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Token hash and user id of each session that is known."""
    texts = await servers.all([("GET", keys.SESSION_HASH + id_) for id_ in ids])
    known = {id_: text.decode().split() for id_, text in zip(ids, texts, strict=True) if text is not None}
    return {id_: (token_hash, user_id) for id_, (token_hash, user_id) in known.items()}
