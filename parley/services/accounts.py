"""Who takes part: people with an account, and guests with only a name."""

from msgspec.structs import replace

from parley.config import Settings
from parley.errors import (
    GuestsNotAllowed,
    NameTaken,
    NotAllowed,
    RegistrationClosed,
    UserNotFound,
    WrongPassword,
)
from parley.ids import as_id, new_id, now
from parley.models import User, UserList
from parley.services import names
from parley.services.limits import Limiter
from parley.services.live import Live
from parley.services.passwords import Passwords
from parley.services.rooms import Rooms
from parley.services.sessions import Caller, Sessions, SignedIn
from parley.stores.base import Store


class Accounts:
    """Coming in, and what is known of each other."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        live: Live,
        sessions: Sessions,
        passwords: Passwords,
        rooms: Rooms,
    ) -> None:
        self._store = store
        self._live = live
        self._settings = settings
        self._sessions = sessions
        self._passwords = passwords
        self._rooms = rooms
        # Guessing one password from one place, one from many places, many from one place. All three fill
        # up again by themselves, so that nobody is locked out for good.
        self._guesses = (Limiter(1 / 10, 5), Limiter(1 / 2, 50), Limiter(1, 20))
        self._arrivals = Limiter(1, 30)

    async def register(
        self, name: str, password: str, display_name: str | None, label: str, address: str
    ) -> SignedIn:
        """Make an account and sign in. Raises `RegistrationClosed`, `InvalidField`, `NameTaken`,
        `RateLimited`."""
        if not self._settings.registration:
            raise RegistrationClosed
        name = names.user_name(name)
        shown = names.display_name(display_name) if display_name is not None else name
        self._arrivals.take(address)
        user = User(id=new_id(), name=name, display_name=shown, kind="person", last_seen_at=now())
        await self._add(user, await self._passwords.hash(password))
        return await self._sessions.begin(user, label)

    async def sign_in(self, name: str, password: str, label: str, address: str) -> SignedIn:
        """Sign in on one more device. Raises `WrongPassword`, also where there is no such account, and
        `RateLimited`."""
        key = names.folded(name)
        tries = (f"{key} {address}", key, address)
        for limiter, who in zip(self._guesses, tries, strict=True):
            limiter.take(who)
        user = await self._store.user(key) if names.is_user_name(key) else None
        kept = await self._store.password_hash(user.id) if user is not None else None
        if not await self._passwords.is_right(password, kept) or user is None:
            raise WrongPassword
        for limiter, who in zip(self._guesses[:2], tries[:2], strict=True):
            limiter.give_back(who)
        signed_in = await self._sessions.begin(user, label)
        if await self._store.password_hash(user.id) != kept:
            # Another password was taken meanwhile, perhaps too late to sign this device out with the others.
            await self._sessions.take_back(signed_in)
            raise WrongPassword
        return signed_in

    async def guest(self, display_name: str, label: str = "", address: str = "") -> SignedIn:
        """Let somebody in under a display name. Raises `GuestsNotAllowed`, `InvalidField`, `LimitReached`."""
        self._check_guests()
        guest_id = new_id()
        user = User(
            id=guest_id,
            name=f"guest-{guest_id[-12:]}",
            display_name=names.display_name(display_name),
            kind="guest",
            last_seen_at=now(),
        )
        await self._add(user)
        return await self._sessions.begin(user, label)

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
                await self._add(user)
            except NameTaken:  # somebody walked in under this name at the same moment
                return await self.see(name)
        self._sessions.saw(user.id)
        return user

    async def whom(self, caller: User, key: str) -> User:
        """The user that a caller means; `me` is the caller. Raises `UserNotFound`."""
        return await self.see(caller.id if key == "me" else key)

    async def see(self, key: str) -> User:
        """A user by id or name. Raises `UserNotFound`."""
        if "\x00" in key:  # some stores could not even look for it
            raise UserNotFound
        user = await self._store.user(as_id(key) or names.folded(key))
        if user is None:
            raise UserNotFound
        return self._shown(user)

    async def online(self, cursor: str | None, limit: int) -> UserList:
        """Users who are connected now. Raises `InvalidField`."""
        after = names.cursor(cursor) or ""
        found = [each for each in self._live.who_is_online() if each > after]
        users = await self._store.users(found[:limit])
        # Some may have gone while the store was asked.
        there = [users[each] for each in found[:limit] if each in users and self._live.is_online(each)]
        items = [self._shown(user) for user in there]
        return UserList(items=items, next=found[limit - 1] if len(found) > limit else None)

    async def find(self, text: str, cursor: str | None, limit: int) -> UserList:
        """Users whose name or display name begins so. Raises `InvalidField`."""
        wanted = names.folded(names.display_name(text, "query"))
        found = await self._store.find_users(wanted, names.cursor(cursor), limit + 1)
        items = [self._shown(user) for user in found[:limit]]
        return UserList(items=items, next=items[-1].id if len(found) > limit else None)

    async def change_profile(self, caller: Caller, display_name: str) -> User:
        """Be shown under another name. Raises `InvalidField`."""
        changed = await self._store.change_user(caller.user.id, names.display_name(display_name))
        self._live.renamed(changed)
        return self._shown(changed)

    async def change_password(self, caller: Caller, password: str, new_password: str) -> None:
        """Take another password; all other devices are signed out. Raises `WrongPassword`, `NotAllowed` for
        guests, `InvalidField`, `RateLimited`."""
        user_id = caller.user.id
        kept = await self._store.password_hash(user_id)
        if kept is None:
            raise NotAllowed("Only people with an account have a password.")
        self._guesses[1].take(caller.user.name)
        if not await self._passwords.is_right(password, kept):
            raise WrongPassword
        await self._store.change_password(user_id, await self._passwords.hash(new_password))
        self._guesses[1].give_back(caller.user.name)
        await self._sessions.sign_out_others(caller)

    async def _add(self, user: User, password_hash: str | None = None) -> None:
        lobby_id, most = self._rooms.lobby_id, self._settings.max_users
        await self._store.add_user(user, [lobby_id], password_hash, most)

    def _shown(self, user: User) -> User:
        return replace(user, online=self._live.is_online(user.id))

    def _check_guests(self) -> None:
        if not self._settings.guests:
            raise GuestsNotAllowed
