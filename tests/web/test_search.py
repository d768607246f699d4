"""Searching and counting, over HTTP and WebSocket alike."""

from typing import Any
from uuid import uuid4

import pytest

from tests.servers import ServerProcess
from tests.web.conftest import Person, socket


def say(person: Person, room: str, text: str) -> dict[str, Any]:
    person.put(f"/rooms/{room}/members/me")
    answer = person.post(f"/rooms/{room}/messages", json={"text": text})
    assert answer.status_code == 201
    return dict(answer.json())


@pytest.fixture
def attic(ann: Person) -> str:
    """A new room with 25 messages in it."""
    name = f"attic-{uuid4().hex[:8]}"
    ann.post("/rooms", json={"name": name})
    for number in range(25):
        say(ann, name, f"Box {number} of odds and ends")
    return name


def test_messages_are_found_page_by_page(ann: Person, attic: str) -> None:
    found: list[str] = []
    cursor = None
    while True:
        query: dict[str, Any] = {"query": "odd BOX", "room": attic, "limit": 10}
        page = ann.get("/search", params=query | ({"cursor": cursor} if cursor else {})).json()
        assert page["complete"] is True
        found += [message["text"] for message in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert found == [f"Box {number} of odds and ends" for number in reversed(range(25))]


async def test_the_answer_over_websocket_is_the_same(server: ServerProcess, ann: Person, attic: str) -> None:
    query = {"query": "box 7", "room": attic, "limit": 5}
    over_http = ann.get("/search", params=query).json()
    assert [message["text"] for message in over_http["items"]] == ["Box 7 of odds and ends"]
    async with socket(ann) as client:
        assert (await client.ask(op="message.search", **query))["ok"] == over_http
        stats = (await client.ask(op="server.stats"))["ok"]
        assert stats["online"] >= 1
        assert set(stats) == set(ann.get("/stats").json())


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({}, 422, "invalid_field"),
        ({"query": ""}, 422, "invalid_field"),
        ({"query": " ?!* "}, 422, "invalid_field"),
        ({"query": " ".join(map(str, range(17)))}, 422, "invalid_field"),
        ({"query": "x" * 1001}, 422, "invalid_field"),
        ({"query": "x", "limit": 0}, 422, "invalid_field"),
        ({"query": "x", "cursor": "7"}, 422, "invalid_field"),
        ({"query": "x", "cursor": "2026-11-20T12:00:00.000Z_x_1"}, 422, "invalid_field"),
        ({"query": "x", "cursor": f"2026-11-20T12:00:00.000Z_{uuid4()}_{'9' * 30}"}, 422, "invalid_field"),
        ({"query": "x", "cursor": f"2026-19-39T12:00:00.000Z_{uuid4()}_1"}, 422, "invalid_field"),
        ({"query": "x", "room": "nowhere"}, 404, "room_not_found"),
        ({"query": "x", "room": "a\x00b"}, 404, "room_not_found"),
    ],
)
def test_a_bad_search_is_refused(ann: Person, query: dict[str, Any], status: int, code: str) -> None:
    answer = ann.get("/search", params=query)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_messages_and_rooms_are_counted(ann: Person) -> None:
    stats = ann.get("/stats").json()
    assert set(stats) == {"users", "guests", "rooms", "messages", "messages_last_hour", "online"}
    assert stats["guests"] >= 1
    assert stats["rooms"] >= 1


def test_a_room_closes_when_its_time_is_up(ann: Person) -> None:
    name = f"short-{uuid4().hex[:8]}"
    room = ann.post("/rooms", json={"name": name, "ttl_seconds": 3600, "history_limit": 2}).json()
    assert room["expires_at"] > room["created_at"]
    for text in ("one", "two", "three"):
        say(ann, name, text)
    page = ann.get(f"/rooms/{name}/messages").json()["items"]
    assert [message["text"] for message in page] == ["two", "three"]
    for field, value in (("ttl_seconds", 0), ("ttl_seconds", 10**9), ("history_limit", 0)):
        answer = ann.post("/rooms", json={"name": f"{name}-{field}", field: value})
        assert answer.json()["code"] == "invalid_field"
