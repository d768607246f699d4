"""Coming in with nothing but a name, over HTTP."""

import httpx2
import msgspec

from parley.client.errors import ConnectionLost, NotParley, Refused
from parley.realtime.protocol import ErrorBody

SECONDS = 10


class _SignedIn(msgspec.Struct):
    token: str


class _Problem(msgspec.Struct):
    code: str
    detail: str


async def sign_in(server: str, name: str) -> str:
    """Come in as a guest and return the token. Raises `Refused`, `NotParley`, `ConnectionLost`."""
    try:
        async with httpx2.AsyncClient(timeout=SECONDS, trust_env=False) as http:
            url = f"{server}/api/v1/sessions/guest"
            answer = await http.post(url, json={"display_name": name})
    except httpx2.HTTPError as error:
        raise ConnectionLost(str(error) or type(error).__name__) from error
    if answer.status_code in {404, 405}:
        raise NotParley(f"there is no Parley server at {server}")
    try:
        if answer.status_code == 201:
            return msgspec.json.decode(answer.content, type=_SignedIn).token
        problem = msgspec.json.decode(answer.content, type=_Problem)
    except msgspec.MsgspecError:
        if answer.status_code >= 500:  # whatever stands before a server that is away
            raise ConnectionLost(f"HTTP {answer.status_code}") from None
        raise NotParley(f"what answers at {server} is no Parley server") from None
    may_help = answer.status_code in {429, 503}
    raise Refused(
        ErrorBody(
            code=problem.code,
            kind="unavailable" if answer.status_code >= 500 else "",
            detail=problem.detail,
            retryable=may_help,
            retry_after=_seconds(answer.headers.get("retry-after")),
        )
    )


def _seconds(header: str | None) -> float | None:
    return float(header) if header is not None and header.isdecimal() else None
