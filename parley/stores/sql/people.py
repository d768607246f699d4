"""Users, their sessions, and what is kept by name, as steps of one transaction."""

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from parley.errors import NameTaken, UserNotFound
from parley.ids import Time, as_id, now, now_ms, to_ms
from parley.models import Role, Session, User
from parley.stores.sql import counters, rooms, rows
from parley.stores.sql.schema import connected, meta, nodes, sessions, users

_THERE = users.c.deleted_at.is_(None)
_USER_BY_ID = select(users).where(users.c.id == bindparam("key"), _THERE)
_USER_BY_NAME = select(users).where(users.c.name == bindparam("key"), _THERE)
_SESSIONS = select(sessions, *rows.as_peer(users)).join_from(sessions, users)
_EXTENDED = (
    update(sessions)
    .where(sessions.c.id == bindparam("session_id"), sessions.c.expires_at < bindparam("until"))
    .values(expires_at=bindparam("until"))
)
_SEEN = (
    update(users)
    .where(users.c.id == bindparam("user_id"), users.c.last_seen_at < bindparam("at"))
    .values(last_seen_at=bindparam("at"))
)


def keep(connection: Connection, name: str, value: str) -> str:
    already = kept(connection, name)
    if already is not None:
        return already
    try:
        # A savepoint, because on PostgreSQL a statement that fails ends the transaction around it.
        with connection.begin_nested():
            connection.execute(insert(meta), {"name": name, "value": value})
    except IntegrityError:
        return kept(connection, name) or value
    return value


def kept(connection: Connection, name: str) -> str | None:
    return connection.execute(select(meta.c.value).where(meta.c.name == name)).scalar()


def add_user(
    connection: Connection,
    user: User,
    room_ids: Sequence[str],
    password_hash: str | None,
    most: int | None,
) -> None:
    at = now()
    counters.make_room(connection, ("users", "guests"), "PARLEY_MAX_USERS", most)
    try:
        connection.execute(insert(users), rows.user_values(user) | {"password_hash": password_hash})
    except IntegrityError:
        raise NameTaken from None
    # In the order of the ids, as everywhere: two who lock rooms in another order wait for each other.
    for room_id in sorted(room_ids):
        rooms.join(connection, room_id, user.id, Role.MEMBER, at)
    counters.add(connection, {"guests" if user.kind == "guest" else "users": 1})


def user(connection: Connection, key: str) -> User | None:
    id_ = as_id(key)
    row = connection.execute(_USER_BY_ID if id_ else _USER_BY_NAME, {"key": id_ or key}).first()
    return rows.user(row) if row is not None else None


def users_of(connection: Connection, user_ids: Sequence[str]) -> dict[str, User]:
    found = select(users).where(_THERE, users.c.id.in_(rows.listed(connection, user_ids)))
    return {row.id: rows.user(row) for row in connection.execute(found)}


def password_hash(connection: Connection, user_id: str) -> str | None:
    mine = (users.c.id == user_id) & _THERE
    return connection.execute(select(users.c.password_hash).where(mine)).scalar()


def find_users(connection: Connection, text: str, after: str | None, limit: int) -> list[User]:
    begins = users.c.name.startswith(text, autoescape=True)
    begins |= users.c.folded_name.startswith(text, autoescape=True)
    found = select(users).where(_THERE, begins, users.c.id > (after or "")).order_by(users.c.id)
    return [rows.user(row) for row in connection.execute(found.limit(limit))]


def change_user(connection: Connection, user_id: str, display_name: str) -> User:
    named = {"display_name": display_name, "folded_name": display_name.casefold()}
    _change(connection, user_id, named)
    return rows.user(connection.execute(_USER_BY_ID, {"key": user_id}).one())


def change_password(connection: Connection, user_id: str, password_hash: str) -> None:
    _change(connection, user_id, {"password_hash": password_hash})


def _change(connection: Connection, user_id: str, values: dict[str, str]) -> None:
    changed = update(users).where(users.c.id == user_id, _THERE).values(**values)
    if not connection.execute(changed).rowcount:
        raise UserNotFound


def add_session(connection: Connection, session: Session) -> None:
    rooms.hold_user(connection, session.user_id)
    connection.execute(insert(sessions), rows.session_values(session))


def sessions_by_id(connection: Connection, session_ids: Sequence[str]) -> dict[str, tuple[Session, User]]:
    asked = _SESSIONS.where(sessions.c.id.in_(rows.listed(connection, session_ids)))
    return {row.id: (rows.session(row), rows.peer(row)) for row in connection.execute(asked)}


def sessions_of(connection: Connection, user_id: str) -> list[Session]:
    found = select(sessions).where(sessions.c.user_id == user_id).order_by(sessions.c.id)
    return [rows.session(row) for row in connection.execute(found)]


def rotate_session(
    connection: Connection, session_id: str, generation: int, at: Time, expires_at: Time
) -> Session | None:
    values = {"generation": generation + 1, "rotated_at": to_ms(at), "expires_at": to_ms(expires_at)}
    here = (sessions.c.id == session_id) & (sessions.c.generation == generation)
    row = connection.execute(update(sessions).where(here).values(**values).returning(sessions)).first()
    return rows.session(row) if row is not None else None


def extend_sessions(connection: Connection, expires_at: dict[str, Time]) -> None:
    if expires_at:
        ends = [{"session_id": id_, "until": to_ms(until)} for id_, until in sorted(expires_at.items())]
        connection.execute(_EXTENDED, ends)


def saw(connection: Connection, moments: dict[str, Time]) -> None:
    # In the order of the ids, as nodes may have seen the same users.
    if moments:
        seen = [{"user_id": id_, "at": to_ms(at)} for id_, at in sorted(moments.items())]
        connection.execute(_SEEN, seen)


def end_session(connection: Connection, session_id: str) -> None:
    connection.execute(delete(sessions).where(sessions.c.id == session_id))


def report(
    connection: Connection, node_id: str, until: Time, came: Sequence[str], went: Sequence[str]
) -> bool:
    here = connected.c.node_id == node_id
    held = connection.execute(select(nodes.c.expires_at).where(nodes.c.id == node_id)).scalar()
    holds = held is not None and held > now_ms()
    if holds:
        connection.execute(update(nodes).where(nodes.c.id == node_id).values(expires_at=to_ms(until)))
    else:
        connection.execute(delete(connected).where(here))
        connection.execute(delete(nodes).where(nodes.c.id == node_id))
        connection.execute(insert(nodes), {"id": node_id, "expires_at": to_ms(until)})
    if came or went:
        connection.execute(delete(connected).where(here, connected.c.user_id.in_([*came, *went])))
    if came:
        connection.execute(insert(connected), [{"node_id": node_id, "user_id": each} for each in came])
    return holds


def online(connection: Connection, at: Time, but: str) -> dict[str, set[str]]:
    alive = (nodes.c.id != but) & (nodes.c.expires_at > to_ms(at))
    found = select(nodes.c.id, connected.c.user_id).outerjoin_from(
        nodes, connected, connected.c.node_id == nodes.c.id
    )
    there: dict[str, set[str]] = {}
    for node_id, user_id in connection.execute(found.where(alive)):
        users_there = there.setdefault(node_id, set())
        if user_id is not None:
            users_there.add(user_id)
    return there
