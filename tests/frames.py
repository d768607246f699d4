"""What is said over a socket, line by line, held against the AsyncAPI document."""

import json
from functools import cache
from typing import Any

import jsonschema_rs

from parley.web import asyncapi

WS = "ws"
FEED = "feed"


class NotAsDocumented(AssertionError):
    """A line that the document does not allow."""


undocumented: list[NotAsDocumented] = []
"""What servers sent in this test that the document does not allow: raised there, nobody would hear of it."""


class Conversation:
    """One connection of a channel. It remembers what was asked, so that each answer is held against its own
    operation."""

    def __init__(self, channel: str = WS) -> None:
        self._channel = channel
        self._asked: dict[object, set[str]] = {}

    def sent(self, frame: str) -> None:
        """A client's frame is as documented. Raises `NotAsDocumented`."""
        for line in _lines(frame) if self._channel == WS else ():
            command = json.loads(line)
            _check(WS, [str(command.get("op"))], command)
            self._note(command)

    def sent_wrong(self, frame: str) -> None:
        """A client's frame is wrong by intent; what it asks is remembered as far as it can be read."""
        for line in _lines(frame):
            try:
                command = json.loads(line)
                self._note(command)
            except (ValueError, RecursionError, TypeError, AttributeError):
                continue

    def heard(self, frame: str | bytes) -> None:
        """The server's frame is as documented. Raises `NotAsDocumented`."""
        text = frame.decode() if isinstance(frame, bytes) else frame
        for line in text.split("\n"):
            said = json.loads(line)
            _check(self._channel, self._messages_for(said), said)

    def _note(self, command: dict[str, Any]) -> None:
        self._asked.setdefault(command.get("ref"), set()).add(str(command.get("op")))

    def _messages_for(self, said: dict[str, Any]) -> list[str]:
        """The messages that a line of the server may be."""
        if self._channel == FEED:
            return ["complaint" if "error" in said else "message"]
        if "event" in said:
            return [said["event"]]
        if "error" in said:
            return ["Refusal"]
        asked = self._asked.get(said.get("ref"), set())
        return [_answer(op) for op in asked if op in asyncapi.document()["operations"]]


def _lines(frame: str) -> list[str]:
    return [line for line in frame.split("\n") if line and not line.isspace()]


def _check(channel: str, messages: list[str], said: Any) -> None:
    known = asyncapi.document()["channels"][channel]["messages"]
    validators = [_validator(channel, message) for message in messages if message in known]
    if not validators:
        raise NotAsDocumented(f"none of the document's messages: {said}")
    if not any(validator.is_valid(said) for validator in validators):
        found = next(iter(validators[0].iter_errors(said)))
        raise NotAsDocumented(f"{found.message} (at {found.instance_path}): {said}")
    if "error" in said and said["error"]["code"] not in _codes():
        raise NotAsDocumented(f"none of the document's errors: {said}")


def _answer(op: str) -> str:
    """The message that answers an operation, where it is not refused."""
    reference = asyncapi.document()["operations"][op]["reply"]["messages"][0]["$ref"]
    return str(reference.rpartition("/")[2])


@cache
def _codes() -> frozenset[str]:
    return frozenset(asyncapi.document()["channels"][WS]["messages"]["Refusal"]["x-errors"])


@cache
def _validator(channel: str, message: str) -> jsonschema_rs.Validator:
    document = asyncapi.document()
    payload = document["channels"][channel]["messages"][message]["payload"]
    return jsonschema_rs.Draft7Validator({**_closed(payload), **_components()}, validate_formats=True)


@cache
def _components() -> dict[str, Any]:
    schemas = asyncapi.document()["components"]["schemas"]
    return {"components": {"schemas": {name: _closed(schema) for name, schema in schemas.items()}}}


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that allows no fields but those that it names: the server and the tests know them all."""
    return schema | {"additionalProperties": False} if "properties" in schema else schema
