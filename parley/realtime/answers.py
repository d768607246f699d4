"""What each operation answers: one table, from which the API's description is made."""

from collections.abc import Mapping

from parley.models import (
    Changes,
    DeviceList,
    Limits,
    MemberList,
    Model,
    Page,
    RoomList,
    SearchResult,
    Stats,
    UserList,
)
from parley.realtime import operations as p
from parley.realtime.commands import MemberAnswer, ReadAnswer, RoomAnswer, UserAnswer
from parley.realtime.protocol import Done, MessageAnswer, Welcome
from parley.services.own_data import Export
from parley.services.sessions import SignedIn

ANSWERS: Mapping[type[p.Command], type[Model]] = {
    p.Hello: Welcome,
    p.Register: SignedIn,
    p.SignIn: SignedIn,
    p.ComeAsGuest: SignedIn,
    p.Refresh: SignedIn,
    p.AccountExport: Export,
    p.AccountDelete: Done,
    p.ProfileSee: UserAnswer,
    p.ProfileChange: UserAnswer,
    p.PasswordChange: Done,
    p.UserSee: UserAnswer,
    p.UserFind: UserList,
    p.SessionListing: DeviceList,
    p.SignOut: Done,
    p.RoomCreate: RoomAnswer,
    p.RoomChange: RoomAnswer,
    p.RoomClose: Done,
    p.RoomDirect: RoomAnswer,
    p.RoomSee: RoomAnswer,
    p.RoomListing: RoomList,
    p.RoomJoin: RoomAnswer,
    p.RoomLeave: Done,
    p.RoomOpen: RoomAnswer,
    p.MemberAdd: RoomAnswer,
    p.MemberRemove: Done,
    p.MemberChange: MemberAnswer,
    p.MemberListing: MemberList,
    p.MessageSend: MessageAnswer,
    p.MessageEdit: MessageAnswer,
    p.MessageDelete: MessageAnswer,
    p.MessageReact: MessageAnswer,
    p.MessageUnreact: MessageAnswer,
    p.MessagePage: Page,
    p.MessageUnread: Page,
    p.MessageChanges: Changes,
    p.MessageSearch: SearchResult,
    p.ReadMark: ReadAnswer,
    p.TypingStart: Done,
    p.TypingStop: Done,
    p.ServerLimits: Limits,
    p.ServerStats: Stats,
}
"""Operation to the `ok` of its answer. What is refused answers `Refusal` instead."""
