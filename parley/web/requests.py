"""What happens to every HTTP request before and after its route: an id, a size limit, safe headers."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from parley.errors import BodyTooLarge
from parley.ids import new_id
from parley.web import problems

MAX_BODY_BYTES = 256 * 1024
"""Enough for any message, however much its JSON escapes."""


class Requests:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope["parley.request_id"] = new_id()

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["x-content-type-options"] = "nosniff"
                headers["referrer-policy"] = "same-origin"
                # Nobody draws our pages into theirs, and no cache keeps what one person was shown.
                headers["content-security-policy"] = "frame-ancestors 'none'"
                if "authorization" in Headers(scope=scope):
                    headers["cache-control"] = "no-store"
            await send(message)

        if int(Headers(scope=scope).get("content-length", 0)) > MAX_BODY_BYTES:
            await problems.answer(BodyTooLarge(), request_id)(scope, receive, answer)
            return
        size = 0

        async def measured() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_BODY_BYTES:
                raise HTTPException(413)
            return message

        await self._app(scope, measured, answer)
