"""Bad input gets a clear typed error or the right close code, changes nothing and harms nobody else."""

import json
from typing import Any
from uuid import uuid4

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from parley.realtime.protocol import Close
from tests.servers import ServerProcess
from tests.web.conftest import Connection, Person, connect, socket

DEEP = "[" * 100_000
SEND = "/rooms/lobby/messages"

HTTP: list[tuple[str, str, str, bytes | str, int, str]] = [
    ("broken JSON", "POST", SEND, '{"text": ', 422, "invalid_json"),
    ("no body", "POST", SEND, "", 422, "invalid_field"),
    ("a number as text", "POST", SEND, '{"text": 5}', 422, "invalid_field"),
    ("NaN as text", "POST", SEND, '{"text": NaN}', 422, "invalid_field"),
    ("a list as text", "POST", SEND, '{"text": ["hi"]}', 422, "invalid_field"),
    ("no text", "POST", SEND, "{}", 422, "invalid_field"),
    ("an empty text", "POST", SEND, '{"text": ""}', 422, "empty_message"),
    ("a blank text", "POST", SEND, '{"text": " \\n\\t "}', 422, "empty_message"),
    ("a lone surrogate", "POST", SEND, '{"text": "\\ud800"}', 422, "invalid_field"),
    ("U+0000", "POST", SEND, '{"text": "a\\u0000b"}', 422, "invalid_field"),
    ("a text that is too long", "POST", SEND, json.dumps({"text": "x" * 16_385}), 422, "message_too_long"),
    ("too long in bytes", "POST", SEND, json.dumps({"text": "ä" * 8_193}), 422, "message_too_long"),
    ("1 MiB of text", "POST", SEND, json.dumps({"text": "x" * 2**20}), 422, "body_too_large"),
    ("an id that is none", "POST", SEND, '{"text": "hi", "id": "7"}', 422, "invalid_field"),
    ("an id of the wrong type", "POST", SEND, '{"text": "hi", "id": 7}', 422, "invalid_field"),
    (
        "an answer to nothing",
        "POST",
        SEND,
        json.dumps({"text": "x", "reply_to": str(uuid4())}),
        404,
        "message_not_found",
    ),
    ("deep nesting", "POST", SEND, DEEP, 422, "invalid_json"),
    ("deep nesting in a field", "POST", SEND, '{"text": ' + DEEP + "}", 422, "invalid_json"),
    ("invalid UTF-8", "POST", SEND, b'{"text": "\xff\xfe"}', 422, "invalid_json"),
    ("a list as body", "POST", SEND, "[1]", 422, "invalid_field"),
    ("no such room", "POST", "/rooms/nowhere/messages", '{"text": "hi"}', 404, "room_not_found"),
    ("no such room id", "POST", f"/rooms/{uuid4()}/messages", '{"text": "hi"}', 404, "room_not_found"),
    ("a room with U+0000", "GET", "/rooms/a%00b", "", 404, "room_not_found"),
    ("a room of invalid UTF-8", "GET", "/rooms/%ff%fe", "", 404, "room_not_found"),
    ("a long room name", "GET", "/rooms/" + "x" * 300, "", 422, "invalid_field"),
    ("no such message", "PATCH", f"{SEND}/{uuid4()}", '{"text": "hi"}', 404, "message_not_found"),
    ("no message id", "DELETE", f"{SEND}/7", "", 404, "message_not_found"),
    ("a reaction of control characters", "PUT", f"{SEND}/{uuid4()}/reactions/%07", "", 422, "invalid_field"),
    ("a seq of 2^63", "GET", f"{SEND}?before=9223372036854775808", "", 422, "invalid_field"),
    ("a seq below zero", "GET", f"{SEND}?after=-1", "", 422, "invalid_field"),
    ("a seq that is a word", "GET", f"{SEND}?after=last", "", 422, "invalid_field"),
    ("a limit of nothing", "GET", f"{SEND}?limit=0", "", 422, "invalid_field"),
    ("a limit above all", "GET", f"{SEND}?limit=201", "", 422, "invalid_field"),
    ("since when?", "GET", "/rooms/lobby/changes", "", 422, "invalid_field"),
    ("a read mark of 2^63", "PUT", "/rooms/lobby/read", '{"seq": 9223372036854775808}', 422, "invalid_field"),
    ("a read mark of true", "PUT", "/rooms/lobby/read", '{"seq": true}', 422, "invalid_field"),
    ("a read mark of 1.5", "PUT", "/rooms/lobby/read", '{"seq": 1.5}', 422, "invalid_field"),
    ("a room without any name", "POST", "/rooms", "{}", 422, "invalid_field"),
    ("a room named by spaces", "POST", "/rooms", '{"name": "  "}', 422, "invalid_field"),
    ("a room named with a slash", "POST", "/rooms", '{"name": "a/b"}', 422, "invalid_field"),
    ("a room named like an id", "POST", "/rooms", json.dumps({"name": str(uuid4())}), 422, "invalid_field"),
    ("a room named backwards", "POST", "/rooms", '{"name": "a\\u202eb"}', 422, "invalid_field"),
    ("a guest without a name", "POST", "/sessions/guest", '{"display_name": ""}', 422, "invalid_field"),
    (
        "a guest with a surrogate",
        "POST",
        "/sessions/guest",
        '{"display_name": "\\udfff"}',
        422,
        "invalid_field",
    ),
    (
        "a guest with a long name",
        "POST",
        "/sessions/guest",
        json.dumps({"display_name": "x" * 65}),
        422,
        "invalid_field",
    ),
    ("a cursor of one's own", "GET", "/rooms?cursor=1", "", 422, "invalid_field"),
    ("a scope of one's own", "GET", "/rooms?scope=all", "", 422, "invalid_field"),
    ("no such path", "GET", "/nothing", "", 404, "path_not_found"),
    ("no such method", "PUT", "/me", "", 405, "method_not_allowed"),
]


def state(person: Person) -> tuple[Any, ...]:
    lobby = person.get("/rooms/lobby").json()
    return lobby["revision"], lobby["last_seq"], person.get("/rooms/lobby").json()["read_seq"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"), [row[1:] for row in HTTP], ids=[row[0] for row in HTTP]
)
def test_over_http(ann: Person, method: str, path: str, body: bytes | str, status: int, code: str) -> None:
    before = state(ann)
    content = body.encode() if isinstance(body, str) else body
    answer = ann.request(method, path, content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert state(ann) == before


def test_a_body_without_a_length_is_bounded_too(ann: Person) -> None:
    endless = (b'{"text": "' if number == 0 else b"x" * 65_536 for number in range(64))
    answer = ann.post(SEND, content=endless, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "body_too_large")


WS: list[tuple[str, str, object, str]] = [
    ("broken JSON", '{"op": "message.send"', None, "invalid_json"),
    ("no JSON", "hello", None, "invalid_json"),
    ("a list", "[1, 2]", None, "invalid_field"),
    ("a number", "7", None, "invalid_field"),
    ("no op", '{"ref": 1}', 1, "invalid_field"),
    ("an unknown op", '{"op": "room.explode", "ref": 1}', 1, "unknown_op"),
    ("an op of the wrong type", '{"op": 5, "ref": 1}', 1, "invalid_field"),
    ("a ref of the wrong type", '{"op": "profile.see", "ref": [1]}', None, "invalid_field"),
    (
        "a text of the wrong type",
        '{"op": "message.send", "ref": "a", "room": "lobby", "text": 5}',
        "a",
        "invalid_field",
    ),
    ("NaN", '{"op": "read.mark", "ref": 1, "room": "lobby", "seq": NaN}', None, "invalid_json"),
    (
        "2^63",
        '{"op": "read.mark", "ref": 1, "room": "lobby", "seq": 9223372036854775808}',
        1,
        "invalid_field",
    ),
    (
        "2^64",
        '{"op": "read.mark", "ref": 1, "room": "lobby", "seq": 18446744073709551616}',
        1,
        "invalid_field",
    ),
    ("below zero", '{"op": "message.page", "ref": 1, "room": "lobby", "before": -1}', 1, "invalid_field"),
    (
        "a lone surrogate",
        '{"op": "message.send", "ref": 1, "room": "lobby", "text": "\\ud800"}',
        None,
        "invalid_json",
    ),
    ("U+0000", '{"op": "message.send", "ref": 1, "room": "lobby", "text": "a\\u0000"}', 1, "invalid_field"),
    ("an empty text", '{"op": "message.send", "ref": 1, "room": "lobby", "text": ""}', 1, "empty_message"),
    (
        "a long text",
        json.dumps({"op": "message.send", "ref": 1, "room": "lobby", "text": "x" * 16_385}),
        1,
        "message_too_long",
    ),
    (
        "a bad id",
        '{"op": "message.send", "ref": 1, "room": "lobby", "text": "x", "id": "7"}',
        1,
        "invalid_field",
    ),
    ("no room", '{"op": "message.send", "ref": 1, "text": "x"}', 1, "invalid_field"),
    ("no such room", '{"op": "message.send", "ref": 1, "room": "nowhere", "text": "x"}', 1, "room_not_found"),
    ("a room with U+0000", '{"op": "room.see", "ref": 1, "room": "a\\u0000"}', 1, "room_not_found"),
    ("deep nesting", DEEP, None, "invalid_field"),
    ("deep nesting in a field", '{"op": "profile.see", "ref": 1, "more": ' + DEEP, None, "invalid_json"),
    ("too many commands", "\n".join(['{"op": "profile.see"}'] * 257), None, "invalid_field"),
]


@pytest.mark.parametrize(("frame", "ref", "code"), [row[1:] for row in WS], ids=[row[0] for row in WS])
async def test_over_the_socket(ann: Person, frame: str, ref: object, code: str) -> None:
    before = state(ann)
    async with socket(ann) as anns:
        await anns.connection.send_wrong(frame)
        answer = await anns.next()
        assert answer.get("error", {}).get("code") == code, answer
        assert answer["ref"] == ref
        assert "ok" in await anns.ask(op="profile.see")
    assert state(ann) == before


async def closed_with(connection: Connection) -> int | None:
    try:
        while True:
            await connection.recv()
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None


async def raw(connection: Connection, *frames: Frame) -> None:
    for frame in frames:
        connection.transport.write(frame.serialize(mask=True))


CLOSES: list[tuple[str, list[Frame], int]] = [
    ("a binary frame", [Frame(Opcode.BINARY, b"\x00")], Close.UNSUPPORTED_DATA),
    ("invalid UTF-8", [Frame(Opcode.TEXT, b"\xff\xfe")], Close.INVALID_UTF8),
    (
        "invalid UTF-8 over two frames",
        [Frame(Opcode.TEXT, b"\xe2\x82", fin=False), Frame(Opcode.CONT, b"a")],
        Close.INVALID_UTF8,
    ),
    ("a frame over the limit", [Frame(Opcode.TEXT, b" " * (256 * 1024 + 1))], Close.TOO_BIG),
    (
        "fragments over the limit",
        [Frame(Opcode.TEXT, b" ", fin=False), *[Frame(Opcode.CONT, b" " * 65_536, fin=False)] * 5],
        Close.TOO_BIG,
    ),
    ("an answer without a question", [Frame(Opcode.CONT, b"x")], 1002),
]


@pytest.mark.parametrize(("frames", "code"), [row[1:] for row in CLOSES], ids=[row[0] for row in CLOSES])
async def test_a_broken_frame_ends_its_connection_only(
    ann: Person, bob: Person, frames: list[Frame], code: int
) -> None:
    async with socket(bob) as bobs, socket(ann) as anns:
        await raw(anns.connection, *frames)
        assert await closed_with(anns.connection) == code
        assert "ok" in await bobs.ask(op="message.send", room="lobby", text="unharmed")


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ('{"op": "profile.see", "ref": 1}', Close.BAD_HELLO),
        ('{"op": "nonsense"}', Close.BAD_HELLO),
        ("nonsense", Close.BAD_HELLO),
        ('{"op": "hello", "ref": 1}', Close.UNAUTHENTICATED),
        ('{"op": "hello", "ref": 1, "token": "nonsense"}', Close.UNAUTHENTICATED),
        ('{"op": "hello", "ref": 1, "token": "x", "since": {"a": -1}}', Close.BAD_HELLO),
        ('{"op": "hello", "ref": 1, "token": "x", "since": [1]}', Close.BAD_HELLO),
    ],
)
async def test_without_a_good_hello_the_connection_ends(server: ServerProcess, first: str, code: int) -> None:
    async with connect(server.ws) as connection:
        await connection.send_wrong(first)
        assert await closed_with(connection) == code


async def test_a_token_in_the_header_serves_as_well(ann: Person) -> None:
    headers = {"authorization": f"Bearer {ann.token}"}
    async with connect(ann.server.ws, additional_headers=headers) as connection:
        await connection.send('{"op": "hello", "ref": 1}')
        answer = json.loads(str(await connection.recv()))
        assert answer["ok"]["user"]["id"] == ann.id


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://127.0.0.1.evil.example", "http://127.0.0.1:1", "file://", ""],
)
async def test_pages_of_other_sites_are_refused(server: ServerProcess, origin: str) -> None:
    for path in (server.ws, f"{server.ws}/updates/lobby"):
        with pytest.raises(Exception, match="HTTP 403"):
            async with connect(path, additional_headers={"origin": origin}):
                pass


async def test_our_own_pages_are_let_in(server: ServerProcess) -> None:
    async with connect(server.ws, origin=server.url):
        pass
