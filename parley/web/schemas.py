"""What requests carry. Answers are the models themselves."""

from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field

from parley.realtime.operations import MAX_HISTORY, MAX_MEMBERS, MAX_TTL

MAX_NUMBER = 2**53
UUID: dict[str, Any] = {"format": "uuid"}

RoomKey = Annotated[str, Path(max_length=200, description="the room's id or name")]
UserKey = Annotated[str, Path(max_length=200, description="the user's id or name")]
MemberKey = Annotated[str, Path(max_length=200, description="the user's id or name, or `me`")]
SessionKey = Annotated[str, Path(max_length=200, description="the session's id")]
MessageKey = Annotated[str, Path(max_length=200, description="the message's id")]
Seq = Annotated[int | None, Query(ge=0, le=MAX_NUMBER)]
Limit = Annotated[int, Query(ge=1, le=200)]
Cursor = Annotated[str | None, Query(max_length=200, description="`next` of the page before")]


class Body(BaseModel):
    """The base of every request body: types are taken at their word."""

    model_config = ConfigDict(strict=True, frozen=True)


class GuestBody(Body):
    """Who comes in."""

    display_name: str = Field(min_length=1, max_length=1000, examples=["Ann"])


class AccountBody(Body):
    """Who wants an account."""

    name: str = Field(max_length=200, examples=["ann"])
    password: str = Field(max_length=2000, examples=["correct horse battery"])
    display_name: str | None = Field(None, max_length=1000, examples=["Ann"])


class SignInBody(Body):
    """Who signs in."""

    name: str = Field(max_length=200, examples=["ann"])
    password: str = Field(max_length=2000, examples=["correct horse battery"])


class RefreshBody(Body):
    """A refresh token."""

    refresh_token: str = Field(max_length=4096)


class ProfileBody(Body):
    """What others read."""

    display_name: str = Field(max_length=1000, examples=["Ann"])


class PasswordBody(Body):
    """The old password and the new one."""

    password: str = Field(max_length=2000)
    new_password: str = Field(max_length=2000)


Capacity = Annotated[int | None, Field(ge=1, le=MAX_MEMBERS, description="members that it takes")]
HistoryLimit = Annotated[int | None, Field(ge=1, le=MAX_HISTORY, description="messages that it keeps")]
ReadOnly = Annotated[bool, Field(description="only the owner and moderators write")]
Seconds = Annotated[
    int | None, Field(ge=1, le=MAX_TTL, description="when it closes by itself, in seconds from now")
]
CloseWhenEmpty = Annotated[bool, Field(description="whether it closes when the last member leaves")]


class RoomBody(Body):
    """A room to be made; a name, a title, or both."""

    name: str | None = Field(None, max_length=1000, examples=["kitchen"])
    title: str | None = Field(None, max_length=1000, examples=["The kitchen"])
    kind: Literal["public", "private"] = "public"
    capacity: Capacity = None
    history_limit: HistoryLimit = None
    read_only: ReadOnly = False
    ttl_seconds: Seconds = None
    close_when_empty: CloseWhenEmpty = False


def _without_defaults(schema: dict[str, Any]) -> None:
    """What is not given stays as it is, whatever a default would say to those who read the API page."""
    for field in schema["properties"].values():
        field.pop("default", None)


class RoomChangeBody(Body):
    """Settings to change, those that are given; null takes a limit away."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    title: str = Field("", max_length=1000, examples=["The kitchen"])
    kind: Literal["public", "private"] = "public"
    capacity: Capacity = None
    history_limit: HistoryLimit = None
    read_only: ReadOnly = False
    ttl_seconds: Seconds = None
    close_when_empty: CloseWhenEmpty = False


class MemberBody(Body):
    """As what somebody is brought in."""

    role: Literal["owner", "moderator", "member", "reader"] = "member"


class RoleBody(Body):
    """Another role."""

    role: Literal["owner", "moderator", "member", "reader"]


Text = Annotated[
    str, Field(examples=["hello"], description="not blank; `max_message_bytes` of `/limits`, in UTF-8")
]


class SendBody(Body):
    """A message. With an `id` (a UUID) of one's own it is safe to send it again."""

    text: Text
    id: str | None = Field(None, max_length=200, json_schema_extra=UUID)
    reply_to: str | None = Field(None, max_length=200, json_schema_extra=UUID)


class EditBody(Body):
    """New words."""

    text: Text


class ReadBody(Body):
    """How far one has read."""

    seq: int = Field(ge=0, le=MAX_NUMBER)


class OneLiner(Body):
    """A message for `curl`: who says what, where."""

    user: str = Field(min_length=1, max_length=1000, examples=["john"])
    room: str = Field(min_length=1, max_length=1000, examples=["default"])
    text: Text
    id: str | None = Field(None, max_length=200, json_schema_extra=UUID)
