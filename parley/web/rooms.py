"""Routes: rooms and who is in them."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from parley.models import Member, MemberList, Room, RoomList
from parley.web.answers import reply
from parley.web.callers import CallerOf, CoreOf
from parley.web.schemas import (
    Cursor,
    Limit,
    MemberBody,
    MemberKey,
    RoleBody,
    RoomBody,
    RoomChangeBody,
    RoomKey,
    UserKey,
)

router = APIRouter(tags=["rooms"])


@router.get("/rooms", response_model=RoomList)
async def list_rooms(
    caller: CallerOf,
    core: CoreOf,
    scope: Annotated[Literal["public", "mine"], Query()] = "public",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Public rooms, or those that the caller is in, with what they have not read there."""
    return reply(await core.rooms.listing(caller.user.id, scope, cursor, limit))


@router.post("/rooms", status_code=201, response_model=Room)
async def create_room(body: RoomBody, caller: CallerOf, core: CoreOf) -> Response:
    """Make a room; the caller is its owner."""
    return reply(await core.rooms.create(caller.user, **body.model_dump()), 201)


@router.get("/rooms/{room}", response_model=Room)
async def see_room(room: RoomKey, caller: CallerOf, core: CoreOf) -> Response:
    """One room."""
    return reply(await core.rooms.see(room, caller.user.id))


@router.patch("/rooms/{room}", response_model=Room)
async def change_room(room: RoomKey, body: RoomChangeBody, caller: CallerOf, core: CoreOf) -> Response:
    """Change a room's settings, those that are given."""
    return reply(await core.rooms.change(caller.user, room, **body.model_dump(exclude_unset=True)))


@router.delete("/rooms/{room}", status_code=204)
async def close_room(room: RoomKey, caller: CallerOf, core: CoreOf) -> Response:
    """Close a room for everybody."""
    await core.rooms.close(caller.user, room)
    return Response(status_code=204)


@router.put("/direct/{user}", response_model=Room)
async def open_direct_room(user: UserKey, caller: CallerOf, core: CoreOf) -> Response:
    """The room of the two of you, made on first use."""
    return reply(await core.rooms.direct(caller.user, await core.accounts.whom(caller.user, user)))


@router.get("/rooms/{room}/members", response_model=MemberList)
async def list_members(
    room: RoomKey, caller: CallerOf, core: CoreOf, cursor: Cursor = None, limit: Limit = 50
) -> Response:
    """Who is in the room."""
    return reply(await core.rooms.members(caller.user.id, room, cursor, limit))


@router.put("/rooms/{room}/members/{user}", response_model=Room)
async def add_member(
    room: RoomKey, user: MemberKey, caller: CallerOf, core: CoreOf, body: MemberBody | None = None
) -> Response:
    """Join a public room, as `me`, or bring somebody in; who is in already stays as they are."""
    added = await core.accounts.whom(caller.user, user)
    role = body.role if body is not None else "member"
    return reply(await core.rooms.add_member(caller.user, room, added.id, role))


@router.patch("/rooms/{room}/members/{user}", response_model=Member)
async def change_role(
    room: RoomKey, user: MemberKey, body: RoleBody, caller: CallerOf, core: CoreOf
) -> Response:
    """Give a member another role."""
    member = await core.accounts.whom(caller.user, user)
    return reply(await core.rooms.change_role(caller.user, room, member.id, body.role))


@router.delete("/rooms/{room}/members/{user}", status_code=204)
async def remove_member(room: RoomKey, user: MemberKey, caller: CallerOf, core: CoreOf) -> Response:
    """Leave a room, as `me`, or show somebody the door."""
    member = await core.accounts.whom(caller.user, user)
    await core.rooms.remove_member(caller.user, room, member.id)
    return Response(status_code=204)
