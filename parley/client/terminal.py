"""The console for people: messages scroll by above the line that one writes."""

import asyncio
import contextlib
import zlib
from asyncio import Future
from datetime import datetime

from prompt_toolkit import PromptSession
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.utils import get_cwidth

from parley.client import notices, safe_text
from parley.client.chat import Chat
from parley.client.errors import ChatError, Refused
from parley.client.interrupts import until_one_ends
from parley.client.lifeline import Status
from parley.client.scroll import Scroll
from parley.client.transcript import Begun, Missing, Replaced, Shown, Transcript
from parley.realtime.protocol import Message

COLOURS = (
    "ansired ansigreen ansiyellow ansimagenta ansicyan ansibrightred ansibrightgreen "
    "ansibrightyellow ansibrightblue ansibrightmagenta ansibrightcyan"
).split()
QUIET = "ansibrightblack"
LAST_SECONDS = 3
"""How long leaving waits for what is still on its way."""
HELP = "/who: who is here; /quit or Ctrl-D: leave; // at the beginning writes a slash"


class Terminal:
    """One room on a terminal."""

    def __init__(self, name: str, room: str) -> None:
        self._name = name
        self._room = room
        self._session: PromptSession[str] = PromptSession(erase_when_done=True)
        self._scroll = Scroll(self._session.output)
        self._was_connected = False
        self._unsent = 0
        self._day = ""
        self._asking: set[asyncio.Task[None]] = set()

    def status(self, status: Status, reason: str) -> None:
        """Say what became of the connection."""
        if notice := notices.about(status, reason, self._name, self._was_connected):
            self.say(notice)
        self._was_connected = self._was_connected or status == "connected"

    def say(self, text: str) -> None:
        """A notice on a line of its own."""
        self._scroll.add([(QUIET, f"— {safe_text.line(text)} —")])

    async def run(self, chat: Chat) -> int:
        """Until the person leaves; returns the exit code. Raises `ChatEnded`."""
        transcript = Transcript(chat, self._room)
        with patch_stdout():
            try:
                await until_one_ends(self._read(chat), self._show(transcript))
                if self._unsent and chat.is_connected:
                    with contextlib.suppress(ChatError, TimeoutError):
                        await asyncio.wait_for(chat.flush(), LAST_SECONDS)
                if self._unsent:
                    verb = "was" if self._unsent == 1 else "were"
                    self.say(f"{self._unsent} of your messages {verb} not sent")
            finally:
                for asking in self._asking:
                    asking.cancel()
                await asyncio.gather(*self._asking, return_exceptions=True)
                await self._scroll.drawn()
        return 0

    async def _read(self, chat: Chat) -> None:
        while True:
            try:
                text = await self._session.prompt_async(self._prompt, handle_sigint=False)
            except (EOFError, KeyboardInterrupt):
                return
            match text.strip().split():
                case []:
                    continue
                case ["/quit" | "/exit" | "/q"]:
                    return
                case ["/help" | "/h" | "/?"]:
                    self.say(HELP)
                case ["/who"]:
                    asking = asyncio.create_task(self._who(chat))
                    self._asking.add(asking)
                    asking.add_done_callback(self._asking.discard)
                case [word, *_] if word.startswith("/") and not word.startswith("//"):
                    self.say(f"there is no {word} — {HELP}")
                case _:
                    await self._post(chat, text.removeprefix("/") if text.startswith("//") else text)

    async def _post(self, chat: Chat, text: str) -> None:
        try:
            future = await chat.post(self._room, text)
        except Refused as error:
            self._refused(error)
            return
        self._unsent += 1
        future.add_done_callback(self._answered)

    def _answered(self, future: "Future[Message]") -> None:
        self._unsent -= 1
        self._session.app.invalidate()
        if isinstance(error := future.exception(), Refused):
            self._refused(error)

    def _refused(self, error: Refused) -> None:
        self.say(f"not sent: {error.detail}")

    async def _who(self, chat: Chat) -> None:
        try:
            members = await chat.members(self._room)
        except (ChatError, TimeoutError) as error:
            self.say(f"that cannot be said now: {error}")
        else:
            names = sorted(member.display_name for member in members)
            self.say(f"in {self._room}: {', '.join(names)}")

    async def _show(self, transcript: Transcript) -> None:
        async for item in transcript.items():
            match item:
                case Shown():
                    self._show_message(item)
                case Begun(count):
                    if count:
                        self._scroll.add([(QUIET, "─" * 40)])
                    self.say(f"you are in {self._room}; /help says more")
                case Missing(count):
                    self.say(f"{count} messages are not shown")
                case Replaced():
                    self.say("this room has begun anew")

    def _show_message(self, shown: Shown) -> None:
        message = shown.message
        at = datetime.fromisoformat(message.sent_at).astimezone()
        name = safe_text.line(message.author_name)
        if shown.what == "sent":
            if (day := f"{at:%A %d %B}") != self._day:
                self._day = day
                self.say(day)
            indent = " " * (6 + get_cwidth(name) + 2)
            first, *others = safe_text.lines(message.text)
            rest = "".join(f"\n{indent}{line}" for line in others)
            self._scroll.add(
                [(QUIET, f"{at:%H:%M} "), (f"bold {colour(name)}", name), ("", f"  {first}{rest}")]
            )
            return
        match shown.what:
            case "edited":
                text = f"{name} edited: {safe_text.line(message.text)}"
            case "deleted":
                text = f"{name} took back what was said at {at:%H:%M}"
            case _:
                reactions = message.reactions.items()
                counts = " ".join(f"{safe_text.line(emoji)} {len(who)}" for emoji, who in reactions)
                text = f"{name}: “{_short(message.text)}” has {counts or 'no reactions'}"
        self._scroll.add([(QUIET, f"      {text}")])

    def _prompt(self) -> FormattedText:
        waiting = f"({self._unsent} not sent yet) " if self._unsent else ""
        return FormattedText([(QUIET, waiting), ("bold", "> ")])


def colour(name: str) -> str:
    """The same colour for the same name, today and tomorrow."""
    return COLOURS[zlib.crc32(name.encode()) % len(COLOURS)]


def _short(text: str) -> str:
    text = safe_text.line(text)
    return text if len(text) <= 30 else f"{text[:29]}…"
