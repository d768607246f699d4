"""Routes: rooms and who is in them."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from parley.errors import NotAllowed
from parley.models import MemberList, Room, RoomList
from parley.web.answers import reply
from parley.web.callers import CallerOf, CoreOf
from parley.web.schemas import Cursor, Limit, RoomBody, RoomKey

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
    """Make a public room; the caller is its owner."""
    room = await core.rooms.create(
        caller.user,
        name=body.name,
        title=body.title,
        history_limit=body.history_limit,
        ttl_seconds=body.ttl_seconds,
    )
    return reply(room, 201)


@router.get("/rooms/{room}", response_model=Room)
async def see_room(room: RoomKey, caller: CallerOf, core: CoreOf) -> Response:
    """One room."""
    return reply(await core.rooms.see(room, caller.user.id))


@router.get("/rooms/{room}/members", response_model=MemberList)
async def list_members(
    room: RoomKey, caller: CallerOf, core: CoreOf, cursor: Cursor = None, limit: Limit = 50
) -> Response:
    """Who is in the room."""
    return reply(await core.rooms.members(caller.user.id, room, cursor, limit))


@router.put("/rooms/{room}/members/{user}", response_model=Room)
async def join_room(room: RoomKey, user: str, caller: CallerOf, core: CoreOf) -> Response:
    """Join a room: `user` is `me`."""
    _only_me(user, caller.user.id)
    return reply(await core.rooms.join(caller.user, room))


@router.delete("/rooms/{room}/members/{user}", status_code=204)
async def leave_room(room: RoomKey, user: str, caller: CallerOf, core: CoreOf) -> Response:
    """Leave a room: `user` is `me`."""
    _only_me(user, caller.user.id)
    await core.rooms.leave(caller.user, room)
    return Response(status_code=204)


def _only_me(user: str, user_id: str) -> None:
    if user not in ("me", user_id):
        raise NotAllowed("You can only speak for yourself here: use `me`.")
