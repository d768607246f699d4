"""Several workers behind one port: they share the work, are replaced, and end together."""

import asyncio
import json
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from parley import config, workers
from parley.config import Settings
from tests import backends
from tests.processes import alive, processes, sockets_at, sockets_of
from tests.redis_servers import a_redis, redis_server
from tests.servers import ServerProcess, free_port, server, until
from tests.test_cli import parley

HUSH = "hush-hush"
SECONDS = 20


class Serving:
    """A server with several workers, and what the system says of its processes."""

    def __init__(self, process: ServerProcess) -> None:
        self.process = process
        self.pid = process.pid

    def workers(self) -> set[int]:
        return {pid for pid, (state, parent) in processes().items() if parent == self.pid and state != "Z"}

    def logged(self, event: str) -> list[Any]:
        lines = [json.loads(line) for line in self.process.log.read_text().splitlines()]
        return [line for line in lines if line["event"] == event]

    async def all_ready(self, count: int = 3) -> set[int]:
        """Wait until so many have said that they are, of which nobody has ended since."""
        await until(lambda: len(self._ready()) == count, SECONDS, f"{count} workers")
        assert self._ready() == self.workers()
        return self._ready()

    def _ready(self) -> set[int]:
        ended = {line["pid"] for line in self.logged("a worker has ended")}
        return {line["pid"] for line in self.logged("a worker is ready")} - ended

    def connections(self) -> dict[int, int]:
        """How many of the connections to the port each worker has."""
        ours = sockets_at(self.process.port)
        return {pid: len(sockets_of(pid) & ours) for pid in self.workers()}

    def say(self, text: str) -> None:
        line = {"user": "ann", "room": "kitchen", "text": text}
        httpx2.post(f"{self.process.url}/messages", json=line).raise_for_status()

    async def ended(self) -> int:
        """Wait until the parent has ended; its exit code."""
        assert self.process._process is not None
        return await asyncio.to_thread(self.process._process.wait, SECONDS)


@asynccontextmanager
async def serving(folder: Path, url: str, count: int = 3, **settings: object) -> AsyncIterator[Serving]:
    """Workers that are ready. None may be left at the end, whatever the test did."""
    seen = set()
    try:
        async with server(folder, store=url, bus=url, workers=count, **settings) as process:
            here = Serving(process)
            seen = await here.all_ready(count)
            try:
                yield here
            finally:
                seen |= here.workers()
        await until(lambda: not alive(seen), SECONDS, "the end of the workers")
    finally:
        for pid in alive(seen):
            os.kill(pid, signal.SIGKILL)


def refusal(folder: Path, **settings: str) -> str:
    """The line that the operator reads."""
    done = parley(folder, "serve", seconds=30, **({"workers": "2", "port": "0"} | settings))
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("parley: ")
    assert HUSH not in line
    return line


# What is refused at the start


@pytest.mark.parametrize(
    ("store", "bus", "reasons", "silent"),
    [
        ("sqlite:///parley.db", "redis://db", ["SQLite file belongs to one process"], "PARLEY_BUS"),
        ("memory://", "redis://db", ["a chat of its own", "PARLEY_STORE to postgresql://"], "PARLEY_BUS"),
        ("redis://db", "memory://", ["stays within one process", "PARLEY_BUS to redis://"], "PARLEY_STORE"),
        ("sqlite:///parley.db", "memory://", ["2 workers", "PARLEY_STORE", "PARLEY_BUS"], HUSH),
        ("memory://", "memory://", ["2 workers", "PARLEY_STORE", "PARLEY_BUS"], HUSH),
    ],
)
def test_workers_that_could_not_share_are_refused_with_every_reason(
    tmp_path: Path, store: str, bus: str, reasons: list[str], silent: str
) -> None:
    line = refusal(tmp_path, store=store, bus=bus)
    assert all(reason in line for reason in reasons)
    assert silent not in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("store", ["memory://", "sqlite:///parley.db"])
@pytest.mark.parametrize("bus", ["redis://db", "rediss://db", "postgresql://ann:secret@db/chat"])
def test_a_bus_for_several_nodes_is_refused_where_there_can_be_only_one(
    tmp_path: Path, store: str, bus: str
) -> None:
    line = refusal(tmp_path, workers="1", store=store, bus=bus)
    assert "cannot share the store" in line
    assert "PARLEY_STORE to postgresql:// or redis://, or PARLEY_BUS to memory://" in line
    assert "secret" not in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", ["0", "65", "many"])
def test_a_number_of_workers_that_makes_no_sense_is_named(tmp_path: Path, count: str) -> None:
    assert "PARLEY_WORKERS" in refusal(tmp_path, workers=count)


def test_other_commands_do_not_mind_the_number_of_workers(tmp_path: Path) -> None:
    done = parley(tmp_path, "migrate", workers="4")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_flag_says_how_many(tmp_path: Path) -> None:
    done = parley(tmp_path, "serve", "--workers", "3", store="memory://")
    assert done.returncode == 1
    assert "3 workers are impossible" in done.stderr


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = refusal(tmp_path, port=port, store=url, bus=url)
    assert port in line
    assert "PARLEY_PORT" in line


@pytest.mark.parametrize("url", ["postgresql://ann:{}@127.0.0.1:{}/parley", "redis://:{}@127.0.0.1:{}"])
def test_a_store_that_is_away_is_one_line_however_many_ask(tmp_path: Path, url: str) -> None:
    port = free_port()
    there = url.format(HUSH, port)
    assert f"127.0.0.1:{port}" in refusal(tmp_path, workers="3", store=there, bus=there)


# What a worker is told


def test_a_worker_has_the_very_settings_of_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(_env_file=None, secret=HUSH, max_users=None, origins="", drain_seconds=0.5)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARLEY_MAX_USERS", "7")
    (tmp_path / ".env").write_text("PARLEY_ORIGINS=*\nPARLEY_SECRET=other\n")
    assert config.unpacked(config.packed(settings)) == settings


def test_the_pause_before_another_try_grows_and_has_an_end() -> None:
    for failures, most in ((1, 0.5), (2, 1), (3, 2), (6, 16), (7, 30), (1000, 30)):
        pauses = [workers.pause(failures) for _ in range(50)]
        assert most / 2 <= min(pauses) < max(pauses) <= most


# Serving

STORES: dict[str, Callable[[Path], str]] = {
    "postgresql": lambda folder: backends.postgres().database(folder),
    "redis": a_redis,
}


@pytest.mark.servers
@pytest.mark.parametrize("kind", STORES)
async def test_workers_share_the_connections_and_end_together(tmp_path: Path, kind: str) -> None:
    async with serving(tmp_path, STORES[kind](tmp_path)) as here:
        assert len(here.workers()) == 3
        [ready] = here.logged("parley is ready")
        assert (ready["url"], ready["workers"]) == (here.process.url, 3)
        async with httpx2.AsyncClient(base_url=here.process.url) as client:
            guest = await client.post("/api/v1/sessions/guest", json={"display_name": "Bob"})
        who = {"authorization": f"Bearer {guest.json()['token']}"}
        texts = [f"hello {number}" for number in range(30)]
        async with several_clients(here.process.url, 60) as clients:
            for text, client in zip(texts, clients, strict=False):
                line = {"user": "ann", "room": "kitchen", "text": text}
                (await client.post("/messages", json=line)).raise_for_status()
            spread = here.connections()
            assert sum(spread.values()) == 60
            assert sum(count > 0 for count in spread.values()) >= 2
            for client in clients:
                page = await client.get("/api/v1/rooms/kitchen/messages", headers=who)
                assert [each["text"] for each in page.json()["items"]] == texts
        pids = here.workers()
        started = time.monotonic()
        here.process.terminate()
        assert await here.ended() == 0
        assert time.monotonic() - started < 10, "the drain time"
        assert not alive(pids)
        assert len(here.logged("parley has stopped")) == 1
        assert "Traceback" not in here.process.log.read_text()


@asynccontextmanager
async def several_clients(url: str, count: int) -> AsyncIterator[list[httpx2.AsyncClient]]:
    """Clients with one connection each, all open at the same time."""
    async with AsyncExitStack() as stack:
        context = ssl.create_default_context()  # which takes longer to make than all the rest
        clients = [httpx2.AsyncClient(base_url=url, timeout=SECONDS, verify=context) for _ in range(count)]
        for client in clients:
            await stack.enter_async_context(client)
        answers = await asyncio.gather(*(client.get("/readyz") for client in clients))
        assert all(answer.status_code == 200 for answer in answers)
        yield clients


@pytest.mark.servers
async def test_workers_serve_on_any_free_port(tmp_path: Path) -> None:
    url = a_redis(tmp_path)
    process = ServerProcess(tmp_path, store=url, bus=url, workers=2, port=0)
    with process.log.open("wb") as log:
        parent = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "parley", "serve"), env=process._environment, cwd=tmp_path, stderr=log
        )
    try:
        await until(lambda: "parley is ready" in process.log.read_text(), SECONDS, "the start")
        ready = json.loads(process.log.read_text().splitlines()[-1])
        assert httpx2.get(f"{ready['url']}/readyz").status_code == 200
    finally:
        parent.terminate()
        assert await asyncio.wait_for(parent.wait(), SECONDS) == 0


@pytest.mark.servers
async def test_a_worker_that_is_killed_is_replaced_while_the_others_serve(tmp_path: Path) -> None:
    async with serving(tmp_path, a_redis(tmp_path)) as here:
        victim, *others = sorted(here.workers())
        os.kill(victim, signal.SIGKILL)
        for number in range(20):
            await asyncio.to_thread(here.say, f"hello {number}")
        assert set(others) < await here.all_ready()
        [ended] = here.logged("a worker has ended")
        assert (ended["pid"], ended["exit_code"]) == (victim, -signal.SIGKILL)
        assert len(here.logged("parley is ready")) == 1
        assert not [pid for pid, (state, parent) in processes().items() if (state, parent) == ("Z", here.pid)]


@pytest.mark.servers
async def test_a_worker_that_is_asked_to_end_drains_and_is_replaced(tmp_path: Path) -> None:
    async with serving(tmp_path, a_redis(tmp_path)) as here:
        one, *others = sorted(here.workers())
        os.kill(one, signal.SIGTERM)
        await until(lambda: here.logged("a worker has ended"), SECONDS, "its end")
        assert here.logged("a worker has ended")[0]["exit_code"] == 0
        assert set(others) < await here.all_ready()


@pytest.mark.servers
async def test_connections_that_wait_outlive_the_workers(tmp_path: Path) -> None:
    async with serving(tmp_path, a_redis(tmp_path)) as here:
        before = here.workers()
        for pid in before:
            os.kill(pid, signal.SIGSTOP)
        waiting = [await asyncio.open_connection("127.0.0.1", here.process.port) for _ in range(20)]
        for _, writer in waiting:
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: parley\r\nConnection: close\r\n\r\n")
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(SECONDS):
            answers = [await reader.read() for reader, _ in waiting]
        for _, writer in waiting:
            writer.close()
        assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
        assert not before & await here.all_ready()


@pytest.mark.slow
@pytest.mark.servers
async def test_workers_that_cannot_start_again_are_tried_ever_more_slowly(tmp_path: Path) -> None:
    with redis_server() as redis:
        async with serving(tmp_path, redis.url, count=2) as here:
            redis.kill()
            for pid in here.workers():
                os.kill(pid, signal.SIGKILL)
            failed = "a worker cannot start"
            await until(lambda: len(of_the_first(here.logged(failed))) >= 4, 120, "four failures")
            failures = of_the_first(here.logged(failed))
            assert f"127.0.0.1:{redis.port}" in failures[0]["reason"]
            pauses = of_the_first(here.logged("a worker will be replaced"))
            assert pauses[0]["in_seconds"] <= 0.5
            assert 2 <= pauses[3]["in_seconds"] <= 4
            for pause, failure in zip(pauses, failures, strict=False):
                began, failed_at = (datetime.fromisoformat(line["timestamp"]) for line in (pause, failure))
                assert (failed_at - began).total_seconds() > pause["in_seconds"] - 0.1
            redis.start()
            await here.all_ready(2)
            assert here.process.is_ready()


def of_the_first(lines: list[Any]) -> list[Any]:
    return [line for line in lines if line["worker"] == 1]


# Ending


@pytest.mark.servers
async def test_a_signal_that_reaches_parent_and_workers_is_one_signal(tmp_path: Path) -> None:
    async with serving(tmp_path, a_redis(tmp_path)) as here:
        pids = here.workers()
        for pid in (here.pid, *pids, *pids):
            os.kill(pid, signal.SIGINT)
        assert await here.ended() == 0
        assert not here.logged("a worker has ended")
        assert not alive(pids)


@pytest.mark.servers
async def test_no_worker_outlives_a_parent_that_was_killed(tmp_path: Path) -> None:
    async with serving(tmp_path, a_redis(tmp_path)) as here:
        pids = here.workers()
        here.process.kill()
        await until(lambda: not alive(pids), 10, "the end of the workers")
        assert len(here.logged("a worker is stopping")) == 3
        assert "Traceback" not in here.process.log.read_text()


@pytest.mark.servers
async def test_a_second_signal_ends_all_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path, a_redis(tmp_path)) as here:
        pids = here.workers()
        os.kill(hanging := min(pids), signal.SIGSTOP)
        here.process.terminate()
        await until(lambda: here.workers() == {hanging}, SECONDS, "the end of the others")
        started = time.monotonic()
        here.process.terminate()
        assert await here.ended() == 128 + signal.SIGTERM
        assert time.monotonic() - started < 2
        assert not alive(pids)


@pytest.mark.slow
@pytest.mark.servers
async def test_a_worker_that_does_not_end_is_killed_in_the_end(tmp_path: Path) -> None:
    async with serving(tmp_path, a_redis(tmp_path), drain_seconds=0) as here:
        pids = here.workers()
        os.kill(min(pids), signal.SIGSTOP)
        here.process.terminate()
        assert await here.ended() == 1
        assert [line["workers"] for line in here.logged("workers did not stop in time and are killed")] == [1]
        assert not alive(pids)


@pytest.mark.servers
async def test_a_signal_during_the_start_ends_it(tmp_path: Path) -> None:
    url = a_redis(tmp_path)
    process = ServerProcess(tmp_path, store=url, bus=url, workers=3)
    with process.log.open("wb") as log:
        parent = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "parley", "serve"), env=process._environment, cwd=tmp_path, stderr=log
        )

    def children() -> set[int]:
        return {pid for pid, (_, of) in processes().items() if of == parent.pid}

    await until(children, SECONDS, "the first worker")
    pids = children()
    parent.terminate()
    assert await asyncio.wait_for(parent.wait(), SECONDS) == 0
    assert not alive(pids)
    assert "Traceback" not in process.log.read_text()
