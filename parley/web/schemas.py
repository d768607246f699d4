"""What requests carry. Answers are the models themselves."""

from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field

from parley.realtime.protocol import MAX_HISTORY, MAX_TTL

MAX_NUMBER = 2**53
UUID: dict[str, Any] = {"format": "uuid"}

RoomKey = Annotated[str, Path(max_length=200, description="the room's id or name")]
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


class RoomBody(Body):
    """A room to be made; a name, a title, or both."""

    name: str | None = Field(None, max_length=1000, examples=["kitchen"])
    title: str | None = Field(None, max_length=1000, examples=["The kitchen"])
    history_limit: int | None = Field(None, ge=1, le=MAX_HISTORY, description="messages that it keeps")
    ttl_seconds: int | None = Field(None, ge=1, le=MAX_TTL, description="when it closes by itself")


class SendBody(Body):
    """A message. With an `id` (a UUID) of one's own it is safe to send it again."""

    text: str = Field(examples=["hello"])
    id: str | None = Field(None, max_length=200, json_schema_extra=UUID)
    reply_to: str | None = Field(None, max_length=200, json_schema_extra=UUID)


class EditBody(Body):
    """New words."""

    text: str


class ReadBody(Body):
    """How far one has read."""

    seq: int = Field(ge=0, le=MAX_NUMBER)


class OneLiner(Body):
    """A message for `curl`: who says what, where."""

    user: str = Field(min_length=1, max_length=1000, examples=["john"])
    room: str = Field(min_length=1, max_length=1000, examples=["default"])
    text: str = Field(examples=["hello"])
    id: str | None = Field(None, max_length=200, json_schema_extra=UUID)
