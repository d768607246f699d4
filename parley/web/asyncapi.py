"""Route: the WebSocket protocol as an AsyncAPI 3 document, made of the very classes that speak it."""

from collections.abc import Iterable, Iterator
from functools import cache
from inspect import cleandoc
from typing import Any, get_args

import msgspec
from fastapi import APIRouter, Response

import parley
from parley.errors import ParleyError
from parley.events import Event
from parley.models import Message
from parley.realtime import protocol
from parley.realtime.answers import ANSWERS
from parley.realtime.feed import LAST_MESSAGES, Complaint
from parley.realtime.operations import AnyCommand, Arriving, Command, Hello
from parley.realtime.protocol import Answer, Close, Refusal
from parley.web.answers import reply

Json = dict[str, Any]

DESCRIPTION = """
Chat as it happens: one connection for all that the HTTP API can do, and for everything that goes on.
`docs/protocol.md` tells it in words: how to come back without a hole, and how to send safely.

The payloads here are those of **one line**: a frame is UTF-8 text with one or more JSON objects, one per
line, in both directions. Ignore the fields and events that you do not know.
"""

WS = f"""
The protocol `{protocol.SUBPROTOCOL}`. The first command is `hello`, within {protocol.HELLO_SECONDS} seconds;
only those that say how to come in may be sent before it. Each command is answered by `{{ref, ok}}` or
`{{ref, error}}` with its own `ref`; events come unasked. A frame holds up to
{protocol.MAX_COMMANDS_IN_FRAME} commands.

Close codes: {Close.__doc__}
"""

FEED = f"""
A public room for `websocat` and the like, without signing in: its last {LAST_MESSAGES} messages and then
every new one, one JSON message per line. A line of plain text that is sent into it is posted.
"""

CORRELATION = {"location": "$message.payload#/ref", "description": "`ref`, chosen by the client"}

TOKEN = {
    "inHeader": {
        "type": "http",
        "scheme": "bearer",
        "description": "The token that signing in answers, in the `Authorization` header of the upgrade.",
    },
    "inHello": {
        "type": "apiKey",
        "in": "password",
        "description": "The same as `token` of `hello`, where headers cannot be set; never in an address.",
    },
}

SERVER: Json = {
    "host": "{host}",
    "variables": {"host": {"default": "localhost:8000", "description": "where this server is reached"}},
}

router = APIRouter()


@router.get("/api/asyncapi.json", include_in_schema=False)
async def describe() -> Response:
    """The WebSocket protocol, for programs that read AsyncAPI; known to everybody."""
    return reply(document())


@cache
def document() -> Json:
    """The AsyncAPI 3 document. It is made once, and not to be changed."""
    commands = list(get_args(AnyCommand))
    answers = list(dict.fromkeys(ANSWERS[command] for command in commands))
    events = list(get_args(Event))
    of_answers = [Answer[each] for each in answers]  # type: ignore[valid-type]
    refs, schemas = msgspec.json.schema_components(
        [*commands, *of_answers, *events, Refusal, Message, Complaint],
        ref_template="#/components/schemas/{name}",
    )
    payloads = iter(refs)
    messages = {_tag(each): _message(each, next(payloads), correlated=True) for each in commands}
    messages |= {each.__name__: _message(each, next(payloads), correlated=True) for each in answers}
    messages |= {_tag(each): _message(each, next(payloads)) for each in events}
    messages["Refusal"] = _message(Refusal, next(payloads), correlated=True) | {"x-errors": _errors()}
    shown = {"message": _message(Message, next(payloads)), "complaint": _message(Complaint, next(payloads))}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Parley",
            "version": parley.__version__,
            "description": cleandoc(DESCRIPTION),
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "plain": SERVER | {"protocol": "ws"},
            "secure": SERVER | {"protocol": "wss", "description": "Where TLS stands before the server."},
        },
        "channels": {"ws": _ws(messages), "feed": _feed(shown)},
        "operations": {
            **{_tag(command): _operation(command) for command in commands},
            "events": {
                "action": "send",
                "channel": _channel("ws"),
                "summary": "What happens in the caller's rooms and to the caller, without asking.",
                "messages": _messages("ws", map(_tag, events)),
            },
            "feed.post": {
                "action": "receive",
                "channel": _channel("feed"),
                "summary": "Post a line of text as a guest.",
                "messages": _messages("feed", ["line"]),
            },
            "feed.show": {
                "action": "send",
                "channel": _channel("feed"),
                "summary": "The last messages, then every new one; or why a line was not posted.",
                "messages": _messages("feed", shown),
            },
        },
        "components": {
            "schemas": {name: _tidy(schema) for name, schema in schemas.items()},
            "securitySchemes": TOKEN,
        },
    }


def _ws(messages: Json) -> Json:
    return {
        "address": "/ws",
        "title": "The protocol",
        "description": cleandoc(WS),
        "messages": messages,
        "bindings": {
            "ws": {
                "method": "GET",
                "headers": {
                    "type": "object",
                    "properties": {
                        "Sec-WebSocket-Protocol": {"const": protocol.SUBPROTOCOL},
                        "Authorization": {"type": "string", "description": "`Bearer`, a space and a token"},
                    },
                },
                "bindingVersion": "0.1.0",
            }
        },
        "x-close-codes": _close_codes(),
    }


def _feed(messages: Json) -> Json:
    line = {
        "title": "A line of text",
        "summary": "Posted as it is; empty lines are not.",
        "contentType": "text/plain",
        "payload": {"type": "string"},
    }
    name = {"type": "string", "default": "guest", "description": "as whom to post"}
    return {
        "address": "/ws/updates/{room}",
        "title": "The plain feed of a room",
        "description": cleandoc(FEED),
        "parameters": {"room": {"description": "The room's name; it is made on first use."}},
        "messages": messages | {"line": line},
        "bindings": {
            "ws": {
                "method": "GET",
                "query": {"type": "object", "properties": {"name": name}},
                "bindingVersion": "0.1.0",
            }
        },
    }


def _operation(command: type[Command]) -> Json:
    op = _tag(command)
    operation: Json = {
        "action": "receive",
        "channel": _channel("ws"),
        "summary": _summary(command),
        "tags": [{"name": op.partition(".")[0]}],
        "messages": _messages("ws", [op]),
        "reply": {
            "channel": _channel("ws"),
            "messages": _messages("ws", [ANSWERS[command].__name__, "Refusal"]),
        },
    }
    if command not in (Hello, *get_args(Arriving)):
        operation["security"] = [{"$ref": f"#/components/securitySchemes/{name}"} for name in TOKEN]
    return operation


def _message(model: type, payload: Json, *, correlated: bool = False) -> Json:
    message = {"name": model.__name__, "summary": _summary(model), "payload": payload}
    return message | {"correlationId": CORRELATION} if correlated else message


def _channel(name: str) -> Json:
    return {"$ref": f"#/channels/{name}"}


def _messages(channel: str, names: Iterable[str]) -> list[Json]:
    return [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names]


def _tag(model: type[msgspec.Struct]) -> str:
    """What a command has as its `op`, or an event as its `event`."""
    return str(model.__struct_config__.tag)


def _summary(model: type) -> str:
    """The first sentence of what a class says of itself."""
    return " ".join(cleandoc(model.__doc__ or "").split("\n\n")[0].split())


def _tidy(schema: Json) -> Json:
    """A schema whose description is not indented as the docstring is."""
    return schema | {"description": cleandoc(schema["description"])} if "description" in schema else schema


def _close_codes() -> Json:
    """What the codes of a connection's end mean."""
    return {
        str(code.value): {"name": code.name.lower(), "may_return": protocol.may_return(code)}
        for code in sorted(Close)
    }


def _errors() -> Json:
    """Every code that an error may carry, with what stays the same about it."""
    return {
        error.code: {"kind": error.kind, "retryable": error.retryable, "sentence": error.sentence}
        for kind in ParleyError.__subclasses__()
        for error in _below(kind)
    }


def _below(error: type[ParleyError]) -> Iterator[type[ParleyError]]:
    for each in error.__subclasses__():
        yield each
        yield from _below(each)
