"""Each limit of a server holds, says which setting it is, and is the same over every way in."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from parley.errors import RateLimited
from parley.services.limits import BURST_SECONDS, PER_ADDRESS
from parley.web import problems
from tests.servers import ServerProcess
from tests.web.conftest import Person, Socket, connect, socket

Limited = Callable[..., ServerProcess]


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Limited]:
    """Starts a server with these limits."""
    with ExitStack() as stack:
        yield lambda **limits: stack.enter_context(ServerProcess(tmp_path, store="memory://", **limits))


Guest = Callable[[ServerProcess, str], Person]


@pytest.fixture
def guest() -> Iterator[Guest]:
    """Brings guests in, and closes their connections at the end."""
    with ExitStack() as stack:

        def come_in(server: ServerProcess, name: str) -> Person:
            person = Person(server, name)
            stack.callback(person.http.close)
            return person

        yield come_in


def one_liner(server: ServerProcess, user: str, room: str, text: str = "hello") -> httpx2.Response:
    return httpx2.post(f"{server.url}/messages", json={"user": user, "room": room, "text": text})


async def into_feed(server: ServerProcess, room: str, name: str, text: str) -> dict[str, Any]:
    """The answer of a plain feed to a line: the message, or why it is none."""
    async with connect(f"{server.ws}/updates/{room}?name={name}") as feed:
        with suppress(ConnectionClosed):  # it may have said no before it was asked
            await feed.send(text)
        while True:
            for line in str(await feed.recv()).split("\n"):
                told: dict[str, Any] = json.loads(line)
                if "error" in told or told["text"] == text:
                    return told


def is_refused(answer: httpx2.Response, setting: str) -> None:
    """It is the conflict that names the setting."""
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["title"]) == (409, "limit_reached", "conflict")
    assert setting in problem["detail"]
    assert "retry-after" not in answer.headers


def is_error(answer: dict[str, Any], setting: str) -> None:
    """The same over a WebSocket."""
    error = answer["error"]
    assert (error["code"], error["kind"], error["retryable"]) == ("limit_reached", "conflict", False)
    assert setting in error["detail"]


async def test_so_many_users_and_no_more(limited: Limited, guest: Guest) -> None:
    server = limited(max_users=3)
    ann = guest(server, "Ann")
    assert one_liner(server, "john", "lobby").status_code == 201
    made = {"name": "bob", "password": "correct horse battery"}
    assert ann.post("/accounts", json=made).status_code == 201
    is_refused(ann.post("/accounts", json=made | {"name": "cleo"}), "PARLEY_MAX_USERS")
    is_refused(ann.post("/sessions/guest", json={"display_name": "Cleo"}), "PARLEY_MAX_USERS")
    is_refused(one_liner(server, "cleo", "lobby"), "PARLEY_MAX_USERS")
    async with connect(server.ws) as connection:
        stranger = Socket(connection)
        is_error(await stranger.ask(op="session.guest", display_name="Cleo"), "PARLEY_MAX_USERS")
        registered = await stranger.ask(op="account.register", name="cleo", password=made["password"])
        is_error(registered, "PARLEY_MAX_USERS")
    is_error(await into_feed(server, "lobby", "cleo", "hi"), "PARLEY_MAX_USERS")
    assert (await into_feed(server, "lobby", "john", "still here"))["author_name"] == "john"
    counted = ann.get("/stats").json()
    assert (counted["users"], counted["guests"]) == (1, 2)
    assert ann.delete("/me").status_code == 204
    assert one_liner(server, "cleo", "lobby").status_code == 201


async def test_so_many_rooms_and_no_more(limited: Limited, guest: Guest) -> None:
    server = limited(max_rooms=3)
    ann, bob = guest(server, "Ann"), guest(server, "Bob")
    assert ann.post("/rooms", json={"name": "kitchen"}).status_code == 201
    assert one_liner(server, "john", "attic").status_code == 201
    is_refused(ann.post("/rooms", json={"name": "cellar"}), "PARLEY_MAX_ROOMS")
    is_refused(one_liner(server, "john", "cellar"), "PARLEY_MAX_ROOMS")
    is_refused(ann.post(f"/direct/{bob.id}/messages", json={"text": "hi"}), "PARLEY_MAX_ROOMS")
    is_refused(ann.put(f"/direct/{bob.id}"), "PARLEY_MAX_ROOMS")
    async with socket(ann) as anns:
        is_error(await anns.ask(op="room.create", name="cellar"), "PARLEY_MAX_ROOMS")
        is_error(await anns.ask(op="message.send", user=bob.id, text="hi"), "PARLEY_MAX_ROOMS")
    is_error(await into_feed(server, "cellar", "john", "hi"), "PARLEY_MAX_ROOMS")
    assert ann.get("/stats").json()["rooms"] == 3
    assert ann.delete("/rooms/kitchen").status_code == 204
    assert ann.post(f"/direct/{bob.id}/messages", json={"text": "hi"}).status_code == 201


async def test_so_many_members_of_a_room_and_no_more(limited: Limited, guest: Guest) -> None:
    server = limited(max_room_members=2)
    ann, bob, cleo = guest(server, "Ann"), guest(server, "Bob"), guest(server, "Cleo")
    is_refused(ann.post("/rooms", json={"name": "cellar", "capacity": 3}), "PARLEY_MAX_ROOM_MEMBERS")
    ann.post("/rooms", json={"name": "kitchen"}).raise_for_status()
    is_refused(ann.patch("/rooms/kitchen", json={"capacity": 3}), "PARLEY_MAX_ROOM_MEMBERS")
    assert bob.put("/rooms/kitchen/members/me").status_code == 200
    is_refused(cleo.put("/rooms/kitchen/members/me"), "PARLEY_MAX_ROOM_MEMBERS")
    is_refused(ann.put(f"/rooms/kitchen/members/{cleo.id}"), "PARLEY_MAX_ROOM_MEMBERS")
    is_refused(one_liner(server, "john", "kitchen"), "PARLEY_MAX_ROOM_MEMBERS")
    is_error(await into_feed(server, "kitchen", "john", "hi"), "PARLEY_MAX_ROOM_MEMBERS")
    async with socket(cleo) as cleos:
        is_error(await cleos.ask(op="room.join", room="kitchen"), "PARLEY_MAX_ROOM_MEMBERS")
        wide = await cleos.ask(op="room.create", name="cellar", capacity=3)
        is_error(wide, "PARLEY_MAX_ROOM_MEMBERS")
    assert ann.get("/rooms/kitchen").json()["member_count"] == 2
    assert ann.get("/rooms/lobby").json()["member_count"] == 4
    assert bob.delete("/rooms/kitchen/members/me").status_code == 204
    assert cleo.put("/rooms/kitchen/members/me").status_code == 200


async def test_so_much_history_and_no_more(limited: Limited, guest: Guest) -> None:
    server = limited(max_history=3, lobby_history=5)
    ann, bob = guest(server, "Ann"), guest(server, "Bob")
    is_refused(ann.post("/rooms", json={"name": "kitchen", "history_limit": 4}), "PARLEY_MAX_HISTORY")
    assert ann.post("/rooms", json={"name": "kitchen"}).json()["history_limit"] == 3
    is_refused(ann.patch("/rooms/kitchen", json={"history_limit": 4}), "PARLEY_MAX_HISTORY")
    assert ann.patch("/rooms/kitchen", json={"history_limit": 2}).json()["history_limit"] == 2
    assert ann.patch("/rooms/kitchen", json={"history_limit": None}).json()["history_limit"] == 3
    async with socket(ann) as anns:
        longer = await anns.ask(op="room.create", name="attic", history_limit=4)
        is_error(longer, "PARLEY_MAX_HISTORY")
        longer = await anns.ask(op="room.change", room="kitchen", history_limit=4)
        is_error(longer, "PARLEY_MAX_HISTORY")
        for number in range(7):
            await anns.ask(op="message.send", room="kitchen", text=f"number {number}")
            await anns.ask(op="message.send", room="lobby", text=f"number {number}")
            await anns.ask(op="message.send", user=bob.id, text=f"number {number}")
            assert one_liner(server, "john", "attic", f"number {number}").status_code == 201
    direct = ann.put(f"/direct/{bob.id}").json()["id"]
    for room, kept in (("kitchen", 3), ("attic", 3), (direct, 3), ("lobby", 5)):
        page = ann.get(f"/rooms/{room}/messages").json()["items"]
        assert [each["text"] for each in page] == [f"number {number}" for number in range(7 - kept, 7)]


async def test_messages_are_so_long_and_no_longer(limited: Limited, guest: Guest) -> None:
    server = limited(max_message_bytes=8)
    ann = guest(server, "Ann")
    fits, too_long = "äöüß", "äöüß!"  # in UTF-8
    sent = ann.post("/rooms/lobby/messages", json={"text": fits})
    assert sent.status_code == 201
    message = f"/rooms/lobby/messages/{sent.json()['id']}"
    for refused in (
        ann.post("/rooms/lobby/messages", json={"text": too_long}),
        ann.patch(message, json={"text": too_long}),
        one_liner(server, "john", "lobby", too_long),
    ):
        assert (refused.status_code, refused.json()["code"]) == (422, "message_too_long")
        assert "8 bytes" in refused.json()["detail"]
    assert one_liner(server, "john", "lobby", fits).status_code == 201
    async with socket(ann) as anns:
        for command in (
            {"op": "message.send", "room": "lobby"},
            {"op": "message.edit", "room": "lobby", "message": sent.json()["id"]},
        ):
            assert (await anns.ask(**command, text=too_long))["error"]["code"] == "message_too_long"
    assert (await into_feed(server, "lobby", "john", too_long))["error"]["code"] == "message_too_long"
    assert [each["text"] for each in ann.get("/rooms/lobby/messages").json()["items"]] == [fits, fits]


@pytest.mark.parametrize("letter", ["a", "ж", "🦜"])
async def test_the_longest_message_that_can_be_allowed_comes_through(
    limited: Limited, guest: Guest, letter: str
) -> None:
    server = limited(max_message_bytes=65_536)
    ann = guest(server, "Ann")
    text = letter * (65_536 // len(letter.encode()))
    escaped = json.dumps({"text": text})
    typed = {"content-type": "application/json"}
    assert ann.post("/rooms/lobby/messages", content=escaped, headers=typed).status_code == 201
    async with socket(ann) as anns:
        answer = await anns.ask(op="message.send", room="lobby", text=text)
        assert answer["ok"]["message"]["text"] == text


async def test_the_limits_are_told_to_everybody(limited: Limited) -> None:
    given = {
        "max_users": 11,
        "max_rooms": 12,
        "max_room_members": 13,
        "max_history": 14,
        "max_message_bytes": 15,
        "rate_limit": 16.5,
        "session_ttl": 17,
        "lobby_history": 18,
        "guests": False,
        "registration": False,
    }
    server = limited(**given)
    assert httpx2.get(f"{server.url}/api/v1/limits").json() == given
    async with connect(server.ws) as connection:
        assert (await Socket(connection).ask(op="server.limits"))["ok"] == given


# How often


async def test_who_asks_too_often_is_told_how_long_to_wait(limited: Limited, guest: Guest) -> None:
    server = limited(rate_limit=0.5)
    ann = guest(server, "Ann")
    while (refused := ann.get("/me")).status_code == 200:
        pass
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    await asyncio.sleep(int(refused.headers["retry-after"]))
    assert ann.post("/rooms/lobby/messages", json={"text": "hello"}).status_code == 201
    async with socket(ann) as anns:
        while "error" not in (answer := await anns.ask(op="profile.see")):
            pass
        error = answer["error"]
        assert (error["code"], error["kind"], error["retryable"]) == ("rate_limited", "too_many", True)
        await asyncio.sleep(error["retry_after"])
        assert "ok" in await anns.ask(op="message.send", room="lobby", text="hello again")


@pytest.mark.parametrize(("seconds", "told"), [(0.02, "1"), (1.0, "1"), (1.2, "2"), (2.5, "3")])
def test_whoever_waits_as_long_as_they_are_told_waits_long_enough(seconds: float, told: str) -> None:
    assert problems.answer(RateLimited(retry_after=seconds), "").headers["retry-after"] == told


async def test_http_and_websockets_share_what_a_user_may_ask(limited: Limited, guest: Guest) -> None:
    server = limited(rate_limit=2)
    ann = guest(server, "Ann")
    at = time.monotonic()
    async with socket(ann) as first, socket(ann) as second:
        granted = [0, 0, 0]
        for _ in range(10):
            granted[0] += ann.get("/me").status_code == 200
            for number, each in enumerate((first, second), 1):
                granted[number] += "ok" in await each.ask(op="profile.see")
    most = 8 + 2 * (time.monotonic() - at)
    assert 8 <= sum(granted) <= most
    assert all(granted)


async def test_the_one_liners_of_one_name_share_what_a_user_may_ask(limited: Limited) -> None:
    server = limited(rate_limit=2)
    at = time.monotonic()
    async with connect(f"{server.ws}/updates/lobby?name=John") as feed:
        posted = 0
        for number in range(10):
            posted += one_liner(server, "john", "lobby").status_code == 201
            await feed.send(f"line {number}")
        said, refused = 0, 0
        while said + refused < 10 + posted:
            for line in str(await feed.recv()).split("\n"):
                told = json.loads(line)
                refused += "error" in told
                said += "error" not in told
                assert "error" not in told or told["error"]["code"] == "rate_limited"
    most = 8 + 2 * (time.monotonic() - at)
    assert 8 <= said <= most
    assert 0 < posted < said
    assert one_liner(server, "mary", "lobby").status_code == 201


async def test_all_of_one_address_share_what_may_come_from_it(limited: Limited, guest: Guest) -> None:
    server = limited(rate_limit=0.1)
    per_second = 0.1 * PER_ADDRESS
    at = time.monotonic()
    ann, bob = guest(server, "Ann"), guest(server, "Bob")
    granted = 2
    with httpx2.Client(base_url=server.url) as http:

        def spent() -> bool:
            nonlocal granted
            while http.get("/api/v1/limits").status_code == 200:
                granted += 1
            return True

        assert spent()
        assert granted <= per_second * (BURST_SECONDS + time.monotonic() - at)
        for person in (ann, bob):  # who have not asked anything yet
            refused = person.get("/me")
            assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert spent()
        assert http.post("/api/v1/sessions/guest", json={"display_name": "Cleo"}).status_code == 429
        line = {"user": "john", "room": "lobby", "text": "hello"}
        assert http.post("/messages", json=line).status_code == 429
        assert http.get("/healthz").status_code == 200
        async with connect(server.ws) as connection:
            assert spent()
            assert (await Socket(connection).ask(op="server.limits"))["error"]["code"] == "rate_limited"
        assert spent()
        async with asyncio.timeout(10), connect(f"{server.ws}/updates/a-new-room") as feed:
            assert json.loads(str(await feed.recv()))["error"]["code"] == "rate_limited"


async def test_where_no_limit_is_set_there_is_none(limited: Limited, guest: Guest) -> None:
    server = limited(rate_limit=0)
    ann = guest(server, "Ann")
    async with socket(ann) as anns:
        answers = [await anns.ask(op="profile.see") for _ in range(500)]
    assert all("ok" in each for each in answers)
    assert ann.get("/limits").json()["max_users"] is None
