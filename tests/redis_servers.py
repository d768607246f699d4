"""Private Redis servers for tests: on free ports, in folders of their own, ended by their ids."""

import functools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from redis import AuthenticationError, Redis, RedisError
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from parley.models import Room
from parley.stores.redis.keys import room as key_of
from tests.servers import free_port

START_SECONDS = 20
SLOTS = 16384
PRIMARIES = 3


class RedisServer:
    """One `redis-server` that writes every command to disk before it answers."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        # By default it is 10,000 above the other, which may be beyond the last one.
        self.cluster_port = free_port()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Start, with what the folder has, and return when it answers."""
        plain = ["--port", str(self.port), "--dir", str(self.folder), "--bind", "127.0.0.1"]
        plain += ["--cluster-port", str(self.cluster_port)]
        durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        with (self.folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [_binary(), *plain, *durable, *self._options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"redis did not start:\n{(self.folder / 'redis.log').read_text()}")
            time.sleep(0.02)
        return self

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Let it hang: connected, but silent."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def client(self) -> Redis:
        """To look behind the store's back."""
        return Redis(port=self.port, decode_responses=True, retry=Retry(NoBackoff(), 0))

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except AuthenticationError:
            return True
        except RedisError:
            return False

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            for _ in range(10):
                # Again, because it refuses while it begins a new file, as it does after a resynchronisation.
                process.send_signal(how)
                try:
                    process.wait(timeout=2)
                    return
                except subprocess.TimeoutExpired:
                    continue
            process.kill()
            process.wait()
            raise AssertionError("redis did not end")


def _binary() -> str:
    binary = shutil.which("redis-server")
    if binary is None:
        raise AssertionError(
            "redis-server is missing: install it (Debian: redis-server, the service not started), or let "
            "PARLEY_TEST_REDIS and PARLEY_TEST_REDIS_CLUSTER name servers that the tests may empty"
        )
    return binary


@contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    """A running server of its own for one test."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder), *options)
        try:
            yield server.start()
        finally:
            server.stop()


@contextmanager
def redis_cluster(*, replicas: int = 0, node_timeout_ms: int = 5000) -> Iterator[list[RedisServer]]:
    """Three servers that share the slots, and after them as many replicas: of the first one, the second …"""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(node_timeout_ms))
    with ExitStack() as stack:
        servers = [stack.enter_context(redis_server(*options)) for _ in range(PRIMARIES + replicas)]
        clients = [stack.enter_context(server.client()) for server in servers]
        bounds = [SLOTS * number // PRIMARIES for number in range(PRIMARIES + 1)]
        for number, client in enumerate(clients[:PRIMARIES]):
            first, last = bounds[number], bounds[number + 1] - 1
            asked(client, "CLUSTER", "ADDSLOTSRANGE", first, last)
            asked(client, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server in servers[1:]:
            asked(clients[0], "CLUSTER", "MEET", "127.0.0.1", server.port, server.cluster_port)
        _wait(lambda: all(_is_whole(client, len(servers)) for client in clients))
        for number in range(replicas):
            replica, primary = clients[PRIMARIES + number], clients[number]
            asked(replica, "CLUSTER", "REPLICATE", asked(primary, "CLUSTER", "MYID"))
        _wait(lambda: all(_follows(client) for client in clients[PRIMARIES:]))
        # Who takes over must be known by those who vote.
        _wait(lambda: all(_replicas_known(client) == replicas for client in clients))
        yield servers


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("the redis cluster did not come together")
        time.sleep(0.05)


def asked(client: Redis, *command: object) -> Any:
    """What the server answers, as it comes."""
    return client.execute_command(*command)  # type: ignore[no-untyped-call]


def _is_whole(client: Redis, size: int) -> bool:
    info = str(asked(client, "CLUSTER", "INFO"))
    nodes = str(asked(client, "CLUSTER", "NODES"))
    return "cluster_state:ok" in info and nodes.count(" connected") == size


def _follows(replica: Redis) -> bool:
    return replica.info("replication").get("master_link_status") == "up"


def _replicas_known(client: Redis) -> int:
    return str(asked(client, "CLUSTER", "NODES")).count("slave ")


_for_the_session = ExitStack()


@functools.cache
def the_redis() -> str:
    """The URL of the one server for the whole test run, or the one that PARLEY_TEST_REDIS names."""
    given = os.environ.get("PARLEY_TEST_REDIS")
    return given or _for_the_session.enter_context(redis_server()).url


@functools.cache
def the_redis_cluster() -> str:
    """As `the_redis`, but a cluster: PARLEY_TEST_REDIS_CLUSTER."""
    given = os.environ.get("PARLEY_TEST_REDIS_CLUSTER")
    return given or _for_the_session.enter_context(redis_cluster())[0].url


def end_servers() -> None:
    """End what was started for the whole run."""
    _for_the_session.close()


_emptied_for: dict[str, Path] = {}


def a_redis(directory: Path) -> str:
    """The URL of a server with what belongs to this directory: emptied when another one comes."""
    return _emptied(the_redis(), directory)


def a_redis_cluster(directory: Path) -> str:
    """As `a_redis`, but a cluster."""
    return _emptied(the_redis_cluster(), directory)


def _emptied(url: str, directory: Path) -> str:
    if _emptied_for.get(url) != directory:
        empty(url)
        _emptied_for[url] = directory
    return url


def empty(url: str) -> None:
    """Delete everything there."""
    with Redis.from_url(url, decode_responses=True) as client:
        if client.info("cluster").get("cluster_enabled"):
            slots = asked(client, "CLUSTER", "SLOTS")
            for host, port in {(str(each[2][0]), int(each[2][1])) for each in slots}:
                with Redis(host=host or "127.0.0.1", port=port) as node:
                    node.flushall()
        else:
            client.flushdb()


def server_of(room: Room) -> int:
    """Which of the cluster's primaries has the room."""
    bounds = [SLOTS * number // PRIMARIES for number in range(1, PRIMARIES + 1)]
    slot = key_slot(key_of(room.id).encode())
    return next(number for number, bound in enumerate(bounds) if slot < bound)
