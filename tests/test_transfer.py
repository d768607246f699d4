"""`parley export` and `parley import`: a whole chat as a file, and back into any store."""

import asyncio
import gzip
import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from parley import transfer
from parley.errors import StartError
from parley.ids import new_id
from parley.stores.base import RoomState, Store
from parley.stores.memory import MemoryStore
from parley.stores.sql import SqlStore
from tests.contracts.conftest import NAMES, STORES
from tests.contracts.kitchen import a_user, kitchen_in, send
from tests.contracts.test_store_copy import a_lively_chat, dumped
from tests.servers import ServerProcess, until
from tests.test_cli import parley


def nobody(done: int, total: int) -> None:
    """Nobody watches the progress."""


async def exported(path: Path) -> Path:
    """A file with a lively chat in it."""
    store = MemoryStore()
    await a_lively_chat(store)
    await transfer.export(store, path, nobody)
    return path


def opened(path: Path) -> SqlStore:
    return SqlStore(f"sqlite:///{path}", synchronous="OFF")


@pytest.mark.parametrize("target", NAMES)
@pytest.mark.parametrize("name", ["chat.jsonl", "chat.jsonl.gz"])
async def test_a_chat_goes_through_a_file_into_any_store(tmp_path: Path, target: str, name: str) -> None:
    source = MemoryStore()
    await a_lively_chat(source)
    told: list[tuple[int, int]] = []
    counted = await transfer.export(source, tmp_path / name, lambda *done: told.append(done))
    assert counted == Counter(user=4, session=1, room=4, member=7, message=7)
    assert told[-1] == (23, 23)
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600

    store = STORES[target](tmp_path)
    await store.open()
    try:
        assert await transfer.fill(store, tmp_path / name, lambda *done: told.append(done)) == counted
        assert told[-1] == (23, 23)
        assert await dumped(store) == await dumped(source)
        assert store.epoch != source.epoch
        await transfer.claim(store)
        with pytest.raises(StartError, match="used already"):
            await transfer.fill(store, tmp_path / name, nobody)
        assert await dumped(store) == await dumped(source)
    finally:
        await store.close()


async def test_a_store_that_a_server_has_used_is_not_filled(tmp_path: Path) -> None:
    path = await exported(tmp_path / "chat.jsonl")
    store = MemoryStore()
    await transfer.claim(store)
    with pytest.raises(StartError, match="used already"):
        await transfer.fill(store, path, nobody)


class Failing(MemoryStore):
    """A store that is away after some records."""

    async def load(self, records: Any) -> None:
        await super().load(list(records)[:5])
        raise StartError("gone")


async def test_no_server_starts_on_half_a_chat(tmp_path: Path) -> None:
    path = await exported(tmp_path / "chat.jsonl")
    store = Failing()
    with pytest.raises(StartError, match="gone"):
        await transfer.fill(store, path, nobody)
    for _ in range(2):
        with pytest.raises(StartError, match="was broken off"):
            await transfer.claim(store)


async def test_a_chat_of_thousands_of_messages_is_carried_whole(tmp_path: Path) -> None:
    source = MemoryStore()
    kitchen = await kitchen_in(source)
    await source.apply([send(kitchen.room, kitchen.ann, f"{number} …") for number in range(3_500)])
    await transfer.export(source, tmp_path / "chat.jsonl", nobody)
    store = opened(tmp_path / "chat.db")
    await store.open()
    counted = await transfer.fill(store, tmp_path / "chat.jsonl", nobody)
    assert counted["message"] == 3_500
    assert await dumped(store) == await dumped(source)
    await store.close()


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_the_first(kind: str) -> Any:
    def change(lines: list[Any]) -> None:
        lines.remove(next(line for line in lines if kind in line))

    return change


def first(lines: list[Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(line[kind] for line in lines if kind in line)
    return found


BAD: dict[str, tuple[Any, str]] = {
    "no header": (lambda lines: lines.pop(0), "was not written by `parley export`"),
    "another format": (lambda lines: lines[0].update(format=2), "has format 2"),
    "a missing user": (without_the_first("user"), "user is missing"),
    "a missing room": (without_the_first("room"), "a member of another room"),
    "a missing message": (without_the_first("message"), "the message is not the next one"),
    "a missing member": (without_the_first("member"), "not as many as the room counts"),
    "two of one name": (
        lambda lines: lines.insert(2, {"user": {"user": first(lines, "user")["user"] | {"id": new_id()}}}),
        "two users of that id or name",
    ),
    "no end": (lambda lines: lines.pop(), "ends too early"),
    "more than the end": (lambda lines: lines.append(lines[1]), "there is more after the end"),
    "an unknown record": (lambda lines: lines.insert(1, {"secret": {}}), "line 2: "),
    "a wrong type": (lambda lines: first(lines, "message").update(seq="one"), "Expected `int`"),
    "a revision that is too high": (
        lambda lines: first(lines, "message").update(revision=10**6),
        "the message is not the next one",
    ),
    "a time that is none": (
        lambda lines: first(lines, "message").update(sent_at="yesterday"),
        "sent_at: not a time",
    ),
    "an id that is none": (lambda lines: first(lines, "message").update(id="7 8"), "id: not an id"),
    "U+0000": (lambda lines: first(lines, "message").update(text="a\x00b"), "U+0000 is not allowed"),
    "a number that is too large": (
        lambda lines: first(lines, "member").update(read_seq=2**60),
        "read_seq: out of range",
    ),
    "one member twice": (
        lambda lines: lines.insert(
            2 + next(number for number, line in enumerate(lines) if "room" in line),
            {"member": first(lines, "member")},
        ),
        "in the room already",
    ),
    "a room that is closed": (
        lambda lines: first(lines, "room")["room"].update(closed_at="2026-11-20T12:00:00.000Z"),
        "the room is closed",
    ),
    "a member too few": (
        lambda lines: first(lines, "room")["room"].update(member_count=99),
        "not as many as the room counts",
    ),
    "a revision beyond the room's": (
        lambda lines: first(lines, "room").update(settings_revision=10**6),
        "counters make no sense",
    ),
    "an empty token": (lambda lines: first(lines, "session").update(token_hash=""), "it has no token"),
    "one session twice": (
        lambda lines: lines.insert(
            1 + next(number for number, line in enumerate(lines) if "session" in line),
            {"session": first(lines, "session")},
        ),
        "two sessions of that id",
    ),
    "two records on a line": (lambda lines: lines[1].update(end=3), "one record is expected"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_file_that_makes_no_sense_changes_nothing(tmp_path: Path, name: str) -> None:
    path = await exported(tmp_path / "chat.jsonl")
    change, complaint = BAD[name]
    lines = lines_of(path)
    change(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    store = opened(tmp_path / "chat.db")
    await store.open()
    with pytest.raises(StartError) as raised:
        await transfer.fill(store, path, nobody)
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)
    assert await dumped(store) == []
    await transfer.claim(store)
    await store.close()


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("missing.jsonl", None, "no such file"),
        ("empty.jsonl", b"", "was not written by"),
        ("noise.jsonl", b"\xff\x00\x01", "was not written by"),
        ("noise.gz", b"not packed at all", "not a gzipped file"),
        ("cut.gz", gzip.compress(b'{"parley":"export"}' * 999)[:-30], "cannot use"),
    ],
)
async def test_a_file_that_is_none_is_refused(
    tmp_path: Path, name: str, content: bytes | None, complaint: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(StartError, match=complaint):
        await transfer.fill(MemoryStore(), tmp_path / name, nobody)


async def test_bytes_that_are_no_text_are_refused_by_their_line(tmp_path: Path) -> None:
    path = await exported(tmp_path / "chat.jsonl")
    path.write_bytes(path.read_bytes().replace(b"first, edited", b"first \xff\xfe"))
    with pytest.raises(StartError, match=r"line \d+: "):
        await transfer.fill(MemoryStore(), path, nobody)


async def test_only_a_whole_chat_is_exported(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="there is no chat in this store"):
        await transfer.export(MemoryStore(), tmp_path / "chat.jsonl", nobody)
    store = Failing()
    with pytest.raises(StartError, match="gone"):
        await transfer.fill(store, await exported(tmp_path / "chat.jsonl"), nobody)
    with pytest.raises(StartError, match="was broken off"):
        await transfer.export(store, tmp_path / "half.jsonl", nobody)


async def test_a_server_that_is_refused_does_not_spoil_the_import(tmp_path: Path) -> None:
    class Meanwhile(MemoryStore):
        async def load(self, records: Any) -> None:
            with pytest.raises(StartError, match="under way"):
                await transfer.claim(self)
            await super().load(records)

    store = Meanwhile()
    await transfer.fill(store, await exported(tmp_path / "chat.jsonl"), nobody)
    await transfer.claim(store)


async def test_who_comes_while_a_chat_is_exported_makes_it_fail(tmp_path: Path) -> None:
    store = MemoryStore()
    kitchen = await kitchen_in(store)

    class Joined(MemoryStore):
        async def dump(self) -> Any:
            async for record in store.dump():
                yield record
                if isinstance(record, RoomState):
                    await store.add_user(dora, [kitchen.room.id])

    dora = a_user("dora")
    joined = Joined()
    await joined.add_user(a_user("somebody"))
    with pytest.raises(StartError, match="the chat goes on meanwhile"):
        await transfer.export(joined, tmp_path / "chat.jsonl", nobody)


async def test_an_export_that_fails_leaves_no_file(tmp_path: Path) -> None:
    class Busy(MemoryStore):
        async def dump(self) -> Any:
            async for record in super().dump():
                yield record
            raise StartError("goes on meanwhile")

    store: Store = Busy()
    await a_lively_chat(store)
    with pytest.raises(StartError, match="meanwhile"):
        await transfer.export(store, tmp_path / "chat.jsonl", nobody)
    assert not list(tmp_path.glob("*"))  # noqa: ASYNC240


async def test_an_export_overwrites_nothing(tmp_path: Path) -> None:
    path = await exported(tmp_path / "chat.jsonl")
    before = path.read_bytes()
    with pytest.raises(StartError, match="exists already"):
        await exported(path)
    assert path.read_bytes() == before


def test_the_commands_move_a_chat_to_another_store(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as process:
        said = parley(tmp_path, "send", "kitchen", "hello", "--name", "ann", "--server", process.url)
        assert said.returncode == 0, said.stderr
        store = f"sqlite:///{tmp_path / 'parley.db'}"
        busy = parley(tmp_path, "export", "busy.jsonl", store=store)
        assert (busy.returncode, busy.stdout) == (1, "")
        assert "in use by another parley" in busy.stderr
    done = parley(tmp_path, "export", "chat.jsonl.gz", store=store)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "exported 1 users, 2 rooms, 1 messages to chat.jsonl.gz\n"
    new = f"sqlite:///{tmp_path / 'new.db'}"
    done = parley(tmp_path, "import", "chat.jsonl.gz", "--store", new)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("imported 1 users, 2 rooms, 1 messages into sqlite:///")
    again = parley(tmp_path, "import", "chat.jsonl.gz", "--store", new)
    assert again.returncode == 1
    assert again.stderr == "parley: this store has been used already; name an empty one\n"
    with ServerProcess(tmp_path, store=new) as process:
        shown = parley(tmp_path, "tail", "kitchen", "--server", process.url)
        assert "ann: hello" in shown.stdout
    for command in ("export", "import"):
        nothing = parley(tmp_path, command, "chat.jsonl.gz", store="memory://")
        assert nothing.returncode == 1
        assert nothing.stderr.startswith("parley: memory:// keeps nothing")


async def fill_with_much(path: Path) -> None:
    store = opened(path)
    await store.open()
    kitchen = await kitchen_in(store)
    for _ in range(40):
        await store.apply([send(kitchen.room, kitchen.ann, "x" * 2_000) for _ in range(500)])
    await store.close()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_export_that_is_stopped_leaves_no_file_and_says_so(tmp_path: Path, how: signal.Signals) -> None:
    asyncio.run(fill_with_much(tmp_path / "chat.db"))
    before = {path.name for path in tmp_path.iterdir()}
    command = [
        sys.executable,
        "-m",
        "parley",
        "export",
        "out.jsonl",
        "--store",
        f"sqlite:///{tmp_path}/chat.db",
    ]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        asyncio.run(until((tmp_path / ".out.jsonl.part").exists, 20))
        process.send_signal(how)
        _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (130, b"parley: stopped before it was done\n")
    assert {path.name for path in tmp_path.iterdir()} <= before | {"chat.db-shm", "chat.db-wal"}
