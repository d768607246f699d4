"""The objects of AsyncAPI 3.0.0 as JSON Schema, as far as our document uses them; anything else is refused.

https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from typing import Any

import jsonschema_rs

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
NAMES = "^[A-Za-z0-9_.-]+$"
ANY_SCHEMA: Schema = {"$ref": "http://json-schema.org/draft-07/schema#"}


def thing(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """An object with these fields, extensions (`x-…`), and nothing else."""
    return {
        "type": "object",
        "required": list(required),
        "properties": required | (optional or {}),
        "patternProperties": {r"^x-[\w.-]+$": {}},
        "additionalProperties": False,
    }


def named(each: Schema) -> Schema:
    """A map of names to such things."""
    return {"type": "object", "propertyNames": {"pattern": NAMES}, "additionalProperties": each}


def several(each: Schema) -> Schema:
    return {"type": "array", "items": each, "minItems": 1, "uniqueItems": True}


REFERENCE: Schema = {
    "type": "object",
    "required": ["$ref"],
    "properties": {"$ref": {"type": "string", "format": "uri-reference"}},
    "additionalProperties": False,
}
INFO = thing({"title": TEXT, "version": TEXT}, {"description": TEXT, "license": thing({"name": TEXT})})
SERVER = thing(
    {"host": TEXT, "protocol": {"enum": ["ws", "wss", "amqp", "kafka"]}},
    {"description": TEXT, "variables": named(thing({}, {"default": TEXT, "description": TEXT}))},
)
MESSAGE = thing(
    {"payload": ANY_SCHEMA, "summary": TEXT},
    {
        "name": TEXT,
        "title": TEXT,
        "contentType": TEXT,
        "headers": ANY_SCHEMA,
        "correlationId": thing(
            {"location": {"type": "string", "pattern": r"^\$message\.(header|payload)#(/[^/]+)+$"}},
            {"description": TEXT},
        ),
    },
)
OBJECT_SCHEMA: Schema = {
    "allOf": [ANY_SCHEMA, {"required": ["type", "properties"], "properties": {"type": {"const": "object"}}}]
}
YES_OR_NO: Schema = {"type": "boolean"}
BINDINGS = thing(
    {},
    {
        "ws": thing(
            {"method": {"enum": ["GET", "POST"]}, "bindingVersion": {"const": "0.1.0"}},
            {"headers": OBJECT_SCHEMA, "query": OBJECT_SCHEMA},
        ),
        "amqp": thing(
            {"is": {"enum": ["queue", "routingKey"]}, "bindingVersion": {"const": "0.3.0"}},
            {
                "exchange": thing(
                    {"name": TEXT, "type": {"enum": ["topic", "direct", "fanout", "default", "headers"]}},
                    {"durable": YES_OR_NO, "autoDelete": YES_OR_NO, "vhost": TEXT},
                ),
                "queue": thing(
                    {"name": TEXT},
                    {"durable": YES_OR_NO, "exclusive": YES_OR_NO, "autoDelete": YES_OR_NO, "vhost": TEXT},
                ),
            },
        ),
        "kafka": thing({"topic": TEXT, "bindingVersion": {"const": "0.5.0"}}),
    },
)
ADDRESS: Schema = {"type": ["string", "null"], "pattern": r"^(/[^?#]*|[a-z]+(\.[a-z]+)*)$"}
CHANNEL = thing(
    {"address": ADDRESS, "messages": named(MESSAGE)},
    {
        "title": TEXT,
        "description": TEXT,
        "parameters": named(thing({"description": TEXT})),
        "bindings": BINDINGS,
    },
)
OPERATION = thing(
    {"action": {"enum": ["send", "receive"]}, "channel": REFERENCE, "messages": several(REFERENCE)},
    {
        "summary": TEXT,
        "tags": several(thing({"name": TEXT})),
        "security": several(REFERENCE),
        "reply": thing({"channel": REFERENCE, "messages": several(REFERENCE)}),
    },
)
SECURITY: Schema = {
    "oneOf": [
        thing({"type": {"const": "http"}, "scheme": {"const": "bearer"}}, {"description": TEXT}),
        thing({"type": {"const": "apiKey"}, "in": {"enum": ["user", "password"]}}, {"description": TEXT}),
    ]
}

DOCUMENT = jsonschema_rs.Draft7Validator(
    thing(
        {
            "asyncapi": {"const": "3.0.0"},
            "info": INFO,
            "defaultContentType": TEXT,
            "servers": named(SERVER),
            "channels": named(CHANNEL),
            "operations": named(OPERATION),
            "components": thing({"schemas": named(ANY_SCHEMA)}, {"securitySchemes": named(SECURITY)}),
        }
    )
)
