"""Keeps a connection to one server: signs in, connects, and does so again whenever that may help."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Literal, NoReturn
from urllib.parse import urlsplit

from parley.client.backoff import Backoff
from parley.client.connection import Connection
from parley.client.errors import ChatEnded, ConnectionLost, NotParley, Refused
from parley.client.guests import sign_in
from parley.realtime.protocol import Close, may_return

STEADY_SECONDS = 10
"""A connection that has lasted so long makes the waits before a new one short again."""

Status = Literal["connected", "away", "back", "renewed"]
"""Connected for the first time; not, and trying; again; again, under a new session of a guest."""


class Lifeline:
    """Connects for ever. `opened` gives a connection, `begin` says hello on it, `live` uses it to its end.

    With a `name` it comes in as a guest of that name, and does so again when the session has ended; with a
    `token` the end of the session is the end.
    """

    def __init__(
        self,
        server: str,
        *,
        token: str | None,
        name: str | None,
        opened: Callable[[str], AbstractAsyncContextManager[Connection]],
        begin: Callable[[Connection, str], Awaitable[None]],
        live: Callable[[Connection], Awaitable[tuple[int, str]]],
        on_status: Callable[[Status, str], None],
    ) -> None:
        if (token is None) == (name is None):
            raise ValueError("either a token or a guest's name is needed")
        self._http = http_url(server)
        self._token = token
        self._name = name
        self._opened = opened
        self._begin = begin
        self._live = live
        self._on_status = on_status
        self._backoff = Backoff()
        self._was_connected = False
        self._is_away = False
        self._is_renewing = False

    async def run(self) -> NoReturn:
        """Stay connected. Raises `ChatEnded` when that is over for good."""
        while True:
            at_least = 0.0
            try:
                code, reason = await self._connect()
                if code in {Close.UNAUTHENTICATED, Close.SESSION_ENDED}:
                    self._session_ended(code, reason)
                elif may_return(code):
                    self._away(reason or "the connection broke")
                else:
                    raise ChatEnded(reason or f"closed with code {code}", code)
            except Refused as error:
                if error.kind == "unauthenticated":
                    self._session_ended(Close.UNAUTHENTICATED, error.detail)
                elif error.may_help_later:
                    at_least = error.retry_after or 0
                    self._away(error.detail)
                else:
                    raise ChatEnded(error.detail, refusal=error) from error
            except NotParley as error:
                # Once it was there, a proxy may say anything in its place while it restarts.
                if not self._was_connected:
                    raise ChatEnded(str(error)) from error
                self._away(str(error))
            except (ConnectionLost, TimeoutError) as error:
                self._away(str(error) or "no answer in time")
            await asyncio.sleep(self._backoff.next_seconds(at_least))

    async def _connect(self) -> tuple[int, str]:
        """One connection from its opening to its end; returns the close code and reason."""
        if self._token is None:
            self._token = await sign_in(self._http, self._name or "")
        async with self._opened(f"ws{self._http.removeprefix('http')}/ws") as connection:
            try:
                await self._begin(connection, self._token)
            except ConnectionLost:
                return await connection.ended()
            self._connected()
            clock = asyncio.get_running_loop().time
            since = clock()
            ended = await self._live(connection)
            if clock() - since > STEADY_SECONDS:
                self._backoff.reset()
            return ended

    def _connected(self) -> None:
        if self._is_renewing:
            self._on_status("renewed", "")
        if not self._was_connected:
            self._on_status("connected", "")
        elif self._is_away:
            self._on_status("back", "")
        self._was_connected = True
        self._is_away = self._is_renewing = False

    def _away(self, reason: str) -> None:
        if not self._is_away:
            self._is_away = True
            self._on_status("away", reason)

    def _session_ended(self, code: int, reason: str) -> None:
        if self._name is None:
            raise ChatEnded(reason or "the session has ended", code)
        self._token = None
        self._is_renewing = True


def http_url(server: str) -> str:
    """The server's address as an HTTP URL without a slash at the end. Raises `ValueError`."""
    url = server if "://" in server else f"http://{server}"
    parts = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    is_address = parts.hostname and parts.port != 0 and not (parts.query or parts.fragment)
    if scheme not in {"http", "https"} or not is_address or any(map(str.isspace, url)):
        raise ValueError(f"{server!r} is no address of a server, such as http://127.0.0.1:8000")
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}"
