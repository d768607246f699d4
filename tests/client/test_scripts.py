"""`parley send`, `parley tail` and `parley rooms`."""

import asyncio
import getpass

import pytest

from parley.client import scripts
from tests.servers import ServerProcess, free_port


async def test_what_is_sent_is_in_the_tail_and_the_room_in_the_list(
    running: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("one", "two\nlines", "three"):
        assert await scripts.send("kitchen", text, running.url, "ann") == 0
    assert await scripts.send("kitchen", "four", running.url) == 0
    assert capsys.readouterr().out == ""
    assert await scripts.tail("kitchen", running.url, count=3) == 0
    printed = capsys.readouterr().out
    assert printed == f"ann: two ⏎ lines\nann: three\n{getpass.getuser()}: four\n"
    assert await scripts.rooms(running.url) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert ["kitchen", "0", "4", "kitchen"] in rows
    assert [row[0] for row in rows] == ["lobby", "kitchen"]


async def test_what_is_refused_is_one_line_and_exit_code_2(
    running: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await scripts.tail("cellar", running.url) == 2
    assert await scripts.send("kitchen", "  ", running.url) == 2
    assert await scripts.send("no good", "hi", running.url) == 2
    assert await scripts.send("kitchen", "hi", "no url at all") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line[:8] for line in captured.err.splitlines()] == ["parley: "] * 4


async def test_a_server_that_is_away_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scripts, "PATIENCE_SECONDS", 0.2)
    url = f"http://127.0.0.1:{free_port()}"
    assert await asyncio.wait_for(scripts.send("kitchen", "hi", url), 5) == 1
    assert f"no answer from {url}" in capsys.readouterr().err
