"""The OpenAPI page tells the truth: whatever is sent, the answer is one that it documents, and never a
5xx."""

import contextlib
from typing import Any

import httpx2
import pytest
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


SIGN_OUT = {"DELETE /api/v1/sessions", "DELETE /api/v1/sessions/current"}


def try_everything(server: ServerProcess, examples: int, headers: dict[str, str]) -> dict[str, set[int]]:
    """Send requests made from the schema, right ones and wrong ones; return what each operation answered."""
    schema = schemathesis.openapi.from_url(f"{server.url}/api/openapi.json")
    answered = {}
    for found in schema.get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]
        if headers and operation.label in SIGN_OUT:
            continue  # or all that follows would come from a stranger
        answered[operation.label] = {
            status for mode in GenerationMode for status in try_one(operation, mode, examples, headers)
        }
    return answered


def try_one(operation: Any, mode: GenerationMode, examples: int, headers: dict[str, str]) -> set[int]:
    statuses = set()

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def attempt(case: schemathesis.Case[Any]) -> None:
        if mode is GenerationMode.POSITIVE and "room" in case.path_parameters:
            case.path_parameters["room"] = "lobby"  # a room that is there, or little would get past it
        answer = case.call(headers=headers)
        statuses.add(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    with contextlib.suppress(Unsatisfiable):  # an operation without input has no wrong one
        attempt()
    return statuses


@pytest.mark.slow
def test_every_answer_is_documented(server: ServerProcess, ann: Person) -> None:
    answered = try_everything(server, 25, {"authorization": f"Bearer {ann.token}"})
    assert len(answered) >= 15
    assert {200, 422} <= answered["GET /api/v1/rooms"]
    assert {200, 422} <= answered["GET /api/v1/rooms/{room}/messages"]
    assert {201, 422} <= answered["POST /api/v1/rooms/{room}/messages"]


@pytest.mark.slow
def test_every_answer_to_strangers_is_documented(server: ServerProcess) -> None:
    answered = try_everything(server, 5, {})
    open_to_all = {"POST /messages", "POST /api/v1/sessions/guest", "POST /api/v1/accounts"}
    assert all(401 in statuses for label, statuses in answered.items() if label not in open_to_all)


def test_every_failure_is_a_problem_document(server: ServerProcess) -> None:
    document = httpx2.get(f"{server.url}/api/openapi.json").json()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert list(answer["content"]) == ["application/problem+json"], (method, path, status)
