"""Routes: coming in, leaving, and who is who."""

from fastapi import APIRouter, Response

from parley.models import User
from parley.services.accounts import SignedIn
from parley.web.answers import reply
from parley.web.callers import CallerOf, CoreOf
from parley.web.schemas import GuestBody

router = APIRouter(tags=["accounts"])


@router.post("/sessions/guest", status_code=201, response_model=SignedIn)
async def come_in_as_guest(body: GuestBody, core: CoreOf) -> Response:
    """Come in with nothing but a display name."""
    return reply(await core.accounts.guest(body.display_name), 201)


@router.delete("/sessions/current", status_code=204)
async def sign_out(caller: CallerOf, core: CoreOf) -> Response:
    """End this session; its connections are closed."""
    await core.accounts.sign_out(caller)
    return Response(status_code=204)


@router.get("/me", response_model=User)
async def see_myself(caller: CallerOf, core: CoreOf) -> Response:
    """Who am I?"""
    return reply(await core.accounts.see(caller.user.id))


@router.get("/users/{user}", response_model=User)
async def see_user(user: str, caller: CallerOf, core: CoreOf) -> Response:
    """Somebody, by id or name; `me` is the caller."""
    return reply(await core.accounts.see(caller.user.id if user == "me" else user))
