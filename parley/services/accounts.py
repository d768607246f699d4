"""Who takes part: guests, their sessions and how long those last."""

from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from parley import security
from parley.config import Settings
from parley.errors import GuestsNotAllowed, NameTaken, TokenExpired, TokenInvalid, TokenMissing, UserNotFound
from parley.ids import Time, from_ms, new_id, now, now_ms
from parley.models import Model, Session, User
from parley.services import names
from parley.services.live import Live
from parley.stores.base import Store

MAX_TOKEN = 4096


class Caller(NamedTuple):
    """Who is asking, and by which session."""

    user: User
    session: Session


class SignedIn(Model):
    """A new session. The token is shown this once."""

    user: User
    token: str
    refresh_token: str | None = None
    expires_at: Time


class Accounts:
    """Guests and their sessions. A guest's session ends `session_ttl` seconds after their last message."""

    def __init__(self, store: Store, settings: Settings, live: Live, lobby_id: str) -> None:
        self._store = store
        self._live = live
        self._settings = settings
        self._lobby_id = lobby_id
        self._extended: dict[str, Time] = {}
        self._seen: dict[str, Time] = {}

    async def guest(self, display_name: str) -> SignedIn:
        """Let somebody in under a display name. Raises `GuestsNotAllowed`, `InvalidField`."""
        self._check_guests()
        guest_id = new_id()
        user = User(
            id=guest_id,
            name=f"guest-{guest_id[-12:]}",
            display_name=names.display_name(display_name),
            kind="guest",
            last_seen_at=now(),
        )
        await self._store.add_user(user, [self._lobby_id])
        return await self._sign_in(user)

    async def walk_in(self, display_name: str) -> User:
        """The guest behind the one-liners: the same one for the same name, made on first use.

        Anybody may speak as one, so that they never get a registered name. Raises `NameTaken`,
        `GuestsNotAllowed`, `InvalidField`.
        """
        self._check_guests()
        shown = names.display_name(display_name, "user")
        if await self._store.user(shown.casefold()) is not None:
            raise NameTaken("That name belongs to somebody with an account.")
        name = f"~{shown.casefold()}"
        user = await self._store.user(name)
        if user is None:
            user = User(id=new_id(), name=name, display_name=shown, kind="guest", last_seen_at=now())
            try:
                await self._store.add_user(user, [self._lobby_id])
            except NameTaken:  # somebody walked in under this name at the same moment
                return await self.see(name)
        self._seen[user.id] = now()
        return user

    async def authenticate(self, token: str | None) -> Caller:
        """Who this token belongs to. Raises `TokenMissing`, `TokenInvalid`, `TokenExpired`."""
        if not token:
            raise TokenMissing
        return await self._current(security.token_hash(token[:MAX_TOKEN]))

    async def renew(self, caller: Caller) -> Caller:
        """The caller as they are now. Raises `TokenInvalid` if they signed out, `TokenExpired`."""
        return await self._current(caller.session.token_hash)

    async def _current(self, token_hash: bytes) -> Caller:
        found = await self._store.session(token_hash)
        if found is None:
            raise TokenInvalid
        session, user = found
        end = max(session.expires_at, self._extended.get(session.id, session.expires_at))
        if end <= now():
            raise TokenExpired
        return Caller(user, replace(session, expires_at=end))

    async def sign_out(self, caller: Caller, done: Callable[[], None] = lambda: None) -> None:
        """End the caller's session; `done` is called before its connections are closed."""
        await self._store.end_session(caller.session.id)
        self._extended.pop(caller.session.id, None)
        done()
        self._live.ended(caller.user.id, caller.session.id, "signed out")

    async def see(self, key: str) -> User:
        """A user by id or name. Raises `UserNotFound`."""
        if "\x00" in key:  # some stores could not even look for it
            raise UserNotFound
        user = await self._store.user(key)
        if user is None:
            raise UserNotFound
        return replace(user, online=self._live.is_online(user.id))

    def spoke(self, session: Session) -> None:
        """Note that a session was used to say something, which moves its end.

        Kept here until `save_sessions`, so that a message costs no second write.
        """
        self._extended[session.id] = self._end()
        self._seen[session.user_id] = now()

    async def save_sessions(self) -> None:
        """Write down who was seen and which session ends have moved. Called about once a second."""
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

    def _check_guests(self) -> None:
        if not self._settings.guests:
            raise GuestsNotAllowed

    async def _sign_in(self, user: User) -> SignedIn:
        token = security.new_token()
        session = Session(
            id=new_id(),
            user_id=user.id,
            token_hash=security.token_hash(token),
            created_at=now(),
            expires_at=self._end(),
        )
        await self._store.add_session(session)
        return SignedIn(user=user, token=token, expires_at=session.expires_at)

    def _end(self) -> Time:
        return from_ms(now_ms() + self._settings.session_ttl * 1000)
