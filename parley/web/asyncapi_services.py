"""Route: what other services hear and say through RabbitMQ or Kafka, as an AsyncAPI 3 document of its own."""

from functools import cache
from inspect import cleandoc
from typing import Any, get_args

import msgspec
from fastapi import APIRouter, Response

import parley
from parley import events
from parley.integration import EVENTS, GROUP, MESSAGES
from parley.integration.posting import Post, Posted
from parley.realtime.feed import Complaint
from parley.web.answers import reply
from parley.web.asyncapi import Json, _channel, _errors, _message, _messages, _tag, _tidy

DESCRIPTION = """
What a chat tells other services and takes from them, where its bus (`PARLEY_BUS`) is RabbitMQ or Kafka.
`docs/integrations.md` tells it in words, with examples.
"""

TOLD = f"""
Everything that is stored, at least once: drop what has a `revision` that you know of its room. Where one is
left out, or `room.changes` begins later than what you know, ask `GET /api/v1/rooms/{{room}}/changes?since=`.

RabbitMQ: a durable exchange of type topic, named `{EVENTS}`; the address is the routing key, which is the
event's name; messages are persistent. Kafka: the topic `{EVENTS}`; keys are room ids.
"""

POSTS = f"""
Messages to be posted, as over `POST /messages`: acknowledged to the broker when stored, tried again while
they cannot be, and rejected where they never will be.

RabbitMQ: the durable queue `{MESSAGES}`, through the default exchange; where `reply_to` is set, the answer
goes there. Kafka: the topic `{MESSAGES}`, read by the group `{GROUP}`.
"""

SERVERS: Json = {
    "rabbitmq": {"host": "{host}", "protocol": "amqp", "description": "The broker of `PARLEY_BUS=amqp://…`."},
    "kafka": {"host": "{host}", "protocol": "kafka", "description": "The broker of `PARLEY_BUS=kafka://…`."},
}

TOLD_OF = (
    *get_args(events.RoomEvent),
    events.RoomReset,
    events.RoomClosed,
)
"""The events that other services hear."""

router = APIRouter()


@router.get("/api/asyncapi-services.json", include_in_schema=False)
async def describe() -> Response:
    """For programs that read AsyncAPI; known to everybody."""
    return reply(document())


@cache
def document() -> Json:
    """The AsyncAPI 3 document. It is made once, and not to be changed."""
    refs, schemas = msgspec.json.schema_components(
        [*TOLD_OF, Post, Posted, Complaint], ref_template="#/components/schemas/{name}"
    )
    payloads = iter(refs)
    told = {
        _tag(each): _message(each, next(payloads)) | {"headers": _headers(_tag(each))} for each in TOLD_OF
    }
    post = _message(Post, next(payloads))
    posted = _message(Posted, next(payloads))
    refused = _message(Complaint, next(payloads)) | {"x-errors": _errors()}
    hosts = {"rabbitmq": "localhost:5672", "kafka": "localhost:9092"}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Parley for other services",
            "version": parley.__version__,
            "description": cleandoc(DESCRIPTION),
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            name: server
            | {"variables": {"host": {"default": hosts[name], "description": "where the broker is reached"}}}
            for name, server in SERVERS.items()
        },
        "channels": {
            "events": _events(told),
            "messages": {
                "address": MESSAGES,
                "title": "Messages to be posted",
                "description": cleandoc(POSTS),
                "messages": {"post": post},
                "bindings": {"amqp": _queue(), "kafka": {"topic": MESSAGES, "bindingVersion": "0.5.0"}},
            },
            "replies": {
                "address": None,
                "title": "Answers to what was posted, in RabbitMQ",
                "description": "The queue that the post's `reply_to` names; `correlation_id` is the post's.",
                "messages": {"posted": posted, "refused": refused},
            },
        },
        "operations": {
            "hear": {
                "action": "send",
                "channel": _channel("events"),
                "summary": "Hear what is stored.",
                "messages": _messages("events", told),
            },
            "post": {
                "action": "receive",
                "channel": _channel("messages"),
                "summary": "Post a message as a guest into a public room.",
                "messages": _messages("messages", ["post"]),
                "reply": {
                    "channel": _channel("replies"),
                    "messages": _messages("replies", ["posted", "refused"]),
                },
            },
        },
        "components": {"schemas": {name: _tidy(schema) for name, schema in schemas.items()}},
    }


def _events(messages: Json) -> Json:
    exchange = {"name": EVENTS, "type": "topic", "durable": True, "autoDelete": False}
    return {
        "address": EVENTS,
        "title": "What is stored",
        "description": cleandoc(TOLD),
        "messages": messages,
        "bindings": {
            "amqp": {"is": "routingKey", "exchange": exchange, "bindingVersion": "0.3.0"},
            "kafka": {"topic": EVENTS, "bindingVersion": "0.5.0"},
        },
    }


def _queue() -> Json:
    queue = {"name": MESSAGES, "durable": True, "exclusive": False, "autoDelete": False}
    return {"is": "queue", "queue": queue, "bindingVersion": "0.3.0"}


def _headers(event: str) -> Any:
    return {
        "type": "object",
        "properties": {
            "event": {"const": event},
            "epoch": {"type": "string", "description": "another one when the chat was restored: forget all"},
        },
    }
