"""Event-based chat: post over REST, subscribe over a WebSocket, kept in SQLite, `parley chat john default`;
and what it had left undone: sign-in, checks of the input, errors that say what is wrong."""

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect

from tests.acceptance.conftest import Member
from tests.client.conftest import OpenConsole
from tests.servers import ServerProcess
from tests.servers import server as running


def post(server: ServerProcess, **body: Any) -> httpx2.Response:
    return httpx2.post(f"{server.url}/messages", json={"user": "john", "room": "default", **body})


async def test_what_is_posted_is_heard_by_all_who_have_subscribed(server: ServerProcess) -> None:
    post(server, room="subscribed", text="before").raise_for_status()
    url = f"{server.ws}/updates/subscribed"
    async with connect(url, proxy=None) as one, connect(url, proxy=None) as other:
        for each in (one, other):
            assert json.loads(str(await each.recv()))["text"] == "before"
        posted = await asyncio.to_thread(post, server, room="subscribed", text="hello")
        assert posted.status_code == 201
        for each in (one, other):
            assert json.loads(str(await each.recv())) == posted.json()
        await one.send("hello to you")
        answer = json.loads(str(await other.recv()))
    assert (answer["author_name"], answer["text"], answer["seq"]) == ("guest", "hello to you", 3)


async def test_john_and_mary_talk_in_default(server: ServerProcess, console: OpenConsole) -> None:
    john = await console("john", "default", server.url)
    await john.write("hello")
    assert await john.read() == ["john: hello"]
    mary = await console("mary", "default", server.url)
    assert await mary.read() == ["john: hello"]
    await mary.write("hello john")
    for each in (john, mary):
        assert await each.read() == ["mary: hello john"]
    (await asyncio.to_thread(post, server, text="and from curl")).raise_for_status()
    for each in (john, mary):
        assert await each.read() == ["john: and from curl"]
    assert await john.end() == (0, [], [])
    assert await mary.end() == (0, [], [])


async def test_everything_is_in_sqlite_and_there_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        for text in ("one", "two", "three"):
            (await asyncio.to_thread(post, server, text=text)).raise_for_status()
        assert await asyncio.to_thread(server.stop) == 0
        with sqlite3.connect(tmp_path / "parley.db") as database:
            [(kept,)] = database.execute("SELECT count(*) FROM messages").fetchall()
        database.close()
        assert kept == 3
        await asyncio.to_thread(server.start)
        async with connect(f"{server.ws}/updates/default", proxy=None) as feed:
            lines = str(await feed.recv()).split("\n")
        assert [json.loads(line)["text"] for line in lines] == ["one", "two", "three"]
        assert (await asyncio.to_thread(post, server, text="four")).json()["seq"] == 4


# What was left undone


async def test_nobody_speaks_in_the_name_of_an_account(server: ServerProcess, ann: Member) -> None:
    refused = post(server, user=ann.name, text="I am ann, really")
    assert (refused.status_code, refused.json()["code"]) == (409, "name_taken")
    async with connect(f"{server.ws}/updates/default?name={ann.name}", proxy=None) as feed:
        await feed.send("I am ann, really")
        told: list[dict[str, Any]] = []
        while not any("error" in each for each in told):
            told += [json.loads(line) for line in str(await feed.recv()).split("\n")]
        assert told[-1]["error"]["code"] == "name_taken"


def test_without_a_token_there_is_no_way_in(server: ServerProcess) -> None:
    with httpx2.Client(base_url=f"{server.url}/api/v1") as http:
        for headers in ({}, {"authorization": "Bearer made-up"}, {"authorization": "Basic am9objpqb2hu"}):
            for method, path in (
                ("GET", "/me"),
                ("GET", "/rooms"),
                ("GET", "/rooms/lobby/messages"),
                ("POST", "/rooms"),
                ("DELETE", "/rooms/lobby"),
            ):
                refused = http.request(method, path, headers=headers, json={} if method == "POST" else None)
                assert refused.status_code == 401
                assert refused.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "body"),
        (b"{", "JSON"),
        (b"[]", "body"),
        (b'{"room": "default", "text": "hi"}', "user"),
        (b'{"user": "john", "room": "default"}', "text"),
        (b'{"user": "john", "room": "default", "text": 7}', "text"),
        (b'{"user": "john", "room": "default", "text": " "}', "text"),
        (b'{"user": "john", "room": "a b", "text": "hi"}', "name"),
        (b'{"user": "\\u202ejohn", "room": "default", "text": "hi"}', "user"),
        (b'{"user": "john", "room": "default", "text": "hi", "id": "7"}', "id"),
        (b'{"user": "john", "room": "default", "text": "\\ud800"}', "text"),
        (b'{"user": "john", "room": "default", "text": "\xff"}', "JSON"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(
    server: ServerProcess, body: bytes, named: str
) -> None:
    typed = {"content-type": "application/json"}
    refused = httpx2.post(f"{server.url}/messages", content=body, headers=typed)
    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
    problem = refused.json()
    assert set(problem) == {"type", "title", "status", "detail", "code", "request_id"}
    assert named in problem["detail"]
    assert problem["request_id"] == refused.headers["x-request-id"]


async def test_a_client_that_makes_no_sense_disturbs_nobody(server: ServerProcess) -> None:
    url = f"{server.ws}/updates/undisturbed"
    async with connect(url, proxy=None) as listening, connect(url, proxy=None) as noisy:
        await noisy.send(b"\x00\x01\x02")
        async with connect(server.ws, proxy=None) as stranger:
            await stranger.send("}{")
            assert json.loads(str(await stranger.recv()))["error"]["code"] == "invalid_json"
        (await asyncio.to_thread(post, server, room="undisturbed", text="hello")).raise_for_status()
        assert json.loads(str(await listening.recv()))["text"] == "hello"
    assert "Traceback" not in server.log.read_text()
