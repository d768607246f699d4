"""The console on a terminal: what a person types and sees."""

import asyncio
import os
import pty
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from parley.client import Chat
from parley.client.terminal import colour
from tests.client.conftest import CHAT
from tests.servers import ServerProcess, until

ROOT = Path(__file__).parents[2]


class Screen:
    """A console behind a pseudo-terminal, and all that it has drawn."""

    def __init__(self, pid: int, fd: int) -> None:
        self.pid = pid
        self._fd = fd
        self.drawn = ""
        os.set_blocking(fd, False)

    @property
    def text(self) -> str:
        """What was drawn, without escape sequences and carriage returns."""
        return re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|[=>78]|\][^\x07]*\x07)|\r", "", self.drawn)

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    async def shows(self, text: str) -> None:
        """Wait until it is drawn."""
        await until(lambda: self._read() and text in self.text, 20, repr(text))

    async def ends(self) -> int:
        """Wait for its end; the exit code."""
        ended: list[int] = []

        def has_ended() -> bool:
            self._read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                ended.append(os.waitstatus_to_exitcode(status))
            return bool(ended)

        await until(has_ended, 20, "the end")
        return ended[0]

    def _read(self) -> bool:
        try:
            self.drawn += os.read(self._fd, 65536).decode()
        except OSError:  # nothing yet, or nobody there any more
            pass
        return True

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)


@contextmanager
def screen(url: str, name: str = "ann", **environment: str) -> Iterator[Screen]:
    pid, fd = pty.fork()
    if pid == 0:
        # Nobody here answers when it asks where the cursor is.
        given = {"PROMPT_TOOLKIT_NO_CPR": "1", "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
        command = [*CHAT, name, "kitchen", "--server", url]
        os.execve(command[0], command, os.environ | given | environment)
    shown = Screen(pid, fd)
    try:
        yield shown
    finally:
        shown.close()


LEAVING = ["/quit\r", "\x04", "\x03"]


@pytest.mark.parametrize("keys", LEAVING, ids=["quit", "ctrl-d", "ctrl-c"])
async def test_a_person_writes_reads_and_leaves(running: ServerProcess, keys: str) -> None:
    async with Chat(running.url, name="bob", rooms=["kitchen"]) as bob:
        await bob.send("kitchen", "from before")
        with screen(running.url) as ann:
            await ann.shows("bob  from before")
            await ann.shows("────")
            await ann.shows("you are in kitchen")
            ann.type("hello\r")
            await ann.shows("ann  hello")
            told = await bob.send("kitchen", "first line\nsecond \x1b[31mline")
            await ann.shows("bob  first line\n           second \ufffd[31mline")
            await bob.request("message.edit", room="kitchen", message=told.id, text="better")
            await ann.shows("bob edited: better")
            await bob.request("message.react", room="kitchen", message=told.id, emoji="👍")
            await ann.shows("bob: “better” has 👍 1")
            await bob.request("message.delete", room="kitchen", message=told.id)
            await ann.shows("bob took back what was said at")
            ann.type("/who\r")
            await ann.shows("in kitchen: ann, bob")
            ann.type(keys)
            assert await ann.ends() == 0
            assert ann.text.count("ann  hello") == 1
            assert "Traceback" not in ann.text
        assert [each.display_name for each in await bob.members("kitchen")] == ["bob"]


async def test_a_server_that_goes_away_is_said_politely_and_nothing_is_lost(running: ServerProcess) -> None:
    with screen(running.url, NO_COLOR="1") as ann:
        await ann.shows("you are in kitchen")
        await asyncio.to_thread(running.kill)
        await ann.shows("— the server is away; I keep trying, and what you write will be sent —")
        ann.type("one\r")
        await ann.shows("(1 not sent yet)")
        ann.type("two\r")
        await ann.shows("(2 not sent yet)")
        await asyncio.to_thread(running.start)
        await ann.shows("— connected again —")
        await ann.shows("ann  one")
        await ann.shows("ann  two")
        ann.type("/quit\r")
        assert await ann.ends() == 0
        assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|38;)", ann.drawn), "NO_COLOR"


async def test_leaving_without_a_server_says_what_was_not_sent(running: ServerProcess) -> None:
    with screen(running.url) as ann:
        await ann.shows("you are in kitchen")
        await asyncio.to_thread(running.kill)
        await ann.shows("the server is away")
        ann.type("one\r")
        await ann.shows("(1 not sent yet)")
        os.kill(ann.pid, signal.SIGINT)
        assert await ann.ends() == 0
        assert "1 of your messages was not sent" in ann.text


def test_an_author_has_the_same_colour_every_day() -> None:
    assert colour("ann") == colour("ann") == "ansibrightblue"
    assert len({colour(name) for name in ("ann", "bob", "cleo")}) > 1
