"""Sessions: found by their ids, by their users, and by when they end."""

from collections.abc import Sequence

from parley.errors import UserNotFound
from parley.ids import Time, to_ms
from parley.models import Session, User
from parley.stores.redis import keys, lists, rows, scripts
from parley.stores.redis.servers import Command, Servers, script


async def add_session(servers: Servers, session: Session) -> None:
    """What `purge` finds it by comes first, and last the user's list: who is removed just now takes with them
    all that is in it, and nothing is written after that. Nobody has the token before."""
    entry, ends_ms = listed(session.id, session.user_id), to_ms(session.expires_at)
    await servers.one("ZADD", keys.SESSIONS, ends_ms, entry)
    await servers.one(*_record(session))
    of_user = keys.of_user(session.user_id, "", "sessions")
    if not await servers.one(*script(scripts.ENTER, of_user, session.id, ends_ms)):
        await end_sessions(servers, [entry])
        raise UserNotFound


def loading(session: Session) -> list[Command]:
    """What writes a session and its places in the lists."""
    ends_ms = to_ms(session.expires_at)
    return [
        ("ZADD", keys.SESSIONS, ends_ms, listed(session.id, session.user_id)),
        ("ZADD", *keys.of_user(session.user_id, "sessions"), ends_ms, session.id),
        _record(session),
    ]


def _record(session: Session) -> Command:
    return ("HSET", keys.SESSION + session.id, *rows.session_fields(session))


def listed(session_id: str, user_id: str) -> str:
    """A session as the list of all names it: by whom it can be ended without its record."""
    return f"{session_id} {user_id}"


def owned(entry: str) -> tuple[str, str]:
    """The ids of a session that is listed so, and of its user."""
    session_id, _, user_id = entry.partition(" ")
    return session_id, user_id


async def sessions(servers: Servers, session_ids: Sequence[str]) -> dict[str, tuple[Session, User]]:
    found = await read(servers, session_ids)
    owners = map(rows.user, await servers.all([("GET", keys.user(each.user_id)) for each in found]))
    return {each.id: (each, user) for each, user in zip(found, owners, strict=True) if user is not None}


async def sessions_of(servers: Servers, user_id: str) -> list[Session]:
    ids = await servers.one("ZRANGE", *keys.of_user(user_id, "sessions"), 0, -1)
    return await read(servers, sorted(each.decode() for each in ids))


async def rotate_session(
    servers: Servers, session_id: str, generation: int, at: Time, expires_at: Time
) -> Session | None:
    owners = await _owners(servers, [session_id])
    if session_id not in owners:
        return None
    await servers.all(_later(session_id, owners[session_id], expires_at))
    key = keys.SESSION + session_id
    return rows.session(await servers.one(*script(scripts.ROTATE, [key], generation, at, expires_at)))


async def extend_sessions(servers: Servers, expires_at: dict[str, Time]) -> None:
    """First the lists: they may say later than the session, but never earlier."""
    owners = await _owners(servers, list(expires_at))
    later = [_later(id_, user_id, expires_at[id_]) for id_, user_id in owners.items()]
    await servers.all([command for commands in later for command in commands])
    await servers.all([script(scripts.EXTEND, [keys.SESSION + id_], expires_at[id_]) for id_ in owners])


def _later(session_id: str, user_id: str, until: Time) -> list[Command]:
    """What moves a session to later in the lists."""
    places = (
        (keys.SESSIONS, listed(session_id, user_id)),
        (*keys.of_user(user_id, "sessions"), session_id),
    )
    return [("ZADD", key, "XX", "GT", to_ms(until), member) for key, member in places]


async def end_session(servers: Servers, session_id: str) -> None:
    owners = await _owners(servers, [session_id])
    await end_sessions(servers, [listed(*each) for each in owners.items()])


async def end_sessions(servers: Servers, entries: Sequence[str]) -> None:
    """Forget sessions that are listed so. Last the list by which `purge` finds what a crash has left."""
    owners = [owned(entry) for entry in entries]
    await servers.all([("DEL", keys.SESSION + id_) for id_, _ in owners])
    await servers.all([("ZREM", *keys.of_user(user_id, "sessions"), id_) for id_, user_id in owners])
    if entries:
        await servers.one("ZREM", keys.SESSIONS, *entries)


async def purge(servers: Servers, before: Time, limit: int) -> int:
    """Passes over those of guests, which go with the guest."""
    ended: list[str] = []
    passed = 0
    while len(ended) < limit:
        entries = await lists.up_to(servers, keys.SESSIONS, to_ms(before), limit, passed)
        if not entries:
            break
        found = await servers.all([("GET", keys.user(owned(entry)[1])) for entry in entries])
        for entry, user in zip(entries, map(rows.user, found), strict=True):
            if user is None or user.kind != "guest":
                ended.append(entry)
        passed += len(entries)
    await end_sessions(servers, ended[:limit])
    return len(ended[:limit])


async def read(servers: Servers, ids: Sequence[str]) -> list[Session]:
    """Those of the sessions that are there."""
    found = await servers.all([("HGETALL", keys.SESSION + id_) for id_ in ids])
    return [session for fields in found if (session := rows.session(fields)) is not None]


async def _owners(servers: Servers, ids: Sequence[str]) -> dict[str, str]:
    """The user's id of each session that is known."""
    found = await servers.all([("HGET", keys.SESSION + id_, "user_id") for id_ in ids])
    return {id_: user_id.decode() for id_, user_id in zip(ids, found, strict=True) if user_id is not None}
