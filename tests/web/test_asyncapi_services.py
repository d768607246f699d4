"""What other services are told is described by a valid AsyncAPI document of its own."""

import json
from typing import Any, get_args

import httpx2
import jsonschema_rs
import pytest

from parley import events
from parley.integration import EVENTS, MESSAGES
from parley.integration.backlog import Told
from parley.web import asyncapi, asyncapi_services
from tests.servers import ServerProcess
from tests.web.asyncapi_shape import DOCUMENT
from tests.web.test_asyncapi import references, resolve


@pytest.fixture(scope="module")
def document(server: ServerProcess) -> Any:
    return httpx2.get(f"{server.url}/api/asyncapi-services.json").json()


def test_it_is_served_to_everybody_and_linked(server: ServerProcess, document: Any) -> None:
    assert document == json.loads(json.dumps(asyncapi_services.document()))
    openapi = httpx2.get(f"{server.url}/api/openapi.json").json()
    assert "(asyncapi-services.json)" in openapi["info"]["description"]


def test_it_has_the_shape_of_asyncapi_3(document: Any) -> None:
    assert not [f"{each.instance_path}: {each.message}" for each in DOCUMENT.iter_errors(document)]


def test_every_reference_leads_somewhere_and_no_schema_is_left_over(document: Any) -> None:
    found = set(references(document))
    for reference in found:
        assert resolve(document, reference) is not None
    assert {f"#/components/schemas/{name}" for name in document["components"]["schemas"]} <= found


def test_operations_speak_of_messages_of_their_own_channel(document: Any) -> None:
    for operation in document["operations"].values():
        for part in (operation, operation.get("reply", operation)):
            within = part["channel"]["$ref"] + "/messages/"
            assert all(each["$ref"].startswith(within) for each in part["messages"])


def test_it_tells_of_all_that_is_told_and_of_what_may_be_posted(document: Any) -> None:
    channels = document["channels"]
    assert (channels["events"]["address"], channels["messages"]["address"]) == (EVENTS, MESSAGES)
    told = {str(each.__struct_config__.tag) for each in get_args(Told)}
    assert set(channels["events"]["messages"]) == told
    assert told < {str(each.__struct_config__.tag) for each in get_args(events.Event)}
    assert channels["replies"]["messages"]["refused"]["x-errors"]["room_not_found"]["kind"] == "not_found"


def test_it_describes_events_as_the_protocol_does(document: Any) -> None:
    ours, theirs = (each["components"]["schemas"] for each in (document, asyncapi.document()))
    shared = set(ours) & set(theirs)
    assert "MessageSent" in shared
    assert all(ours[name] == json.loads(json.dumps(theirs[name])) for name in shared)


@pytest.mark.parametrize(
    ("post", "fits"),
    [
        ({"user": "john", "room": "kitchen", "text": "hello"}, True),
        ({"user": "john", "room": "kitchen", "text": "hello", "id": None, "more": 1}, True),
        ({"user": "john", "room": "kitchen"}, False),
        ({"user": "", "room": "kitchen", "text": "hello"}, False),
        ({"user": 7, "room": "kitchen", "text": "hello"}, False),
    ],
)
def test_a_post_is_described(document: Any, post: dict[str, Any], fits: bool) -> None:
    payload = document["channels"]["messages"]["messages"]["post"]["payload"]
    validator = jsonschema_rs.Draft7Validator({**payload, "components": document["components"]})
    assert validator.is_valid(post) is fits
