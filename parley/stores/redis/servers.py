"""The connections to Redis: a list of commands goes out in one round trip, to one server or to a cluster."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import hiredis
import structlog
from redis.asyncio import BlockingConnectionPool, Connection, RedisCluster, SSLConnection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import TimeoutError as TookTooLong

from parley.errors import StoreUnavailable
from parley.stores.redis.faults import note, translated
from parley.stores.redis.scripts import SOURCES

TIMEOUT_SECONDS = 5.0
MAX_CONNECTIONS = 16
"""To each server; who comes then waits for one to become free."""

MAX_TRIES = 5
"""How often a command may be sent on, because its room just moves or its script is not known."""

Command = tuple[Any, ...]

log = structlog.get_logger()


def script(sha: str, keys: Sequence[str], *arguments: Any) -> Command:
    """The command that runs a script, on the server that has the first key."""
    return ("EVALSHA", sha, len(keys), *keys, *arguments)


class Servers:
    """One Redis server, or the primaries of a cluster. The first command connects, and so does the first one
    after a loss.

    A command that may have reached the server is not sent again by itself: only the caller knows whether
    twice is once.
    """

    def __init__(self, url: str) -> None:
        self._options: dict[str, Any] = {
            "socket_timeout": TIMEOUT_SECONDS,
            "socket_connect_timeout": TIMEOUT_SECONDS,
            "protocol": 2,
            **parse_url(url),
        }
        self._tls = self._options.pop("connection_class", Connection) is SSLConnection
        self._address = (self._options.pop("host", "localhost"), self._options.pop("port", 6379))
        self._pools: dict[str, BlockingConnectionPool] = {}
        self._cluster: RedisCluster | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def is_cluster(self) -> bool:
        return self._cluster is not None

    @property
    def has_other_database(self) -> bool:
        """Whether the URL names another database than the first one, the only one of a cluster."""
        return bool(self._options.get("db"))

    async def become_cluster(self) -> None:
        """From now on ask the cluster that the server belongs to. Raises driver errors."""
        options = {name: value for name, value in self._options.items() if name != "db"}
        host, port = self._address
        cluster = RedisCluster(host=host, port=port, ssl=self._tls, require_full_coverage=False, **options)
        self._cluster = await cluster.initialize()

    async def close(self) -> None:
        self._closed = True
        if self._refreshing is not None:
            await asyncio.wait([self._refreshing])
        for pool in self._pools.values():
            await pool.aclose()
        self._pools.clear()
        if self._cluster is not None:
            await self._cluster.aclose()

    async def one(self, *command: Any) -> Any:
        """What the server answers. Raises `StoreUnavailable`, `InternalError`."""
        (reply,) = await self.all([command])
        return reply

    async def all(self, commands: Sequence[Command]) -> list[Any]:
        """What the servers answer, if none of it is an error. Raises `StoreUnavailable`, `InternalError`."""
        replies = await self.ask(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                note([reply])
                raise translated(reply) from reply
        return replies

    async def ask(self, commands: Sequence[Command], *, at_once: bool = False) -> list[Any]:
        """What the servers answer to each command, which may be an error.

        Commands with the same key are carried out in their order. Where a connection is lost, the answers
        that came before count. `at_once` lets a single server carry them out without a pause, and so write
        them to its file and wait for the disk once instead of several times; each still succeeds or fails
        alone. A cluster cannot.
        """
        if self._closed:
            raise StoreUnavailable("The store is closed.")
        if not commands:
            return []
        replies: list[Any] = [None] * len(commands)
        waiting = dict(enumerate(commands))
        for _ in range(MAX_TRIES):
            await self._ask_each(waiting, replies, at_once)
            waiting = await self._again(waiting, replies)
            if not waiting:
                break
        return replies

    async def on_every_server(self, *command: Any) -> list[Any]:
        """What each primary answers. Raises driver errors."""
        nodes = self._cluster.get_primaries() if self._cluster is not None else []
        pools = [self._pool(node.host, int(node.port)) for node in nodes] or [self._pool(*self._address)]
        replies = [(await _converse(pool, [command]))[0] for pool in pools]
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def _ask_each(self, commands: dict[int, Command], replies: list[Any], at_once: bool) -> None:
        """One round trip to each server, all at once."""
        if self._cluster is None:
            converse = _converse_at_once if at_once and len(commands) > 1 else _converse
            answers = await converse(self._pool(*self._address), list(commands.values()))
            for number, answer in zip(commands, answers, strict=True):
                replies[number] = answer
            return
        shares: dict[str, tuple[BlockingConnectionPool, list[int]]] = {}
        for number, command in commands.items():
            try:
                node = self._cluster.get_node_from_key(_key(command))
            except Exception as error:
                replies[number] = error
                continue
            if node is None:
                replies[number] = ConnectionLost("no server has the slot")
                continue
            pool = self._pool(node.host, int(node.port))
            shares.setdefault(node.name, (pool, []))[1].append(number)
        await asyncio.gather(*(self._share(commands, replies, *share) for share in shares.values()))

    async def _share(
        self,
        commands: dict[int, Command],
        replies: list[Any],
        pool: BlockingConnectionPool,
        numbers: list[int],
    ) -> None:
        answers = await _converse(pool, [commands[number] for number in numbers])
        for number, answer in zip(numbers, answers, strict=True):
            replies[number] = answer

    async def _again(self, commands: dict[int, Command], replies: list[Any]) -> dict[int, Command]:
        """The commands that were not carried out, because the server has no such script or slot."""
        again: dict[int, Command] = {}
        moved = False
        for number, command in commands.items():
            reply = replies[number]
            if isinstance(reply, NoScriptError):
                again[number] = _with_source(command)
            elif isinstance(reply, MovedError):
                again[number], moved = command, True
            elif isinstance(reply, AskError):
                pool = self._pool(reply.host, reply.port)
                replies[number] = (await _converse(pool, [("ASKING",), command]))[1]
                if isinstance(replies[number], NoScriptError):
                    again[number] = _with_source(command)
                elif isinstance(replies[number], TryAgainError):
                    again[number] = command
            elif isinstance(reply, TryAgainError):
                again[number] = command
            elif isinstance(reply, ConnectionLost | TookTooLong) and self._cluster is not None:
                # Perhaps a replica takes over; whoever asks next should know.
                self._refresh()
        if moved:
            self._refresh()
        if moved and self._refreshing is not None:
            await asyncio.wait([self._refreshing])
        return again

    def _refresh(self) -> None:
        """Ask the cluster who has which slots, once for all who want to know."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._learn_slots())

    async def _learn_slots(self) -> None:
        assert self._cluster is not None
        try:
            await self._cluster.nodes_manager.initialize()
        except Exception as error:
            log.warning("the redis cluster does not tell who has which slots", error=str(error))

    def _pool(self, host: str, port: int) -> BlockingConnectionPool:
        name = f"{host}:{port}"
        if name not in self._pools:
            self._pools[name] = BlockingConnectionPool(
                connection_class=SSLConnection if self._tls else Connection,
                max_connections=MAX_CONNECTIONS,
                timeout=TIMEOUT_SECONDS,
                retry=Retry(NoBackoff(), 0),
                host=host,
                port=port,
                **self._options,
            )
        return self._pools[name]


def _with_source(command: Command) -> Command:
    return ("EVAL", SOURCES[command[1]], *command[2:])


def _key(command: Command) -> str:
    return cast(str, command[3] if command[0] in {"EVALSHA", "EVAL"} else command[1])


async def _converse_at_once(pool: BlockingConnectionPool, commands: list[Command]) -> list[Any]:
    """As `_converse`, but as what Redis calls a transaction."""
    *queued, answers = await _converse(pool, [("MULTI",), *commands, ("EXEC",)])
    if isinstance(answers, list):
        return answers
    # Aborted: one of the earlier answers says why.
    errors = [answer for answer in (*queued, answers) if isinstance(answer, Exception)]
    return [errors[0]] * len(commands)


async def _converse(pool: BlockingConnectionPool, commands: list[Command]) -> list[Any]:
    """Send commands together and read the answers, errors among them."""
    answers: list[Any] = []
    try:
        connection = await pool.get_connection()  # type: ignore[no-untyped-call]
    except (RedisError, OSError) as error:
        return [error] * len(commands)
    try:
        # The driver's own way packs word by word in Python, which takes longer than all the rest.
        await connection.send_packed_command(b"".join(map(hiredis.pack_command, commands)))
        while len(answers) < len(commands):
            try:
                answers.append(await connection.read_response())
            except ResponseError as error:
                answers.append(error)
        if any(map(_is_of_a_replica, answers)):
            # By now the address may lead to the primary.
            await connection.disconnect(nowait=True)
    except (RedisError, OSError) as error:
        await connection.disconnect(nowait=True)
        answers += [error] * (len(commands) - len(answers))
    except BaseException:
        # Called off in the midst of it: the answers that are on their way belong to nobody.
        await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)
    return answers


def _is_of_a_replica(answer: Any) -> bool:
    if isinstance(answer, list):
        return any(isinstance(each, Exception) and _is_of_a_replica(each) for each in answer)
    # Redis 6 puts a script's error, code and all, into a sentence.
    return isinstance(answer, ReadOnlyError) or (
        isinstance(answer, ResponseError) and "READONLY" in str(answer)
    )
