"""The console through pipes, a process of its own: one line in, one message out, none lost, none twice."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from parley.client import Chat
from tests.client.conftest import CHAT, OpenConsole
from tests.client.test_chat import stored_texts
from tests.servers import ServerProcess, server

ROOT = Path(__file__).parents[2]


async def kitchen_texts(url: str) -> list[str]:
    """What the kitchen holds, as a stranger reads it."""
    async with Chat(url, name="cleo", rooms=["kitchen"]) as cleo:
        await cleo.ready()
        return await stored_texts(cleo)


async def test_a_hundred_lines_in_are_a_hundred_messages_and_a_hundred_lines_out(
    running: ServerProcess, console: OpenConsole
) -> None:
    bot = await console("bot", "kitchen", running.url)
    await bot.write(*["y"] * 100)
    assert await bot.end() == (0, ["bot: y"] * 100, [])
    assert await kitchen_texts(running.url) == ["y"] * 100


async def test_two_consoles_talk_and_the_history_comes_first(
    running: ServerProcess, console: OpenConsole
) -> None:
    ann = await console("ann", "kitchen", running.url)
    await ann.write(*[f"text {number}" for number in range(25)])
    assert await ann.read(25) == [f"ann: text {number}" for number in range(25)]
    bob = await console("bob", "kitchen", running.url)
    assert await bob.read(20) == [f"ann: text {number}" for number in range(5, 25)]
    await bob.write("hello", "", "   ", "again")
    for each in (ann, bob):
        assert await each.read(2) == ["bob: hello", "bob: again"]
    assert await ann.end() == (0, [], [])
    assert await bob.end() == (0, [], [])


async def test_a_restart_in_the_middle_loses_and_doubles_nothing(
    running: ServerProcess, console: OpenConsole
) -> None:
    ann, bob = await console("ann", "kitchen", running.url), await console("bob", "kitchen", running.url)
    texts = [f"text {number}" for number in range(300)]
    lines = [f"ann: {text}" for text in texts]
    await ann.write(texts[0])
    for each in (ann, bob):
        assert await each.read() == lines[:1]
    await ann.write(*texts[1:100])
    for each in (ann, bob):
        assert await each.read(99) == lines[1:100]
    await ann.write(*texts[100:200])
    await asyncio.to_thread(running.kill)
    for each in (ann, bob):
        assert (
            await each.complaint()
            == "parley: the server is away; I keep trying, and what you write will be sent"
        )
    await ann.write(*texts[200:])
    await asyncio.to_thread(running.start)
    assert await ann.end() == (0, lines[100:], ["parley: connected again"])
    assert await bob.read(200) == lines[100:]
    assert await bob.end() == (0, [], ["parley: connected again"])
    assert await kitchen_texts(running.url) == texts


async def test_a_console_that_begins_before_the_server_waits_for_it(
    tmp_path: Path, console: OpenConsole
) -> None:
    later = ServerProcess(tmp_path)
    ann = await console("ann", "kitchen", later.url)
    assert "I keep trying" in await ann.complaint()
    await ann.write("hello")
    await asyncio.to_thread(later.start)
    try:
        assert await ann.end() == (0, ["ann: hello"], [])
    finally:
        await asyncio.to_thread(later.stop)


async def test_an_interruption_ends_it_at_once_although_the_server_is_away(
    running: ServerProcess, console: OpenConsole
) -> None:
    ann = await console("ann", "kitchen", running.url)
    await ann.write("one")
    assert await ann.read() == ["ann: one"]
    await asyncio.to_thread(running.kill)
    await ann.complaint()
    await ann.write("two")
    begun = asyncio.get_running_loop().time()
    ann.interrupt()
    code, printed, complained = await ann.end()
    assert (code, printed, complained) == (130, [], [])
    assert asyncio.get_running_loop().time() - begun < 5


async def test_a_reader_that_has_enough_ends_it_without_a_word(
    running: ServerProcess, console: OpenConsole
) -> None:
    ann = await console("ann", "kitchen", running.url)
    await ann.write("one")
    await ann.read()
    assert ann.process._transport is not None  # type: ignore[attr-defined]
    ann.process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    await ann.write("two")
    async with asyncio.timeout(10):
        assert await ann.process.wait() == 0
    assert await ann.complaint() == ""


@pytest.mark.parametrize(
    ("name", "room", "url", "code"),
    [
        ("ann", "no good", None, 2),
        ("a\u202enn", "kitchen", None, 2),
        ("ann", "kitchen", "ftp://example.org", 2),
        ("ann", "kitchen", "/nothing/here", 1),
    ],
)
async def test_what_cannot_be_is_one_line_and_an_exit_code(
    running: ServerProcess, console: OpenConsole, name: str, room: str, url: str | None, code: int
) -> None:
    address = running.url if url is None else running.url + url if url.startswith("/") else url
    ann = await console(name, room, address)
    ended, printed, complained = await ann.end()
    assert (ended, printed, len(complained)) == (code, [], 1)
    assert complained[0].startswith("parley: ")


async def test_a_line_that_is_refused_is_said_and_the_others_go_out(
    running: ServerProcess, console: OpenConsole
) -> None:
    ann = await console("ann", "kitchen", running.url)
    await ann.write("one", "x" * 20_000, "two")
    code, printed, complained = await ann.end()
    assert (code, printed, len(complained)) == (1, ["ann: one", "ann: two"], 1)
    assert complained[0].startswith("parley: not sent: ")


async def test_a_session_that_has_gone_is_made_anew_and_the_rest_goes_out(
    tmp_path: Path, console: OpenConsole
) -> None:
    async with server(tmp_path, store="memory://") as forgetful:
        ann = await console("ann", "kitchen", forgetful.url)
        await ann.write("one")
        assert await ann.read() == ["ann: one"]
        await asyncio.to_thread(forgetful.stop)  # not killed: what was shown is acknowledged too
        await ann.complaint()
        await ann.write("two")
        await asyncio.to_thread(forgetful.start)
        assert await ann.read() == ["ann: two"]
        assert await ann.complaint() == "parley: the session had ended; signed in again as ann"
        assert await ann.end() == (0, [], ["parley: connected again"])


async def test_others_cannot_reach_the_terminal_with_what_they_write(
    running: ServerProcess, console: OpenConsole
) -> None:
    async with Chat(running.url, name="bob", rooms=["kitchen"]) as bob:
        await bob.send(
            "kitchen", "red \x1b[31m title \x1b]0;x\x07 back\b\b \u202eevil\r\nbob: two\u2028three"
        )
    ann = await console("ann", "kitchen", running.url)
    (line,) = await ann.read()
    assert line == "bob: red \ufffd[31m title \ufffd]0;x\ufffd back\ufffd\ufffd \ufffdevil ⏎ bob: two ⏎ three"


def test_a_file_is_as_good_as_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"one\r\nt\xffwo\nno line end")
    with ServerProcess(tmp_path) as process, (tmp_path / "lines").open() as lines:
        done = subprocess.run(
            [*CHAT, "ann", "lobby", "--server", process.url, "--plain"],
            stdin=lines,
            capture_output=True,
            timeout=30,
            check=False,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
    assert done.stdout.decode() == "ann: one\nann: t\ufffdwo\nann: no line end\n"
    assert (done.returncode, done.stderr) == (0, b"")
