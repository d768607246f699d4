"""The FastAPI application over one node."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

import parley
from parley.node import Node
from parley.web import (
    accounts,
    asyncapi,
    asyncapi_services,
    health,
    messages,
    oneliners,
    problems,
    rooms,
    server,
    sockets,
)
from parley.web.requests import Requests

PREFIX = "/api/v1"
DESCRIPTION = """
Chat over HTTP. What happens live comes over the WebSocket at `/ws`, which
[asyncapi.json](asyncapi.json) describes (AsyncAPI 3). What other services hear and say over RabbitMQ or Kafka
is in [asyncapi-services.json](asyncapi-services.json).

Every failure is a problem document with a stable `code`.
"""


def create(node: Node) -> FastAPI:
    """The application that serves `node`, and starts and stops it with itself."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await node.start()
        yield
        await node.stop()

    app = FastAPI(
        title="Parley",
        version=parley.__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        generate_unique_id_function=lambda route: route.name,
        lifespan=lifespan,
    )
    app.state.node = node
    problems.install(app)
    if node.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(node.origins),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["authorization", "content-type"],
            expose_headers=["retry-after", "x-request-id"],
        )
    app.add_middleware(Requests)
    api = APIRouter(prefix=PREFIX)
    for module in (accounts, rooms, messages, server):
        api.include_router(module.router)
    app.include_router(api)
    app.include_router(asyncapi.router)
    app.include_router(asyncapi_services.router)
    app.include_router(oneliners.router)
    app.include_router(health.router)
    app.include_router(sockets.router)
    _serve_swagger(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _serve_swagger(app: FastAPI) -> None:
    """The API page, with assets of our own: it loads nothing from elsewhere."""
    assets = str(files("fastapi_swagger.resources"))
    app.mount("/api/assets", StaticFiles(directory=assets), name="swagger")

    @app.get("/api/openapi", include_in_schema=False)
    async def swagger() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title="Parley API",
            swagger_js_url="assets/swagger-ui-bundle.js",
            swagger_css_url="assets/swagger-ui.css",
            swagger_favicon_url="assets/favicon-32x32.png",
        )


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The schema, with problem documents in place of FastAPI's own errors."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        components = schema["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            components.pop(name, None)
        components["Problem"] = problems.schema()
        for path, item in schema["paths"].items():
            for operation in item.values():
                asked = {parameter["name"] for parameter in operation.get("parameters", ())}
                names_something = "requestBody" in operation or "{" in path or "room" in asked
                operation["responses"] |= problems.responses(names_something)
        app.openapi_schema = schema
    return app.openapi_schema
