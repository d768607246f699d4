"""Routes: what is said in rooms."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from parley.models import Changes, Message, Page
from parley.realtime.commands import ReadAnswer
from parley.web.answers import reply
from parley.web.callers import CallerOf, CoreOf
from parley.web.schemas import (
    MAX_NUMBER,
    EditBody,
    Limit,
    MessageKey,
    ReadBody,
    RoomKey,
    SendBody,
    Seq,
    UserKey,
)

router = APIRouter(tags=["messages"])

Emoji = Annotated[str, Path(max_length=200, examples=["👍"])]


@router.get("/rooms/{room}/messages", response_model=Page)
async def page(
    room: RoomKey,
    caller: CallerOf,
    core: CoreOf,
    before: Seq = None,
    after: Seq = None,
    limit: Limit = 50,
) -> Response:
    """The newest messages, or those before or after a `seq`; each page in `seq` order."""
    user_id = caller.user.id
    return reply(await core.messages.page(user_id, room, before=before, after=after, limit=limit))


@router.post(
    "/rooms/{room}/messages",
    status_code=201,
    response_model=Message,
    responses={200: {"model": Message, "description": "That id was stored already."}},
)
async def send(room: RoomKey, body: SendBody, caller: CallerOf, core: CoreOf) -> Response:
    """Write into a room. The same `id` again answers the message as it was stored."""
    room_id = await core.rooms.id_of(room, caller.user.id)
    applied = await core.messages.send(
        caller.user,
        room_id,
        body.text,
        id=body.id,
        reply_to=body.reply_to,
        session=caller.session,
    )
    return reply(applied.message, 201 if applied.fresh else 200)


@router.post(
    "/direct/{user}/messages",
    status_code=201,
    response_model=Message,
    responses={200: {"model": Message, "description": "That id was stored already."}},
)
async def send_direct(user: UserKey, body: SendBody, caller: CallerOf, core: CoreOf) -> Response:
    """Write to somebody: into the room of the two of you, which is made on first use."""
    room_id = await core.rooms.direct_id(caller.user, await core.accounts.whom(caller.user, user))
    applied = await core.messages.send(
        caller.user,
        room_id,
        body.text,
        id=body.id,
        reply_to=body.reply_to,
        session=caller.session,
    )
    return reply(applied.message, 201 if applied.fresh else 200)


@router.patch("/rooms/{room}/messages/{message}", response_model=Message)
async def edit(
    room: RoomKey, message: MessageKey, body: EditBody, caller: CallerOf, core: CoreOf
) -> Response:
    """Change the words of one's own message."""
    room_id = await core.rooms.id_of(room, caller.user.id)
    return reply((await core.messages.edit(caller.user, room_id, message, body.text)).message)


@router.delete("/rooms/{room}/messages/{message}", response_model=Message)
async def delete(room: RoomKey, message: MessageKey, caller: CallerOf, core: CoreOf) -> Response:
    """Take a message back; it keeps its place, without its text."""
    room_id = await core.rooms.id_of(room, caller.user.id)
    return reply((await core.messages.delete(caller.user, room_id, message)).message)


@router.put("/rooms/{room}/messages/{message}/reactions/{emoji}", response_model=Message)
async def react(room: RoomKey, message: MessageKey, emoji: Emoji, caller: CallerOf, core: CoreOf) -> Response:
    """Add an emoji."""
    room_id = await core.rooms.id_of(room, caller.user.id)
    return reply((await core.messages.react(caller.user, room_id, message, emoji, on=True)).message)


@router.delete("/rooms/{room}/messages/{message}/reactions/{emoji}", response_model=Message)
async def unreact(
    room: RoomKey, message: MessageKey, emoji: Emoji, caller: CallerOf, core: CoreOf
) -> Response:
    """Take one's emoji back."""
    room_id = await core.rooms.id_of(room, caller.user.id)
    return reply((await core.messages.react(caller.user, room_id, message, emoji, on=False)).message)


@router.get("/rooms/{room}/unread", response_model=Page)
async def unread(room: RoomKey, caller: CallerOf, core: CoreOf, mark: bool = False) -> Response:
    """What comes after the caller's read mark; `mark` moves it behind what is answered."""
    return reply(await core.messages.unread(caller.user, room, mark=mark))


@router.get("/rooms/{room}/changes", response_model=Changes)
async def changes(
    room: RoomKey,
    caller: CallerOf,
    core: CoreOf,
    since: Annotated[int, Query(ge=0, le=MAX_NUMBER)],
) -> Response:
    """What the room has become since a revision."""
    return reply(await core.messages.changes(caller.user.id, room, since))


@router.put("/rooms/{room}/read", response_model=ReadAnswer)
async def mark_read(room: RoomKey, body: ReadBody, caller: CallerOf, core: CoreOf) -> Response:
    """Move the caller's read mark forward."""
    return reply(ReadAnswer(seq=await core.marks.mark(caller.user, room, body.seq)))


@router.put("/rooms/{room}/typing", status_code=204)
async def start_typing(room: RoomKey, caller: CallerOf, core: CoreOf) -> Response:
    """I am writing something; it ends by itself after some seconds, or with the message."""
    await core.typing.start(caller.user, room)
    return Response(status_code=204)


@router.delete("/rooms/{room}/typing", status_code=204)
async def stop_typing(room: RoomKey, caller: CallerOf, core: CoreOf) -> Response:
    """I have stopped writing."""
    await core.typing.stop(caller.user, room)
    return Response(status_code=204)
