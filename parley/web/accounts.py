"""Routes: coming in, leaving, and who is who."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from parley.models import DeviceList, User, UserList
from parley.services.own_data import Export
from parley.services.sessions import SignedIn
from parley.web.answers import reply
from parley.web.callers import CallerOf, CoreOf, address, label
from parley.web.schemas import (
    AccountBody,
    Cursor,
    GuestBody,
    Limit,
    MemberKey,
    PasswordBody,
    ProfileBody,
    RefreshBody,
    SessionKey,
    SignInBody,
)

router = APIRouter(tags=["accounts"])


@router.post("/accounts", status_code=201, response_model=SignedIn)
async def register(body: AccountBody, core: CoreOf, request: Request) -> Response:
    """Make an account and sign in."""
    made = await core.accounts.register(
        body.name, body.password, body.display_name, label(request), address(request)
    )
    return reply(made, 201)


@router.post("/sessions", status_code=201, response_model=SignedIn)
async def sign_in(body: SignInBody, core: CoreOf, request: Request) -> Response:
    """Sign in with a name and a password, on one more device."""
    signed_in = await core.accounts.sign_in(body.name, body.password, label(request), address(request))
    return reply(signed_in, 201)


@router.post("/sessions/refresh", status_code=201, response_model=SignedIn)
async def refresh(body: RefreshBody, core: CoreOf) -> Response:
    """New tokens in place of a refresh token, which is good once."""
    return reply(await core.sessions.refresh(body.refresh_token), 201)


@router.get("/sessions", response_model=DeviceList)
async def list_sessions(caller: CallerOf, core: CoreOf) -> Response:
    """Where I am signed in."""
    return reply(DeviceList(items=await core.sessions.devices(caller)))


@router.delete("/sessions", status_code=204)
async def sign_out_everywhere(caller: CallerOf, core: CoreOf) -> Response:
    """Sign out on all devices, this one too."""
    await core.sessions.sign_out(caller, everywhere=True)
    return Response(status_code=204)


@router.post("/sessions/guest", status_code=201, response_model=SignedIn)
async def come_in_as_guest(body: GuestBody, core: CoreOf, request: Request) -> Response:
    """Come in with nothing but a display name."""
    return reply(await core.accounts.guest(body.display_name, label(request), address(request)), 201)


@router.delete("/sessions/current", status_code=204)
async def sign_out(caller: CallerOf, core: CoreOf) -> Response:
    """End this session; its connections are closed."""
    await core.sessions.sign_out(caller)
    return Response(status_code=204)


@router.delete("/sessions/{session}", status_code=204)
async def sign_out_device(session: SessionKey, caller: CallerOf, core: CoreOf) -> Response:
    """End another of my sessions."""
    await core.sessions.sign_out_device(caller, session)
    return Response(status_code=204)


@router.get("/me", response_model=User)
async def see_myself(caller: CallerOf, core: CoreOf) -> Response:
    """Who am I?"""
    return reply(await core.accounts.see(caller.user.id))


@router.delete("/me", status_code=204)
async def delete_account(caller: CallerOf, core: CoreOf) -> Response:
    """Remove me. What I wrote stays, under nobody's name."""
    await core.own_data.delete(caller)
    return Response(status_code=204)


@router.get("/me/export", response_model=Export)
async def export(caller: CallerOf, core: CoreOf, cursor: Cursor = None) -> Response:
    """My own data, page by page: a page may hold no messages before the last one."""
    return reply(await core.own_data.export(caller, cursor))


@router.patch("/me", response_model=User)
async def change_profile(body: ProfileBody, caller: CallerOf, core: CoreOf) -> Response:
    """Be shown under another name."""
    return reply(await core.accounts.change_profile(caller, body.display_name))


@router.put("/me/password", status_code=204)
async def change_password(body: PasswordBody, caller: CallerOf, core: CoreOf) -> Response:
    """Take another password; all my other devices are signed out."""
    await core.accounts.change_password(caller, body.password, body.new_password)
    return Response(status_code=204)


@router.get("/users", response_model=UserList)
async def find_users(
    caller: CallerOf,
    core: CoreOf,
    query: Annotated[str | None, Query(min_length=1, max_length=200, description="how a name begins")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """People whose name or display name begins so; without `query`, those who are online."""
    if query is None:
        return reply(await core.accounts.online(cursor, limit))
    return reply(await core.accounts.find(query, cursor, limit))


@router.get("/users/{user}", response_model=User)
async def see_user(user: MemberKey, caller: CallerOf, core: CoreOf) -> Response:
    """Somebody, by id or name; `me` is the caller."""
    return reply(await core.accounts.whom(caller.user, user))
