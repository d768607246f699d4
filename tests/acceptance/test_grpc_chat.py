"""gRPC chat: limits and port from settings, sessions by display name that end, chats with a cap, an end or
only one who writes, a list with all its columns, pages, unread, stats, stores behind one switch."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests import backends
from tests.acceptance.conftest import Member
from tests.redis_servers import redis_server
from tests.servers import ServerProcess, until
from tests.servers import server as running
from tests.web.conftest import Person, socket

Guest = Callable[[ServerProcess, str], Person]


@pytest.fixture
def guest() -> Iterator[Guest]:
    """Somebody with only a display name."""
    with ExitStack() as stack:

        def come_in(server: ServerProcess, name: str) -> Person:
            person = Person(server, name)
            stack.callback(person.http.close)
            return person

        yield come_in


# Sessions and limits


@pytest.mark.slow
async def test_a_session_by_display_name_ends_some_time_after_the_last_message(
    tmp_path: Path, guest: Guest
) -> None:
    async with running(tmp_path, store="memory://", session_ttl=10) as server:
        quiet, talking, owning = (guest(server, name) for name in ("Ann", "Ann", "Bob"))
        assert len({quiet.id, talking.id}) == 2
        owning.post("/rooms", json={"name": "kitchen"}).raise_for_status()
        gone: list[Person] = []

        def go_on() -> bool:
            talking.post("/rooms/lobby/messages", json={"text": "still here"}).raise_for_status()
            gone[:] = [each for each in (quiet, talking, owning) if each.get("/me").status_code == 401]
            return quiet in gone

        await until(go_on, 20, "the end of a session in which nothing is said")
        assert gone == [quiet]
        assert quiet.get("/me").json()["code"] in ("token_expired", "token_invalid")


async def test_the_port_and_the_limits_come_from_the_settings(tmp_path: Path, guest: Guest) -> None:
    async with running(tmp_path, store="memory://", max_users=2, max_rooms=2) as server:
        assert server.url.endswith(f":{server.port}")
        ann = guest(server, "Ann")
        guest(server, "Bob")
        refused = httpx2.post(f"{server.url}/api/v1/sessions/guest", json={"display_name": "Cleo"})
        assert (refused.status_code, refused.json()["code"]) == (409, "limit_reached")
        ann.post("/rooms", json={"name": "kitchen"}).raise_for_status()
        refused = ann.post("/rooms", json={"name": "attic"})
        assert (refused.status_code, refused.json()["code"]) == (409, "limit_reached")


# Chats


async def test_a_chat_keeps_so_many_messages(room: str, ann: Member) -> None:
    ann.post("/rooms", json={"name": room, "history_limit": 5}).raise_for_status()
    for number in range(12):
        ann.post(f"/rooms/{room}/messages", json={"text": str(number)}).raise_for_status()
    page = ann.get(f"/rooms/{room}/messages").json()
    assert [(each["seq"], each["text"]) for each in page["items"]] == [(n + 1, str(n)) for n in range(7, 12)]
    assert page["next"] is None
    assert ann.get(f"/rooms/{room}").json()["message_count"] == 5


async def test_in_a_read_only_chat_its_maker_writes(room: str, ann: Member, bob: Member) -> None:
    ann.post("/rooms", json={"name": room, "read_only": True}).raise_for_status()
    bob.put(f"/rooms/{room}/members/me").raise_for_status()
    assert ann.post(f"/rooms/{room}/messages", json={"text": "hear, hear"}).status_code == 201
    refused = bob.post(f"/rooms/{room}/messages", json={"text": "may I?"})
    assert (refused.status_code, refused.json()["code"]) == (403, "read_only_room")
    assert bob.get(f"/rooms/{room}/unread").json()["items"][0]["text"] == "hear, hear"


async def test_a_chat_ends_by_itself_and_says_so(room: str, ann: Member, bob: Member) -> None:
    made = ann.post("/rooms", json={"name": room, "ttl_seconds": 1}).json()
    bob.put(f"/rooms/{room}/members/me").raise_for_status()
    async with socket(bob) as bobs:
        while (told := await bobs.next()).get("event") != "room.closed":
            pass
    assert told["room_id"] == made["id"]
    refused = ann.post(f"/rooms/{room}/messages", json={"text": "too late"})
    assert (refused.status_code, refused.json()["code"]) == (404, "room_not_found")


async def test_the_list_has_all_its_columns(room: str, ann: Member, bob: Member) -> None:
    wanted = {"name": room, "title": "The kitchen", "history_limit": 9, "ttl_seconds": 600, "capacity": 7}
    made = ann.post("/rooms", json=wanted).json()
    bob.put(f"/rooms/{room}/members/me").raise_for_status()
    for text in ("one", "two", "three"):
        last = ann.post(f"/rooms/{room}/messages", json={"text": text}).json()
    async with socket(bob):
        listed = ann.get("/rooms", params={"scope": "public", "limit": 200}).json()["items"]
        mine = bob.get("/rooms", params={"scope": "mine"}).json()["items"]
    [row] = [each for each in listed if each["id"] == made["id"]]
    columns = {
        "name": room,
        "title": "The kitchen",
        "kind": "public",
        "created_by": ann.id,
        "created_at": made["created_at"],
        "expires_at": made["expires_at"],
        "closed_at": None,
        "capacity": 7,
        "history_limit": 9,
        "read_only": False,
        "close_when_empty": False,
        "member_count": 2,
        "online_count": 1,
        "message_count": 3,
        "last_seq": 3,
        "last_message_at": last["sent_at"],
    }
    assert {name: row[name] for name in columns} == columns
    [row] = [each for each in mine if each["id"] == made["id"]]
    assert (row["role"], row["read_seq"], row["unread"]) == ("member", 0, 3)


async def test_a_chat_is_read_page_by_page_and_what_is_unread_at_once(
    room: str, ann: Member, bob: Member
) -> None:
    ann.post("/rooms", json={"name": room}).raise_for_status()
    bob.put(f"/rooms/{room}/members/me").raise_for_status()
    for number in range(1, 26):
        ann.post(f"/rooms/{room}/messages", json={"text": str(number)}).raise_for_status()
    read: list[int] = []
    before: dict[str, str] = {}
    while True:
        page = bob.get(f"/rooms/{room}/messages", params={"limit": 10, **before}).json()
        read = [each["seq"] for each in page["items"]] + read
        if page["next"] is None:
            break
        before = {"before": page["next"]}
    assert read == list(range(1, 26))
    bob.put(f"/rooms/{room}/read", json={"seq": 20}).raise_for_status()
    unread = bob.get(f"/rooms/{room}/unread", params={"mark": "true"}).json()["items"]
    assert [each["seq"] for each in unread] == [21, 22, 23, 24, 25]
    assert bob.get(f"/rooms/{room}/unread").json()["items"] == []


# The server


def memory(folder: Path, ending: ExitStack) -> str:
    return "memory://"


def sqlite(folder: Path, ending: ExitStack) -> str:
    return f"sqlite:///{folder / 'parley.db'}"


def postgresql(folder: Path, ending: ExitStack) -> str:
    server = backends.postgres()
    return server.address(server.new())


def redis(folder: Path, ending: ExitStack) -> str:
    return ending.enter_context(redis_server()).url


def migrate(folder: Path, url: str) -> str:
    """What `parley migrate` says."""
    command = [sys.executable, "-m", "parley", "migrate", "--store", url]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "store",
    [
        memory,
        sqlite,
        pytest.param(postgresql, marks=pytest.mark.servers),
        pytest.param(redis, marks=pytest.mark.servers),
    ],
)
async def test_every_store_is_behind_one_switch(
    tmp_path: Path,
    store: Callable[[Path, ExitStack], str],
    guest: Guest,
) -> None:
    with ExitStack() as ending:
        url = store(tmp_path, ending)
        said = await asyncio.to_thread(migrate, tmp_path, url)
        assert ("its tables are made" in said) == (store in (sqlite, postgresql))
        async with running(tmp_path, store=url) as server:
            ann = guest(server, "Ann")
            ann.post("/rooms", json={"name": "kitchen"}).raise_for_status()
            for number in range(3):
                ann.post("/rooms/kitchen/messages", json={"text": str(number)}).raise_for_status()
            page = ann.get("/rooms/kitchen/messages").json()["items"]
            assert [(each["seq"], each["text"]) for each in page] == [(1, "0"), (2, "1"), (3, "2")]
            stats = ann.get("/stats").json()
            assert (stats["guests"], stats["messages"], stats["messages_last_hour"]) == (1, 3, 3)
            assert (stats["rooms"], stats["online"]) == (2, 0)


async def test_a_stop_finishes_what_was_begun_and_says_goodbye(tmp_path: Path, guest: Guest) -> None:
    async with running(tmp_path) as server:
        assert httpx2.get(f"{server.url}/healthz").json() == {"status": "alive"}
        assert httpx2.get(f"{server.url}/readyz").json()["status"] == "ready"
        ann = guest(server, "Ann")
        async with connect(server.ws, proxy=None) as connection:
            hello = {"op": "hello", "ref": "hello", "token": ann.token}
            await connection.send(json.dumps(hello))
            await connection.recv()
            sends = [
                json.dumps({"op": "message.send", "ref": number, "room": "lobby", "text": str(number)})
                for number in range(40)
            ]
            await connection.send("\n".join(sends))
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            lines: list[str] = []
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    lines += str(await connection.recv()).split("\n")
        assert await stopping == 0
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4001
        answers = [json.loads(line) for line in lines]
        stored = {each["ok"]["message"]["text"] for each in answers if "ok" in each}
        await asyncio.to_thread(server.start)
        kept = {each["text"] for each in ann.get("/rooms/lobby/messages").json()["items"]}
        assert stored == kept
