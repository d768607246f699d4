"""Sessions: somebody signed in on one device, until that ends."""

from collections.abc import Callable
from typing import NamedTuple

import structlog
from msgspec.structs import replace

from parley import security
from parley.config import Settings
from parley.errors import SessionNotFound, TokenExpired, TokenInvalid, TokenMissing
from parley.ids import Time, as_id, from_ms, new_id, now, now_ms, to_ms
from parley.models import Device, Model, Session, User
from parley.services.live import Live
from parley.services.together import Together
from parley.stores.base import Store

MAX_TOKEN = 4096
MAX_LABEL = 100

ACCESS_SECONDS = 900
"""How long a person's access token is good; the session goes on with a new one."""

PERSON_SECONDS = 30 * 24 * 3600
"""How long a person stays signed in without coming back."""

KEPT_SECONDS = 2
"""How long a guest's session lasts that an open room keeps, until it is looked at again: so much longer than
it should may a connection go on."""

GRACE_MS = 30_000
"""How long a refresh token that was used is answered with the same pair again: the answer may have been lost,
or two windows may have asked at once."""

log = structlog.get_logger()


class Caller(NamedTuple):
    """Who is asking, and by which session."""

    user: User
    session: Session


class SignedIn(Model):
    """A new session, or new tokens for an old one. They are shown this once.

    `token` goes with every request until `expires_at`. A guest's ends with the session, which every message
    prolongs; a person has a `refresh_token`, which is good once for a new pair.
    """

    user: User
    token: str
    refresh_token: str | None = None
    expires_at: Time


class Sessions:
    """Who is signed in.

    A guest's session ends `session_ttl` seconds after their last message, or after the last open room that
    they created has closed, whichever is later; it does not end while there is such a room.
    """

    def __init__(self, store: Store, settings: Settings, live: Live, secret: str) -> None:
        self._store = store
        self._live = live
        self._guest_ms = settings.session_ttl * 1000
        self._tokens = security.Tokens(secret)
        self._by_id = Together(store.sessions)
        self._extended: dict[str, Time] = {}
        self._seen: dict[str, Time] = {}

    async def begin(self, user: User, label: str) -> SignedIn:
        """Sign a user in on one more device."""
        session_id = new_id()
        token = security.new_token(session_id)
        is_guest = user.kind == "guest"
        session = Session(
            id=session_id,
            user_id=user.id,
            token_hash=security.token_hash(token),
            created_at=now(),
            expires_at=self._guest_end() if is_guest else _after(PERSON_SECONDS),
            label=label[:MAX_LABEL],
        )
        await self._store.add_session(session)
        if is_guest:
            return SignedIn(user=user, token=token, expires_at=session.expires_at)
        return self._pair(user, session)

    async def take_back(self, signed_in: SignedIn) -> None:
        """End a session whose tokens nobody has been given."""
        session_id, _ = self._tokens.session_of_access(signed_in.token, now_ms())
        await self._store.end_session(session_id)

    async def refresh(self, token: str) -> SignedIn:
        """New tokens for a person's session. Raises `TokenInvalid`, `TokenExpired`.

        A token that was used already, and not just now, was stolen, from one or by the other: the session
        ends for both (RFC 9700, section 4.14.2).
        """
        session_id, generation = self._tokens.session_of_refresh(token[:MAX_TOKEN])
        session, user = await self._found(session_id)
        rotated = None
        if session.generation == generation:
            end = _after(PERSON_SECONDS)
            rotated = await self._store.rotate_session(session_id, generation, now(), end)
            if rotated is None:  # at the same moment by another
                session, user = await self._found(session_id)
        if rotated is None:
            since = now_ms() - to_ms(session.rotated_at) if session.rotated_at is not None else 0
            if session.generation != generation + 1 or since > GRACE_MS:
                log.warning("a refresh token was used twice; its session was ended", user_id=user.id)
                await self._end(session, "token used twice")
                raise TokenInvalid("That token was used already; the session was ended. Sign in again.")
            rotated = session
        return self._pair(user, rotated)

    async def authenticate(self, token: str | None) -> Caller:
        """Who this token belongs to. Raises `TokenMissing`, `TokenInvalid`, `TokenExpired`."""
        if not token:
            raise TokenMissing
        token = token[:MAX_TOKEN]
        if token.startswith(security.REFRESH):
            raise TokenInvalid("That is a refresh token; use the access token.")
        if token.startswith(security.OPAQUE):
            session, user = await self._found(security.session_of_token(token))
            if user.kind != "guest" or not security.is_token_of(token, session.token_hash):
                raise TokenInvalid
            return await self._current(session, user)
        session_id, user_id = self._tokens.session_of_access(token, now_ms())
        caller = await self._current(*await self._found(session_id))
        if caller.user.id != user_id:
            raise TokenInvalid
        return caller

    async def renew(self, caller: Caller) -> Caller:
        """The caller as they are now. Raises `TokenInvalid` if they signed out, `TokenExpired`."""
        return await self._current(*await self._found(caller.session.id))

    async def devices(self, caller: Caller) -> list[Device]:
        """Where the caller is signed in, the first one first."""
        found = await self._store.sessions_of(caller.user.id)
        return [
            Device(
                id=session.id,
                label=session.label,
                created_at=session.created_at,
                expires_at=self._end_of(session),
                current=session.id == caller.session.id,
            )
            for session in found
            if self._end_of(session) > now()
        ]

    async def sign_out(
        self,
        caller: Caller,
        everywhere: bool = False,
        done: Callable[[], None] = lambda: None,
        reason: str = "signed out",
    ) -> None:
        """End the caller's session, or all of them; `done` is called before this one's connections are
        closed."""
        if everywhere:
            await self.sign_out_others(caller)
        await self._store.end_session(caller.session.id)
        self._extended.pop(caller.session.id, None)
        done()
        self._live.ended(caller.user.id, None if everywhere else caller.session.id, reason)

    async def sign_out_device(self, caller: Caller, session_id: str) -> None:
        """End another of the caller's sessions. Raises `SessionNotFound`."""
        found = await self._look_up(session_id)
        if found is None or found[1].id != caller.user.id:
            raise SessionNotFound
        await self._end(found[0], "signed out")

    async def sign_out_others(self, caller: Caller) -> None:
        """End all of the caller's sessions but this one, and close their connections."""
        for session in await self._store.sessions_of(caller.user.id):
            if session.id != caller.session.id:
                await self._end(session, "signed out")

    def spoke(self, session: Session, user: User) -> None:
        """Note that a user said something, which moves the end of a guest's session.

        Kept here until `save`, so that a message costs no second write.
        """
        self.saw(user.id)
        if user.kind == "guest":
            self._extended[session.id] = self._guest_end()

    def saw(self, user_id: str) -> None:
        """Note that a user was here."""
        self._seen[user_id] = now()

    async def save(self) -> None:
        """Write down who was seen and which ends have moved. Called about once a second."""
        if self._seen:
            seen = dict(self._seen)
            await self._store.saw(seen)
            for user_id, at in seen.items():
                if self._seen.get(user_id) == at:
                    del self._seen[user_id]
        if self._extended:
            saved = dict(self._extended)
            await self._store.extend_sessions(saved)
            for session_id, end in saved.items():
                if self._extended.get(session_id) == end:
                    del self._extended[session_id]

    async def _found(self, session_id: str) -> tuple[Session, User]:
        found = await self._look_up(session_id)
        if found is None:
            raise TokenInvalid
        return found

    async def _look_up(self, session_id: str) -> tuple[Session, User] | None:
        # What is no id could be something that no store takes, and would fail the others' questions too.
        return await self._by_id.get(session_id) if as_id(session_id) is not None else None

    async def _current(self, session: Session, user: User) -> Caller:
        end = self._end_of(session)
        if end <= now():
            if user.kind != "guest" or not await self._is_kept(user):
                raise TokenExpired
            end = _after(KEPT_SECONDS)
        return Caller(user, replace(session, expires_at=end))

    async def _is_kept(self, guest: User) -> bool:
        """Whether an open room that they created keeps a guest here, or one that has closed just now."""
        return await self._store.owns_room(guest.id, from_ms(now_ms() - self._guest_ms))

    def _end_of(self, session: Session) -> Time:
        return max(session.expires_at, self._extended.get(session.id, session.expires_at))

    async def _end(self, session: Session, reason: str) -> None:
        await self._store.end_session(session.id)
        self._live.ended(session.user_id, session.id, reason)

    def _pair(self, user: User, session: Session) -> SignedIn:
        at = now_ms()
        return SignedIn(
            user=user,
            token=self._tokens.access(user.id, session.id, at, ACCESS_SECONDS),
            refresh_token=self._tokens.refresh(session.id, session.generation),
            expires_at=from_ms(at + ACCESS_SECONDS * 1000),
        )

    def _guest_end(self) -> Time:
        return from_ms(now_ms() + self._guest_ms)


def _after(seconds: int) -> Time:
    return from_ms(now_ms() + seconds * 1000)
