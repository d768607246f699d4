"""From the words of the protocol to the services: one line per operation."""

from asyncio import Future

from parley.errors import InvalidField
from parley.models import Applied, DeviceList, Model, Room, User
from parley.realtime import protocol as p
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


class ReadAnswer(Model):
    """The answer that is a read mark."""

    seq: int


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
            return p.Done()
        case p.UserSee():
            return UserAnswer(user=await core.accounts.see(user.id if command.user == "me" else command.user))
        case p.UserFind():
            return await core.accounts.find(command.query, command.cursor, command.limit)
        case p.SessionListing():
            return DeviceList(items=await core.sessions.devices(caller))
        case p.SignOut(session=str(session_id)):
            await core.sessions.sign_out_device(caller, session_id)
            return p.Done()
        case p.RoomCreate():
            return RoomAnswer(
                room=await rooms.create(
                    user,
                    name=command.name,
                    title=command.title,
                    history_limit=command.history_limit,
                    ttl_seconds=command.ttl_seconds,
                )
            )
        case p.RoomSee():
            return RoomAnswer(room=await rooms.see(command.room, user.id))
        case p.RoomListing():
            return await rooms.listing(user.id, command.scope, command.cursor, command.limit)
        case p.RoomJoin():
            return RoomAnswer(room=await rooms.join(user, command.room))
        case p.RoomLeave():
            await rooms.leave(user, command.room)
            return p.Done()
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
            return p.Done()
        case p.TypingStop():
            await core.typing.stop(user, command.room)
            return p.Done()
        case p.ServerStats():
            return await core.stats.see()
        case p.ReadMark():
            return ReadAnswer(seq=await messages.mark_read(user, command.room, command.seq))
        case _:
            raise InvalidField("That operation makes no sense here.")
