"""The OpenAPI page tells the truth: whatever is sent, the answer is one that it documents, and never a
5xx."""

import contextlib
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.servers import ServerProcess
from tests.web.conftest import Person

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


V1 = "/api/v1"
ENDINGS = {
    f"DELETE {V1}/me",
    f"DELETE {V1}/sessions",
    f"DELETE {V1}/sessions/current",
    f"DELETE {V1}/sessions/{{session}}",
    f"DELETE {V1}/rooms/{{room}}",
}
"""What cannot be done twice by the same person: the next request comes from a new one."""

SUCCESS = {200, 201, 204}
OPEN_TO_ALL = {
    "POST /messages",
    f"POST {V1}/accounts",
    f"POST {V1}/sessions/guest",
    f"GET {V1}/limits",
}
NEW_PASSWORD = f"PUT {V1}/me/password"
SIGN_IN = {f"POST {V1}/sessions", f"POST {V1}/sessions/refresh"}
"""With passwords and tokens, which may be wrong."""

PASSWORD = "correct horse battery"
PLAIN = {
    "title": "The kitchen",
    "display_name": "Eve",
    "password": PASSWORD,
    "user": "john",
    "room": "default",
    "text": "more soup",
}


class Eve:
    """Somebody with an account, for what guests cannot do."""

    def __init__(self, server: ServerProcess) -> None:
        named = {"name": new_name(), "password": PASSWORD}
        answer = httpx2.post(f"{server.url}{V1}/accounts", json=named).json()
        self.token: str = answer["token"]
        self.bodies = {
            f"POST {V1}/sessions": named,
            f"POST {V1}/sessions/refresh": {"refresh_token": answer["refresh_token"]},
            NEW_PASSWORD: {"password": PASSWORD, "new_password": PASSWORD},
        }


def new_name() -> str:
    return f"eve-{uuid4().hex[:12]}"


class Scene:
    """What there is for requests to act on: a guest, a room of theirs with a message, and somebody else."""

    def __init__(self, server: ServerProcess, eve: Eve) -> None:
        self._eve = eve
        self._is_plain = False
        self._ann, bob = Person(server, "Ann"), Person(server, "Bob")
        room = self._ann.post("/rooms", json={"title": "The kitchen"}).json()["id"]
        self._ann.put(f"/rooms/{room}/members/{bob.id}")
        message = self._ann.post(f"/rooms/{room}/messages", json={"text": "soup"}).json()["id"]
        session = self._ann.get("/sessions").json()["items"][0]["id"]
        self._there = {"room": room, "user": bob.id, "message": message, "session": session}
        bob.http.close()

    def token_for(self, operation: str) -> str:
        return self._eve.token if operation == NEW_PASSWORD else self._ann.token

    def fill(self, case: Any, operation: str) -> None:
        """Let a right request speak of what is there, or little would get past the first look. Every other
        one keeps the texts that it has."""
        case.path_parameters |= {
            name: value for name, value in self._there.items() if name in case.path_parameters
        }
        self._is_plain = not self._is_plain
        if self._is_plain and isinstance(case.body, dict):
            plain = PLAIN | {"name": new_name(), "id": str(uuid4()), "reply_to": self._there["message"]}
            case.body |= {name: value for name, value in plain.items() if name in case.body}
            case.body |= self._eve.bodies.get(operation, {})

    def close(self) -> None:
        self._ann.http.close()


@dataclass
class Answered:
    """What an operation answered to right requests and to wrong ones, some of which lack the token."""

    right: set[int]
    wrong: set[int]


def try_everything(server: ServerProcess, examples: int, *, signed_in: bool) -> dict[str, Answered]:
    """Send requests made from the schema; every answer must be one that it documents."""
    schema = schemathesis.openapi.from_url(f"{server.url}/api/openapi.json")
    eve = Eve(server)
    answered = {}
    with requests.Session() as connections:
        for found in schema.get_all_operations():
            attempts = Attempts(server, eve, found.ok(), connections, signed_in)  # type: ignore[union-attr]
            answered[attempts.label] = Answered(
                right=attempts.make(GenerationMode.POSITIVE, examples),
                wrong=attempts.make(GenerationMode.NEGATIVE, examples),
            )
            attempts.scene.close()
    return answered


class Attempts:
    """Requests to one operation."""

    def __init__(
        self, server: ServerProcess, eve: Eve, operation: Any, connections: requests.Session, signed_in: bool
    ) -> None:
        self.label: str = operation.label
        self.scene = Scene(server, eve)
        self._server = server
        self._eve = eve
        self._operation = operation
        self._connections = connections
        self._signed_in = signed_in

    def make(self, mode: GenerationMode, examples: int) -> set[int]:
        """Make requests, and return the status of each answer."""
        statuses = set()

        @given(case=self._operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def attempt(case: schemathesis.Case[Any]) -> None:
            if mode is GenerationMode.POSITIVE:
                self.scene.fill(case, self.label)
            statuses.add(self._send(case))

        with contextlib.suppress(Unsatisfiable):  # an operation without input has no wrong one
            attempt()
        return statuses

    def _send(self, case: schemathesis.Case[Any]) -> int:
        token = self.scene.token_for(self.label)
        headers = {"authorization": f"Bearer {token}"} if self._signed_in else {}
        answer = case.call(headers=headers, session=self._connections)
        if answer.status_code == 204 and self.label in ENDINGS:
            self.scene.close()
            self.scene = Scene(self._server, self._eve)
        case.validate_response(answer, checks=CHECKS)
        return answer.status_code


@pytest.mark.slow
def test_every_answer_is_documented(server: ServerProcess) -> None:
    answered = try_everything(server, 10, signed_in=True)
    assert answered.keys() > ENDINGS | OPEN_TO_ALL | {NEW_PASSWORD}
    for operation, statuses in answered.items():
        assert statuses.right & SUCCESS, f"{operation} never got anywhere: {statuses}"
        if operation not in SIGN_IN | {NEW_PASSWORD}:
            assert 401 not in statuses.right, f"{operation} was asked by a stranger"
        if operation.startswith(("POST", "PATCH")):
            assert 422 in statuses.wrong, f"{operation} took everything: {statuses}"


@pytest.mark.slow
def test_every_answer_to_strangers_is_documented(server: ServerProcess) -> None:
    for operation, statuses in try_everything(server, 3, signed_in=False).items():
        if operation not in OPEN_TO_ALL | SIGN_IN:
            assert 401 in statuses.right, operation
            assert not (statuses.right | statuses.wrong) & SUCCESS, operation


def test_every_failure_is_a_problem_document(server: ServerProcess) -> None:
    document = httpx2.get(f"{server.url}/api/openapi.json").json()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert list(answer["content"]) == ["application/problem+json"], (method, path, status)
