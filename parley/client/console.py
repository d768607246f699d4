"""What `parley chat` runs: one room, on a terminal or through pipes."""

import contextlib
import logging
import os
import sys
from typing import Protocol

from parley.client import streams
from parley.client.chat import Chat
from parley.client.errors import ChatEnded, ChatError
from parley.client.lifeline import Status
from parley.client.plain import Plain
from parley.client.terminal import Terminal

REFUSED = 2
FAILED = 1
LEAVE_SECONDS = 2


class Look(Protocol):
    """How a room is shown and written in."""

    def status(self, status: Status, reason: str) -> None:
        """Say what became of the connection."""

    async def run(self, chat: Chat) -> int:
        """Until the person leaves or the input ends; returns the exit code. Raises `ChatEnded`."""


async def chat(name: str, room: str, server: str, plain: bool) -> int:
    """Take part in a room as a guest until the person leaves or the input ends; returns the exit code.

    0: all is well; 1: it is not; 2: the server does not take the name or the room; 130: interrupted.
    """
    logging.getLogger("parley.client").addHandler(logging.NullHandler())
    look: Look = Plain(name, room) if plain or not _is_terminal() else Terminal(name, room)
    try:
        taking_part = Chat(server, name=name, rooms=[room], on_status=look.status)
    except ValueError as error:
        return _failed(str(error), REFUSED)
    try:
        async with taking_part:
            code = await look.run(taking_part)
            if code == 0:
                await _leave(taking_part, room)
            return code
    except ChatEnded as error:
        return _failed(str(error), REFUSED if error.refusal else FAILED)
    except Exception as error:
        return _failed(f"something went wrong: {str(error) or repr(error)}", FAILED)


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


async def _leave(taking_part: Chat, room: str) -> None:
    """Guests do not come back under the same id, so that their membership would only be in the way."""
    if taking_part.is_connected:
        with contextlib.suppress(ChatError, TimeoutError):
            await taking_part.request("room.leave", seconds=LEAVE_SECONDS, room=room)


def _failed(reason: str, code: int) -> int:
    streams.complain(reason)
    return code
