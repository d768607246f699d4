"""Signing in, staying signed in and being signed out; and tokens that somebody made up."""

import base64
import json
from collections.abc import Callable
from typing import Any, cast

import jwt
import pytest
from argon2 import PasswordHasher

from parley import security
from parley.config import Settings
from parley.errors import (
    InvalidField,
    NameTaken,
    NotAllowed,
    RateLimited,
    RegistrationClosed,
    SessionNotFound,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    WrongPassword,
)
from parley.ids import from_ms, new_id, now_ms
from parley.models import User
from parley.services import sessions as sessions_module
from parley.services.accounts import Accounts
from parley.services.live import Live
from parley.services.passwords import Passwords
from parley.services.rooms import Rooms
from parley.services.sessions import ACCESS_SECONDS, PERSON_SECONDS, Sessions
from parley.stores.memory import MemoryStore
from tests.contracts.kitchen import a_room

SECRET = "a key for tests"
PASSWORD = "correct horse"


class Ended:
    """Hears which sessions are over, as the connections would."""

    def __init__(self) -> None:
        self.sessions: list[tuple[str, str]] = []

    def ended(self, user_id: str, session_id: str, reason: str) -> None:
        self.sessions.append((session_id, reason))

    def renamed(self, user: User) -> None:
        pass

    def is_online(self, user_id: str) -> bool:
        return False


class Door:
    """Accounts and sessions over a memory store, with a clock that can be moved."""

    def __init__(self, **settings: Any) -> None:
        self.store = MemoryStore()
        self.ended = Ended()
        self.live = cast(Live, self.ended)
        self.settings = Settings(_env_file=None, **settings)
        self.sessions = Sessions(self.store, self.settings, self.live, SECRET)
        # As little work as argon2 allows, to save the tests' time.
        self.passwords = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        self.lobby = a_room("lobby")
        rooms = Rooms(self.store, self.settings, self.live)
        rooms.lobby_id = self.lobby.id
        self.accounts = Accounts(self.store, self.settings, self.live, self.sessions, self.passwords, rooms)


@pytest.fixture
async def door() -> Door:
    door = Door()
    await door.store.add_room(door.lobby)
    return door


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the clock on by some seconds."""
    moved = 0

    def move(seconds: float) -> None:
        nonlocal moved
        moved += round(seconds * 1000)
        monkeypatch.setattr(sessions_module, "now_ms", lambda: now_ms() + moved)
        monkeypatch.setattr(sessions_module, "now", lambda: from_ms(now_ms() + moved))

    return move


async def ann_at(door: Door) -> sessions_module.SignedIn:
    return await door.accounts.register("Ann", PASSWORD, None, "a laptop", "here")


async def test_who_registers_is_signed_in_and_in_the_lobby(door: Door) -> None:
    made = await ann_at(door)
    assert (made.user.name, made.user.display_name, made.user.kind) == ("ann", "ann", "person")
    caller = await door.sessions.authenticate(made.token)
    assert caller.user.id == made.user.id
    assert caller.session.label == "a laptop"
    assert [room.name for room in (await door.store.rooms_of([made.user.id]))[made.user.id]] == ["lobby"]
    kept = await door.store.password_hash(made.user.id)
    assert kept is not None
    assert kept.startswith("$argon2id$")
    assert PASSWORD not in kept


async def test_the_password_opens_the_account_and_no_other_does(door: Door) -> None:
    made = await ann_at(door)
    again = await door.accounts.sign_in("ANN", PASSWORD, "a phone", "there")
    assert again.user == made.user
    assert again.token != made.token
    for name, password in (("ann", "correct horsf"), ("nobody", PASSWORD), ("no body", PASSWORD), ("", "")):
        with pytest.raises(WrongPassword) as raised:
            await door.accounts.sign_in(name, password, "", f"from {name} {password}")
        assert raised.value.detail == WrongPassword.sentence


async def test_names_and_passwords_have_rules(door: Door) -> None:
    for name in ("", "a", "me", "a b", "a/b", "guest-1", new_id(), "x" * 33, "~ann", "-ann", "a\u200db"):
        with pytest.raises(InvalidField):
            await door.accounts.register(name, PASSWORD, None, "", name)
    for password in ("", "1234567", "x" * 1025, "ä" * 600):
        with pytest.raises(InvalidField):
            await door.accounts.register("bob", password, None, "", password)
    await ann_at(door)
    with pytest.raises(NameTaken):
        await door.accounts.register("aNN", PASSWORD, None, "", "")
    with pytest.raises(NameTaken):
        await door.accounts.walk_in("Ann")
    closed = Door(registration=False)
    with pytest.raises(RegistrationClosed):
        await ann_at(closed)


async def test_the_same_password_typed_another_way_is_the_same(door: Door) -> None:
    await door.accounts.register("ann", "liberte\u0301, e\u0301galite\u0301", None, "", "")
    assert await door.accounts.sign_in("ann", "liberté, égalité", "", "")


async def test_guessing_is_slowed_down_and_nobody_is_locked_out(door: Door) -> None:
    await ann_at(door)
    for _ in range(5):
        with pytest.raises(WrongPassword):
            await door.accounts.sign_in("ann", "guess what", "", "a thief")
    for _ in range(15):
        with pytest.raises(RateLimited) as raised:
            await door.accounts.sign_in("ann", PASSWORD, "", "a thief")
        assert 0 < (raised.value.retry_after or 0) <= 10
    # Ann herself, from elsewhere, comes in.
    assert await door.accounts.sign_in("ann", PASSWORD, "", "home")


async def test_a_guests_token_is_good_for_their_own_session_only(door: Door) -> None:
    one, other = await door.accounts.guest("Ann"), await door.accounts.guest("Bob")
    (head, secret), (_, another) = one.token.split("."), other.token.split(".")
    caller = await door.sessions.authenticate(one.token)
    assert (caller.user.id, head) == (one.user.id, f"parley_{caller.session.id}")
    for forged in (f"{head}.{another}", f"{head}.", head, f"parley_.{secret}", f"parley_{new_id()}.{secret}"):
        with pytest.raises(TokenInvalid):
            await door.sessions.authenticate(forged)


async def test_what_is_no_id_is_not_asked_for_together_with_others(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = await door.sessions.authenticate((await door.accounts.guest("Ann")).token)
    asked: list[str] = []

    async def read(session_ids: list[str]) -> dict[str, Any]:
        asked.extend(session_ids)
        return {}

    monkeypatch.setattr(door.sessions._by_id, "_read", read)
    for bad in ("", "a\0b", "\ud800", "x" * 4000, f"{caller.session.id}\n"):
        with pytest.raises(TokenInvalid):
            await door.sessions.authenticate(f"parley_{bad}.secret")
        with pytest.raises(SessionNotFound):
            await door.sessions.sign_out_device(caller, bad)
    assert asked == []


async def test_an_access_token_is_good_for_some_minutes(door: Door, later: Callable[[float], None]) -> None:
    made = await ann_at(door)
    assert made.refresh_token is not None
    later(ACCESS_SECONDS - 5)
    caller = await door.sessions.authenticate(made.token)
    fresh = await door.sessions.refresh(made.refresh_token)
    assert fresh.user == made.user
    assert (await door.sessions.authenticate(fresh.token)).session.id == caller.session.id
    with pytest.raises(TokenInvalid):
        await door.sessions.authenticate(fresh.refresh_token)
    assert (await door.sessions.renew(caller)).user == made.user


async def test_a_lost_answer_is_given_again(door: Door, later: Callable[[float], None]) -> None:
    made = await ann_at(door)
    first = await door.sessions.refresh(made.refresh_token or "")
    again = await door.sessions.refresh(made.refresh_token or "")
    assert again.refresh_token == first.refresh_token
    later(25)
    assert (await door.sessions.refresh(made.refresh_token or "")).refresh_token == first.refresh_token
    assert door.ended.sessions == []


async def test_a_token_used_twice_ends_the_session_for_both(
    door: Door, later: Callable[[float], None]
) -> None:
    made = await ann_at(door)
    other = await door.accounts.sign_in("ann", PASSWORD, "a phone", "")
    first = await door.sessions.refresh(made.refresh_token or "")
    later(31)
    with pytest.raises(TokenInvalid, match="used already"):
        await door.sessions.refresh(made.refresh_token or "")
    for token in (made.token, first.token):
        with pytest.raises(TokenInvalid):
            await door.sessions.authenticate(token)
    with pytest.raises(TokenInvalid):
        await door.sessions.refresh(first.refresh_token or "")
    assert [reason for _, reason in door.ended.sessions] == ["token used twice"]
    assert await door.sessions.authenticate(other.token)


async def test_an_old_token_of_long_ago_ends_the_session_too(door: Door) -> None:
    made = await ann_at(door)
    second = await door.sessions.refresh(made.refresh_token or "")
    await door.sessions.refresh(second.refresh_token or "")
    with pytest.raises(TokenInvalid, match="used already"):
        await door.sessions.refresh(made.refresh_token or "")


async def test_who_does_not_come_back_is_signed_out(door: Door, later: Callable[[float], None]) -> None:
    made = await ann_at(door)
    caller = await door.sessions.authenticate(made.token)
    later(PERSON_SECONDS + 1)
    with pytest.raises(TokenExpired):
        await door.sessions.renew(caller)


async def test_signing_out_ends_one_device_or_all(door: Door) -> None:
    laptop = await ann_at(door)
    phone = await door.accounts.sign_in("ann", PASSWORD, "a phone", "")
    tablet = await door.accounts.sign_in("ann", PASSWORD, "a tablet", "")
    caller = await door.sessions.authenticate(laptop.token)
    listed = await door.sessions.devices(caller)
    assert [(device.label, device.current) for device in listed] == [
        ("a laptop", True),
        ("a phone", False),
        ("a tablet", False),
    ]
    await door.sessions.sign_out_device(caller, listed[1].id)
    with pytest.raises(TokenInvalid):
        await door.sessions.authenticate(phone.token)
    guest = await door.accounts.guest("Dora")
    dora = await door.sessions.authenticate(guest.token)
    for session_id in (listed[2].id, listed[1].id, new_id(), "x"):
        with pytest.raises(SessionNotFound):
            await door.sessions.sign_out_device(dora, session_id)
    await door.sessions.sign_out(caller, everywhere=True)
    for signed_in in (laptop, tablet):
        with pytest.raises(TokenInvalid):
            await door.sessions.authenticate(signed_in.token)
        with pytest.raises(TokenInvalid):
            await door.sessions.refresh(signed_in.refresh_token or "")
    assert len(door.ended.sessions) == 3


async def test_another_password_signs_the_other_devices_out(door: Door) -> None:
    laptop = await ann_at(door)
    phone = await door.accounts.sign_in("ann", PASSWORD, "a phone", "")
    caller = await door.sessions.authenticate(laptop.token)
    with pytest.raises(WrongPassword):
        await door.accounts.change_password(caller, "wrong horse", "battery staple")
    with pytest.raises(InvalidField):
        await door.accounts.change_password(caller, PASSWORD, "short")
    assert await door.sessions.authenticate(phone.token)
    await door.accounts.change_password(caller, PASSWORD, "battery staple")
    assert await door.sessions.authenticate(laptop.token)
    with pytest.raises(TokenInvalid):
        await door.sessions.authenticate(phone.token)
    with pytest.raises(WrongPassword):
        await door.accounts.sign_in("ann", PASSWORD, "", "")
    assert await door.accounts.sign_in("ann", "battery staple", "", "")
    guest = await door.sessions.authenticate((await door.accounts.guest("Dora")).token)
    with pytest.raises(NotAllowed):
        await door.accounts.change_password(guest, "", "battery staple")


def jwt_with(header: dict[str, Any], claims: dict[str, Any], key: bytes | str, algorithm: str) -> str:
    return jwt.encode(claims, key, algorithm, header)


async def test_tokens_that_somebody_made_up_are_refused(door: Door) -> None:
    made = await ann_at(door)
    caller = await door.sessions.authenticate(made.token)
    good = jwt.decode(made.token, options={"verify_signature": False})
    typed = {"typ": "at+jwt"}
    real = security.Tokens(SECRET)._signing
    head, body, seal = made.token.split(".")
    nothing = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "at+jwt"}).encode()).decode()
    forged = {
        "no algorithm": f"{nothing.rstrip('=')}.{body}.",
        "another algorithm": jwt_with(typed, good, real * 2, "HS512"),
        "another key": jwt_with(typed, good, b"x" * 32, "HS256"),
        "another type": jwt_with({"typ": "JWT"}, good, real, "HS256"),
        "another audience": jwt_with(typed, good | {"aud": "elsewhere"}, real, "HS256"),
        "no audience": jwt_with(typed, {k: v for k, v in good.items() if k != "aud"}, real, "HS256"),
        "no end": jwt_with(typed, {k: v for k, v in good.items() if k != "exp"}, real, "HS256"),
        "another user": jwt_with(typed, good | {"sub": new_id()}, real, "HS256"),
        "another session": jwt_with(typed, good | {"sid": new_id()}, real, "HS256"),
        "a session that is no text": jwt_with(typed, good | {"sid": 7}, real, "HS256"),
        "another body": f"{head}.{body[:-2]}AA.{seal}",
        "no seal": f"{head}.{body}.",
        "noise": "x.y.z",
        "a long noise": "x" * 10_000,
        "text": "parley",
        "an opaque one": "parley_x",
        "odd characters": "\ud800.\u0000.é",
    }
    for name, token in forged.items():
        with pytest.raises(TokenInvalid):
            await door.sessions.authenticate(token)
        assert name
    with pytest.raises(TokenExpired):
        await door.sessions.authenticate(jwt_with(typed, good | {"exp": 1}, real, "HS256"))
    for nothing_at_all in (None, ""):
        with pytest.raises(TokenMissing):
            await door.sessions.authenticate(nothing_at_all)
    session_id = caller.session.id
    for token in (
        "",
        "parley_refresh_",
        f"parley_refresh_{session_id}.0.",
        f"parley_refresh_{session_id}.1.{(made.refresh_token or '').rpartition('.')[2]}",
        f"{session_id}.0.{(made.refresh_token or '').rpartition('.')[2]}",
        security.Tokens("another key").refresh(session_id, 0),
        "parley_refresh_\ud800.é.x",
        made.token,
    ):
        with pytest.raises(TokenInvalid):
            await door.sessions.refresh(token)
    assert await door.sessions.authenticate(made.token)


async def test_a_guest_stays_as_long_as_they_talk(door: Door, later: Callable[[float], None]) -> None:
    guest = await door.accounts.guest("Dora")
    caller = await door.sessions.authenticate(guest.token)
    later(3000)
    door.sessions.spoke(caller.session, caller.user)
    later(3000)
    assert await door.sessions.authenticate(guest.token)
    await door.sessions.save()
    assert await door.sessions.authenticate(guest.token)
    later(601)
    with pytest.raises(TokenExpired):
        await door.sessions.authenticate(guest.token)
    assert guest.refresh_token is None


async def test_a_guest_stays_while_they_own_an_open_room(door: Door, later: Callable[[float], None]) -> None:
    guest = await door.accounts.guest("Dora")
    caller = await door.sessions.authenticate(guest.token)
    room = a_room("doras", created_by=caller.user.id, expires_at=from_ms(now_ms() + 100_000_000))
    await door.store.add_room(room, caller.user.id)
    later(90_000)
    assert await door.sessions.authenticate(guest.token)
    caller = await door.sessions.renew(caller)
    assert caller.session.expires_at > from_ms(now_ms() + 90_000_000)
    later(10_100)
    await door.store.close_due_rooms(from_ms(now_ms() + 100_000_000), 10)
    assert await door.sessions.authenticate(guest.token)
    later(3_400)
    assert await door.sessions.authenticate(guest.token)
    later(200)
    with pytest.raises(TokenExpired):
        await door.sessions.authenticate(guest.token)
