"""The AsyncAPI document is a valid one, tells of every operation and event, and can be broken."""

import json
import re
from typing import Any, get_args

import httpx2
import jsonschema_rs
import pytest
from websockets.asyncio.server import ServerConnection, serve

from parley import errors, events
from parley.realtime.operations import OPS
from parley.realtime.protocol import Close
from parley.web import asyncapi
from tests.frames import FEED, Conversation, NotAsDocumented
from tests.servers import ServerProcess
from tests.web.asyncapi_shape import DOCUMENT
from tests.web.conftest import connect

EVENTS = {str(event.__struct_config__.tag) for event in get_args(events.Event)}
MESSAGE = {
    "id": "0", "room_id": "0", "seq": 1, "revision": 1, "author_id": "0", "author_name": "ann",
    "kind": "text", "text": "soup", "sent_at": "2026-11-20T13:15:53.123Z",
}  # fmt: skip
SENT = {"event": "message.sent", "room_id": "0", "revision": 1, "message": MESSAGE}
ERROR = {"code": "room_not_found", "kind": "not_found", "detail": "No.", "retryable": False}


@pytest.fixture(scope="module")
def document(server: ServerProcess) -> Any:
    return httpx2.get(f"{server.url}/api/asyncapi.json").json()


def references(part: Any) -> list[str]:
    """Every `$ref` in a part of the document."""
    if isinstance(part, list):
        return [found for each in part for found in references(each)]
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [found for each in part.values() for found in references(each)]
    return []


def resolve(document: Any, reference: str) -> Any:
    assert reference.startswith("#/")
    for part in reference[2:].split("/"):
        document = document[part]
    return document


def test_it_is_served_to_everybody_and_linked(server: ServerProcess, document: Any) -> None:
    answer = httpx2.get(f"{server.url}/api/asyncapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert document == json.loads(json.dumps(asyncapi.document()))
    openapi = httpx2.get(f"{server.url}/api/openapi.json").json()
    assert "(asyncapi.json)" in openapi["info"]["description"]


def test_it_has_the_shape_of_asyncapi_3(document: Any) -> None:
    errors_found = [f"{each.instance_path}: {each.message}" for each in DOCUMENT.iter_errors(document)]
    assert not errors_found


def test_every_reference_leads_somewhere(document: Any) -> None:
    found = set(references(document))
    assert found
    for reference in found:
        assert resolve(document, reference) is not None
    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert schemas <= found, "a schema that nothing speaks of"


def test_every_schema_is_one(document: Any) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert jsonschema_rs.Draft7Validator(schema | {"components": document["components"]}), name


def test_operations_speak_of_messages_of_their_own_channel(document: Any) -> None:
    for name, operation in document["operations"].items():
        for part in (operation, operation.get("reply", operation)):
            within = part["channel"]["$ref"] + "/messages/"
            assert part["messages"], name
            assert all(each["$ref"].startswith(within) for each in part["messages"]), name


def test_every_placeholder_of_an_address_is_explained(document: Any) -> None:
    for channel in document["channels"].values():
        assert set(re.findall(r"{(\w+)}", channel["address"])) == set(channel.get("parameters", ()))
    for host in document["servers"].values():
        assert set(re.findall(r"{(\w+)}", host["host"])) == set(host["variables"])


def test_every_operation_event_error_and_close_code_is_there(document: Any) -> None:
    channel = document["channels"]["ws"]
    received = {name for name, each in document["operations"].items() if each["action"] == "receive"}
    assert received == OPS | {"feed.post"}
    told = {each["$ref"].rpartition("/")[2] for each in document["operations"]["events"]["messages"]}
    assert told == EVENTS
    assert channel["messages"].keys() >= OPS | EVENTS
    assert not OPS & EVENTS
    codes = channel["messages"]["Refusal"]["x-errors"]
    assert codes["room_not_found"]["kind"] == "not_found"
    assert errors.RateLimited.code in codes
    assert "not_found" not in codes, "a kind, which is no code"
    assert {int(code) for code in channel["x-close-codes"]} == set(Close)


def test_everything_says_what_it_is_for(document: Any) -> None:
    for channel in document["channels"].values():
        assert all(message["summary"] for message in channel["messages"].values())
    assert all(operation["summary"] for operation in document["operations"].values())
    for name, schema in document["components"]["schemas"].items():
        assert schema["description"].strip(), name
        assert "\n  " not in schema["description"], name


def test_what_is_documented_passes() -> None:
    ours = Conversation()
    ours.sent('{"op": "profile.see", "ref": 1}\n\n{"op": "read.mark", "ref": 2, "room": "0", "seq": 1}')
    ours.heard(json.dumps(SENT))
    ours.heard(json.dumps({"ref": 2, "ok": {"seq": 1}}))
    ours.heard(json.dumps({"ref": 1, "error": ERROR}))
    Conversation(FEED).heard(json.dumps(MESSAGE) + "\n" + json.dumps({"error": ERROR}))


@pytest.mark.parametrize(
    "line",
    [
        {"op": "room.explode", "ref": 1},
        {"ref": 1},
        {"op": "read.mark", "room": "0"},
        {"op": "read.mark", "room": "0", "seq": -1},
        {"op": "room.see", "roon": "0", "room": "0"},
        {"op": "room.list", "scope": "all"},
    ],
    ids=["unknown op", "no op", "field missing", "below zero", "unknown field", "unknown scope"],
)
def test_a_wrong_command_is_noticed(line: dict[str, Any]) -> None:
    with pytest.raises(NotAsDocumented):
        Conversation().sent(json.dumps(line))


@pytest.mark.parametrize(
    "line",
    [
        {name: value for name, value in SENT.items() if name != "message"},
        SENT | {"message": {name: value for name, value in MESSAGE.items() if name != "seq"}},
        SENT | {"message": MESSAGE | {"sent_at": "yesterday"}},
        SENT | {"event": "message.lost"},
        SENT | {"more": 1},
        SENT | {"message": MESSAGE | {"more": 1}},
        {"ref": 7, "ok": {"message": MESSAGE}},
        {"ref": 8, "ok": {"seq": 1}},
        {"ref": 7, "error": ERROR | {"code": "no_such_code"}},
        {"ref": 7, "error": "No."},
        {"ref": 7},
    ],
    ids=[
        "field missing", "field missing inside", "no time", "unknown event", "unknown field",
        "unknown field inside", "answer of another operation", "answer to nothing", "unknown code",
        "no error document", "neither answer nor event",
    ],
)  # fmt: skip
def test_a_wrong_line_of_the_server_is_noticed(line: dict[str, Any]) -> None:
    ours = Conversation()
    ours.sent('{"op": "read.mark", "ref": 7, "room": "0", "seq": 1}')
    with pytest.raises(NotAsDocumented):
        ours.heard(json.dumps(line))


async def test_the_clients_of_the_tests_look_at_every_frame() -> None:
    async def speak(connection: ServerConnection) -> None:
        assert await connection.recv() == "nonsense"
        await connection.send(json.dumps(SENT) + "\n" + json.dumps(SENT | {"revision": "one"}))

    async with serve(speak, "127.0.0.1", 0) as wrong:
        port = next(iter(wrong.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/ws") as connection:
            with pytest.raises(NotAsDocumented):
                await connection.send('{"op": "nonsense"}')
            await connection.send_wrong("nonsense")
            with pytest.raises(NotAsDocumented, match="integer"):
                await connection.recv()
