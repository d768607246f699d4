"""The console for pipes: one line in is one message out, and one message in is one line out."""

import asyncio
import contextlib
import os
import sys
from asyncio import Future

from parley.client import notices, safe_text, streams
from parley.client.chat import Chat
from parley.client.errors import Refused
from parley.client.interrupts import until_one_ends
from parley.client.lifeline import Status
from parley.client.transcript import Begun, Missing, Shown, Transcript
from parley.client.typed_lines import typed_lines
from parley.realtime.protocol import Message

SHOW_SECONDS = 10
"""How long the end waits for what was stored to be shown, too."""
INTERRUPTED = 130
STDIN = 0


class Plain:
    """Lines in, lines out; what concerns the connection goes to standard error."""

    def __init__(self, name: str, room: str) -> None:
        self._name = name
        self._room = room
        self._is_typed = os.isatty(STDIN)
        self._was_connected = False
        self._has_begun = asyncio.Event()
        self._shown = asyncio.Event()
        self._stored_seq = 0
        self._failed = False

    def status(self, status: Status, reason: str) -> None:
        """Say what became of the connection."""
        if notice := notices.about(status, reason, self._name, self._was_connected):
            streams.complain(notice)
        self._was_connected = self._was_connected or status == "connected"

    async def run(self, chat: Chat) -> int:
        """Until the end of the input, or an interruption; returns the exit code. Raises `ChatEnded`."""
        transcript = Transcript(chat, self._room)
        try:
            if await until_one_ends(self._write(chat, transcript), self._show(chat, transcript)):
                return INTERRUPTED
        except BrokenPipeError:
            streams.give_up_stdout()
            return 0
        return int(self._failed)

    async def _write(self, chat: Chat, transcript: Transcript) -> None:
        """Send each line, and wait until all are stored and shown."""
        await self._has_begun.wait()
        async for line in typed_lines(STDIN):
            if line and not line.isspace():
                try:
                    future = await chat.post(self._room, line)
                except Refused as error:
                    self._refused(error)
                else:
                    future.add_done_callback(self._answered)
        await chat.flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SHOW_SECONDS):
                while transcript.last_seq < self._stored_seq:
                    self._shown.clear()
                    await self._shown.wait()

    def _answered(self, future: "Future[Message]") -> None:
        error = future.exception()
        if error is None:
            self._stored_seq = future.result().seq
        elif isinstance(error, Refused):
            self._refused(error)

    def _refused(self, error: Refused) -> None:
        self._failed = True
        streams.complain(f"not sent: {error.detail}")

    async def _show(self, chat: Chat, transcript: Transcript) -> None:
        async for item in transcript.items():
            match item:
                case Shown("sent", message) if not (self._is_typed and chat.is_mine(message)):
                    sys.stdout.write(f"{plain_line(message)}\n")
                    sys.stdout.flush()
                case Missing(count):
                    streams.complain(f"{count} messages are not shown")
                case Begun():
                    self._has_begun.set()
            self._shown.set()


def plain_line(message: Message) -> str:
    """A message on one line."""
    return f"{safe_text.line(message.author_name)}: {safe_text.line(message.text)}"
