"""Routes outside the prefix: health, and chat with nothing but `curl`."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from parley.errors import ParleyError
from parley.models import Message, Role
from parley.permissions import may_send
from parley.web.answers import reply
from parley.web.callers import CoreOf, node_of
from parley.web.schemas import OneLiner

router = APIRouter()

WELCOME = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Parley</title>
<body style="font: 1.1em/1.6 system-ui; max-width: 38em; margin: 4em auto; padding: 0 1em">
<h1>Parley is running</h1>
<p>Talk in a terminal: <code>parley chat NAME ROOM</code></p>
<p>Write programs: <a href="/api/openapi">the HTTP API</a></p>
</body></html>
"""


@router.post(
    "/messages",
    status_code=201,
    response_model=Message,
    tags=["one-liners"],
    responses={200: {"model": Message, "description": "That id was stored already."}},
)
async def say(body: OneLiner, core: CoreOf) -> Response:
    """Post as a guest of that name into a public room; both are made on first use."""
    core.messages.check(body.text, body.id)  # before anything is made for it
    user = await core.accounts.walk_in(body.user)
    core.rates.of_user(user.id)
    room = await core.rooms.ensure(body.room, user)
    may_send(Role.MEMBER, read_only=room.read_only)
    await core.rooms.join(user, room.id)
    applied = await core.messages.send(user, room.id, body.text, id=body.id)
    return reply(applied.message, 201 if applied.fresh else 200)


@router.get("/", include_in_schema=False)
async def welcome() -> Response:
    """What a browser sees until there is a web app."""
    return HTMLResponse(WELCOME)


@router.get("/healthz", include_in_schema=False)
async def alive() -> Response:
    """The process runs. No I/O."""
    return reply({"status": "alive"})


@router.get("/readyz", include_in_schema=False)
async def ready(request: Request) -> Response:
    """The process can serve: 503 while it starts, drains or has no store."""
    node = node_of(request)
    status = node.state
    if status == "ready":
        try:
            await node.store.ping()
        except ParleyError as error:
            status = error.code
    return reply({"status": status}, 200 if status == "ready" else 503)
