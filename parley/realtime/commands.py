"""From the words of the protocol to the services: one line per operation."""

from asyncio import Future
from typing import Any

from msgspec.structs import asdict

from parley.errors import InvalidField
from parley.models import Applied, DeviceList, Member, Model, Room, User
from parley.realtime import operations as p
from parley.realtime.protocol import Done
from parley.services.core import Core
from parley.services.sessions import Caller

Writing = p.MessageSend | p.MessageEdit | p.MessageDelete | p.MessageReact | p.MessageUnreact
"""Commands that only need the journal: they are handed over at once, and answered when they are durable."""


class UserAnswer(Model):
    """The answer that is a user."""

    user: User


class RoomAnswer(Model):
    """The answer that is a room."""

    room: Room


class MemberAnswer(Model):
    """The answer that is a member."""

    member: Member


class ReadAnswer(Model):
    """The answer that is a read mark."""

    seq: int


def known_room(core: Core, user: User, command: Writing) -> str | None:
    """The id of the room that a command writes into, if it can be told without asking the store."""
    if isinstance(command, p.MessageSend) and command.user is not None:
        return None if command.room is not None else core.rooms.known_direct(user.id, command.user)
    return core.rooms.known_id(command.room) if command.room is not None else None


async def room_of(core: Core, user: User, command: Writing) -> str:
    """The id of the room that a command writes into. Raises `RoomNotFound`, `UserNotFound`, `InvalidField`,
    `LimitReached`."""
    if isinstance(command, p.MessageSend):
        if (command.room is None) == (command.user is None):
            raise InvalidField("room or user: one of them is needed.")
        if command.user is not None:
            return await core.rooms.direct_id(user, await core.accounts.whom(user, command.user))
    return await core.rooms.id_of(command.room or "", user.id)


async def arrive(core: Core, command: p.Arriving, label: str, address: str) -> Model:
    """Do what somebody asks who need not be signed in. Raises what refuses it."""
    match command:
        case p.Register():
            named = (command.name, command.password, command.display_name)
            return await core.accounts.register(*named, label, address)
        case p.SignIn():
            return await core.accounts.sign_in(command.name, command.password, label, address)
        case p.ComeAsGuest():
            return await core.accounts.guest(command.display_name, label, address)
        case p.Refresh():
            return await core.sessions.refresh(command.refresh_token)
        case p.ServerLimits():
            return core.stats.limits()


def write(core: Core, caller: Caller, room_id: str, command: Writing) -> Future[Applied]:
    """Hand a change to the journal. Raises what refuses it before it gets there."""
    messages, user = core.messages, caller.user
    match command:
        case p.MessageSend():
            return messages.send(
                user,
                room_id,
                command.text,
                id=command.id,
                reply_to=command.reply_to,
                session=caller.session,
            )
        case p.MessageEdit():
            return messages.edit(user, room_id, command.message, command.text)
        case p.MessageDelete():
            return messages.delete(user, room_id, command.message)
        case p.MessageReact():
            return messages.react(user, room_id, command.message, command.emoji, on=True)
        case p.MessageUnreact():
            return messages.react(user, room_id, command.message, command.emoji, on=False)


async def run(core: Core, caller: Caller, command: p.AnyCommand) -> Model:
    """Do what a command asks and return its answer. Raises what refuses it."""
    user, rooms, messages = caller.user, core.rooms, core.messages
    match command:
        case p.ProfileSee():
            return UserAnswer(user=await core.accounts.see(user.id))
        case p.ProfileChange():
            return UserAnswer(user=await core.accounts.change_profile(caller, command.display_name))
        case p.PasswordChange():
            await core.accounts.change_password(caller, command.password, command.new_password)
            return Done()
        case p.UserSee():
            return UserAnswer(user=await core.accounts.whom(user, command.user))
        case p.UserFind():
            if command.query is None:
                return await core.accounts.online(command.cursor, command.limit)
            return await core.accounts.find(command.query, command.cursor, command.limit)
        case p.AccountExport():
            return await core.own_data.export(caller, command.cursor)
        case p.SessionListing():
            return DeviceList(items=await core.sessions.devices(caller))
        case p.SignOut(session=str(session_id)):
            await core.sessions.sign_out_device(caller, session_id)
            return Done()
        case p.RoomCreate():
            return RoomAnswer(room=await rooms.create(user, **_fields(command, "ref")))
        case p.RoomChange():
            changed = await rooms.change(user, command.room, **_fields(command, "ref", "room"))
            return RoomAnswer(room=changed)
        case p.RoomClose():
            await rooms.close(user, command.room)
            return Done()
        case p.RoomDirect():
            return RoomAnswer(room=await rooms.direct(user, await core.accounts.whom(user, command.user)))
        case p.RoomSee():
            return RoomAnswer(room=await rooms.see(command.room, user.id))
        case p.RoomListing():
            return await rooms.listing(user.id, command.scope, command.cursor, command.limit)
        case p.RoomJoin():
            return RoomAnswer(room=await rooms.join(user, command.room))
        case p.RoomLeave():
            await rooms.leave(user, command.room)
            return Done()
        case p.MemberAdd():
            added = await core.accounts.whom(user, command.user)
            return RoomAnswer(room=await rooms.add_member(user, command.room, added.id, command.role))
        case p.MemberRemove():
            removed = await core.accounts.whom(user, command.user)
            await rooms.remove_member(user, command.room, removed.id)
            return Done()
        case p.MemberChange():
            member = await core.accounts.whom(user, command.user)
            changed_member = await rooms.change_role(user, command.room, member.id, command.role)
            return MemberAnswer(member=changed_member)
        case p.MemberListing():
            return await rooms.members(user.id, command.room, command.cursor, command.limit)
        case p.MessagePage():
            return await messages.page(
                user.id,
                command.room,
                before=command.before,
                after=command.after,
                limit=command.limit,
            )
        case p.MessageUnread():
            return await messages.unread(user, command.room, mark=command.mark)
        case p.MessageChanges():
            return await messages.changes(user.id, command.room, command.since)
        case p.MessageSearch():
            return await messages.search(user.id, command.query, command.room, command.cursor, command.limit)
        case p.TypingStart():
            await core.typing.start(user, command.room)
            return Done()
        case p.TypingStop():
            await core.typing.stop(user, command.room)
            return Done()
        case p.ServerStats():
            return await core.stats.see()
        case p.ReadMark():
            return ReadAnswer(seq=await core.marks.mark(user, command.room, command.seq))
        case _:
            raise InvalidField("That operation makes no sense here.")


def _fields(command: p.Command, *but: str) -> dict[str, Any]:
    """What a command asks for, by name."""
    return {name: value for name, value in asdict(command).items() if name not in but}
