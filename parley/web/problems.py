"""Errors as RFC 9457 problem documents: one table from the seven kinds to status numbers."""

import math
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from parley import errors, events
from parley.errors import (
    BodyTooLarge,
    InternalError,
    InvalidField,
    InvalidJson,
    MethodNotAllowed,
    ParleyError,
    PathNotFound,
)
from parley.models import Model

STATUS: dict[type, int] = {
    errors.Invalid: 422,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.TooMany: 429,
    errors.Unavailable: 503,
}
MEDIA_TYPE = "application/problem+json"

log = structlog.get_logger()


class Problem(Model):
    """What went wrong. `code` is stable and for programs, `detail` is for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str


def answer(error: ParleyError, request_id: str, status: int | None = None) -> Response:
    """The problem document of an error."""
    status = status or _status(error)
    problem = Problem(
        type=f"urn:parley:error:{error.code}",
        title=error.kind.replace("_", " "),
        status=status,
        detail=error.detail,
        code=error.code,
        request_id=request_id,
    )
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(events.encode(problem), status, headers, MEDIA_TYPE)


def _status(error: ParleyError) -> int:
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return 500


def install(app: FastAPI) -> None:
    """Answer every failure of the application with a problem document."""
    app.add_exception_handler(ParleyError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _failed)


def _id(request: Request) -> str:
    return str(request.scope.get("parley.request_id", ""))


async def _refused(request: Request, error: Any) -> Response:
    return answer(error, _id(request))


async def _invalid(request: Request, error: Any) -> Response:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return answer(InvalidJson(), _id(request))
    where = ".".join(str(part) for part in first["loc"][1:])
    if not where and "json" not in request.headers.get("content-type", ""):
        return answer(
            InvalidField("Send JSON, with the header `content-type: application/json`."), _id(request)
        )
    return answer(InvalidField(f"{where or 'body'}: {first['msg']}"), _id(request))


async def _http(request: Request, error: Any) -> Response:
    if error.status_code == 404:
        return answer(PathNotFound(), _id(request))
    if error.status_code == 405:
        response = answer(MethodNotAllowed(), _id(request), 405)
        response.headers.update(error.headers or {})
        return response
    if error.status_code == 413:
        return answer(BodyTooLarge(), _id(request))
    # FastAPI answers 400 to a body that it cannot read: not UTF-8, nested too deep.
    return answer(InvalidJson(), _id(request))


async def _failed(request: Request, error: Exception) -> Response:
    log.error("a request failed", exc_info=error, request_id=_id(request), path=request.url.path)
    return answer(InternalError(), _id(request), 500)


def schema() -> dict[str, Any]:
    """The JSON Schema of a problem document."""
    return TypeAdapter(Problem).json_schema()


def responses(names_something: bool) -> dict[str, Any]:
    """The failures that an operation may answer, for the OpenAPI page."""
    told = {
        401: "Sign in first.",
        403: "Not allowed.",
        409: "Taken, full or at its limit.",
        422: "The request makes no sense as it stands.",
        429: "Too often; wait a moment.",
        503: "Not now; try again in a moment.",
    }
    if names_something:
        told |= {404: "No such thing, or none that you may see."}
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {str(status): {"description": told[status], "content": content} for status in sorted(told)}
