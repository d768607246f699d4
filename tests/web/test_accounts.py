"""Accounts over HTTP, and what happens to connections whose session ends."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from parley.realtime.protocol import Close
from tests.servers import ServerProcess
from tests.web.conftest import Person, socket

PASSWORD = "correct horse battery"


class Signed(Person):
    """Somebody with an account, on one device."""

    def __init__(self, server: ServerProcess, path: str, **body: Any) -> None:
        self.server = server
        self.http = httpx2.Client(base_url=server.url, timeout=20, headers={"user-agent": "a laptop"})
        answer = self.http.post(f"/api/v1{path}", json=body)
        assert answer.status_code == 201, answer.text
        self.answer = answer.json()
        self.id = self.answer["user"]["id"]
        self.token = self.answer["token"]
        self.http.headers["authorization"] = f"Bearer {self.token}"


def a_name() -> str:
    return f"ann-{uuid4().hex[:8]}"


Sign = Callable[..., Signed]


@pytest.fixture
def sign(server: ServerProcess) -> Iterator[Sign]:
    """A way to come in, by a path and what goes there."""
    people: list[Signed] = []

    def come_in(path: str, **body: Any) -> Signed:
        people.append(Signed(server, path, **body))
        return people[-1]

    yield come_in
    for person in people:
        person.http.close()


@pytest.fixture
def eve(sign: Sign) -> Signed:
    return sign("/accounts", name=a_name(), password=PASSWORD, display_name="Eve")


def test_an_account_is_made_and_signed_in_to(sign: Sign, eve: Signed) -> None:
    me = eve.get("/me").json()
    assert (me["display_name"], me["kind"]) == ("Eve", "person")
    assert set(eve.answer) == {"user", "token", "refresh_token", "expires_at"}
    again = sign("/sessions", name=me["name"].upper(), password=PASSWORD)
    assert again.id == eve.id
    listed = again.get("/sessions").json()["items"]
    assert [(each["label"], each["current"]) for each in listed] == [("a laptop", False), ("a laptop", True)]
    assert "hash" not in str(listed)
    fresh = sign("/sessions/refresh", refresh_token=again.answer["refresh_token"])
    assert fresh.get("/me").json()["id"] == eve.id
    assert [room["name"] for room in eve.get("/rooms?scope=mine").json()["items"]] == ["lobby"]


def test_the_same_answer_for_a_wrong_name_and_a_wrong_password(ann: Person, eve: Signed) -> None:
    name = eve.get("/me").json()["name"]
    answers = [
        ann.http.post("/api/v1/sessions", json={"name": each, "password": "wrong horse"})
        for each in (name, a_name())
    ]
    bodies = [answer.json() | {"request_id": ""} for answer in answers]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert bodies[0] == bodies[1]
    assert bodies[0]["code"] == "wrong_password"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/accounts", {"name": "x", "password": PASSWORD}, 422, "invalid_field"),
        ("POST", "/accounts", {"name": "me", "password": PASSWORD}, 422, "invalid_field"),
        ("POST", "/accounts", {"name": "ann-a", "password": "short"}, 422, "invalid_field"),
        ("POST", "/accounts", {"name": "ann-a"}, 422, "invalid_field"),
        ("POST", "/accounts", {"name": 7, "password": PASSWORD}, 422, "invalid_field"),
        ("POST", "/accounts", {"name": "a\x00b", "password": PASSWORD}, 422, "invalid_field"),
        (
            "POST",
            "/accounts",
            {"name": "ann-b", "password": PASSWORD, "display_name": "\u202e"},
            422,
            "invalid_field",
        ),
        ("POST", "/sessions", {"name": "a\x00b", "password": "x"}, 401, "wrong_password"),
        ("POST", "/sessions", {"name": "x", "password": "\x00"}, 401, "wrong_password"),
        ("POST", "/sessions/refresh", {"refresh_token": "x"}, 401, "token_invalid"),
        ("POST", "/sessions/refresh", {}, 422, "invalid_field"),
        ("PATCH", "/me", {"display_name": " "}, 422, "invalid_field"),
        ("PUT", "/me/password", {"password": "wrong", "new_password": PASSWORD}, 401, "wrong_password"),
        ("DELETE", f"/sessions/{uuid4()}", None, 404, "session_not_found"),
        ("DELETE", "/sessions/a%00b", None, 404, "session_not_found"),
        ("GET", "/users?query=", None, 422, "invalid_field"),
        ("GET", "/users?query=%00", None, 422, "invalid_field"),
    ],
)
def test_bad_input_changes_nothing(
    eve: Signed, method: str, path: str, body: dict[str, Any] | None, status: int, code: str
) -> None:
    answer = eve.request(method, path, json=body) if body is not None else eve.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert eve.get("/me").status_code == 200


def test_a_name_can_be_taken_once(eve: Signed) -> None:
    name = eve.get("/me").json()["name"]
    answer = eve.post("/accounts", json={"name": name, "password": PASSWORD})
    assert (answer.status_code, answer.json()["code"]) == (409, "name_taken")
    walked = eve.http.post("/messages", json={"user": name, "room": "lobby", "text": "it is me"})
    assert (walked.status_code, walked.json()["code"]) == (409, "name_taken")


def test_people_are_found_and_shown_under_their_new_name(ann: Person, eve: Signed) -> None:
    unique = uuid4().hex[:8]
    changed = eve.patch("/me", json={"display_name": f"Zoë {unique}"}).json()
    assert changed["display_name"] == f"Zoë {unique}"
    found = ann.get("/users", params={"query": f"zoë {unique}"}).json()
    assert [user["id"] for user in found["items"]] == [eve.id]
    assert found["next"] is None
    assert eve.post("/rooms/lobby/messages", json={"text": "hi"}).json()["author_name"] == f"Zoë {unique}"


async def test_a_session_that_ends_closes_its_connections_and_no_others(sign: Sign, eve: Signed) -> None:
    name = eve.get("/me").json()["name"]
    phone = sign("/sessions", name=name, password=PASSWORD)
    async with socket(eve) as at_laptop, socket(phone) as at_phone:
        changed = eve.put("/me/password", json={"password": PASSWORD, "new_password": "another horse"})
        assert changed.status_code == 204
        async with asyncio.timeout(5):
            event = await at_phone.next()
            while event.get("event") != "session.ended":
                event = await at_phone.next()
            with pytest.raises(ConnectionClosed) as closed:
                await at_phone.next()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == Close.SESSION_ENDED
        assert (await at_laptop.ask(op="profile.see"))["ok"]["user"]["id"] == eve.id
    assert phone.get("/me").json()["code"] == "token_invalid"
    refresh = phone.post("/sessions/refresh", json={"refresh_token": phone.answer["refresh_token"]})
    assert refresh.json()["code"] == "token_invalid"
    assert eve.delete("/sessions").status_code == 204
    assert eve.get("/me").json()["code"] == "token_invalid"


async def test_all_of_it_over_a_websocket(sign: Sign, eve: Signed) -> None:
    name = eve.get("/me").json()["name"]
    phone = sign("/sessions", name=name, password=PASSWORD)
    async with socket(eve) as client:
        changed = await client.ask(op="profile.change", display_name="Eve of old")
        assert changed["ok"]["user"]["display_name"] == "Eve of old"
        assert (await client.ask(op="user.see", user=name))["ok"] == changed["ok"] | {
            "user": changed["ok"]["user"] | {"online": True}
        }
        found = (await client.ask(op="user.find", query=name))["ok"]["items"]
        assert [user["id"] for user in found] == [eve.id]
        wrong = await client.ask(op="password.change", password="wrong", new_password="another horse")
        assert wrong["error"]["code"] == "wrong_password"
        listed = (await client.ask(op="session.list"))["ok"]["items"]
        other = next(each["id"] for each in listed if not each["current"])
        assert (await client.ask(op="session.end", session=other))["ok"] == {}
        assert (await client.ask(op="session.end", session=other))["error"]["code"] == "session_not_found"
        assert phone.get("/me").status_code == 401
        tablet = sign("/sessions", name=name, password=PASSWORD)
        assert (await client.ask(op="session.end", everywhere=True))["ok"] == {}
        assert (await client.next())["event"] == "session.ended"
    for person in (eve, tablet):
        assert person.get("/me").json()["code"] == "token_invalid"


def test_no_password_or_token_is_in_the_log(server: ServerProcess, eve: Signed) -> None:
    log = server.log.read_text()
    for secret in (PASSWORD, eve.token, eve.answer["refresh_token"]):
        assert secret not in log
