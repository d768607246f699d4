"""Routes outside the prefix: chat with nothing but `curl`, and a page that says so."""

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from parley.models import Message
from parley.web.answers import reply
from parley.web.callers import CoreOf
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
    applied = await core.post_as_guest(body.user, body.room, body.text, id=body.id)
    return reply(applied.message, 201 if applied.fresh else 200)


@router.get("/", include_in_schema=False)
async def welcome() -> Response:
    """What a browser sees until there is a web app."""
    return HTMLResponse(WELCOME)
