"""Who is asking, for the routes that want to know."""

from typing import Annotated, Any

from fastapi import Depends
from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection, Request

from parley.errors import Draining
from parley.node import Node
from parley.services.core import Core
from parley.services.sessions import Caller

# Declared for the OpenAPI page; the header is read by `bearer`, which WebSockets use as well.
_scheme = HTTPBearer(auto_error=False, description="The token that signing in answers.")


def node_of(connection: HTTPConnection) -> Node:
    """The node that serves this application."""
    node: Node = connection.app.state.node
    return node


def bearer(connection: HTTPConnection) -> str | None:
    """The token of the `Authorization` header."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def address(connection: HTTPConnection) -> str:
    """Where a request comes from."""
    return connection.client.host if connection.client else ""


def label(connection: HTTPConnection) -> str:
    """What the caller's program calls itself: a name for the session in the list of devices."""
    return connection.headers.get("user-agent", "")


def _core(request: Request) -> Core:
    node = node_of(request)
    if node.state != "ready":
        raise Draining(retry_after=1)
    node.core.rates.of_address(address(request))
    return node.core


CoreOf = Annotated[Core, Depends(_core)]


async def _caller(request: Request, core: CoreOf, _: Annotated[Any, Depends(_scheme)]) -> Caller:
    caller = await core.sessions.authenticate(bearer(request))
    core.rates.of_user(caller.user.id)
    return caller


CallerOf = Annotated[Caller, Depends(_caller)]
