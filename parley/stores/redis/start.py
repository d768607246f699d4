"""What is looked at once, when the store is opened: whether this is a Redis that we can work with."""

import re
import socket
from typing import Any

import structlog
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError
from redis.exceptions import TimeoutError as TookTooLong

from parley.errors import StartError
from parley.stores.redis.faults import is_passing
from parley.stores.redis.servers import Servers

OLDEST = (6, 2)

log = structlog.get_logger()


async def connect(servers: Servers, shown_url: str) -> None:
    """Find out what answers there. Raises `StartError`, a line without the password."""
    try:
        await _connect(servers, shown_url)
    except (AuthenticationError, NoPermissionError) as error:
        raise StartError(f"{shown_url}: {_line(error)}: check user and password") from None
    except ResponseError as error:
        if servers.has_other_database and "SELECT" in str(error):
            raise StartError(f"{shown_url}: {_line(error)}: take database 0") from None
        raise StartError(f"{shown_url}: {_line(error)}") from None
    except Exception as error:
        if not is_passing(error) and not isinstance(error, RedisError):
            raise
        raise StartError(f"{shown_url}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Why nothing answers. The driver repeats the host, which may be a part of a password."""
    cause = error
    while isinstance(cause, RedisError) and isinstance(cause.__context__, Exception):
        cause = cause.__context__
    if isinstance(cause, socket.gaierror):
        return "there is no such host; check its name"
    if isinstance(cause, TimeoutError | TookTooLong):
        return "it does not answer; check host and port"
    if isinstance(cause, OSError):
        return "nobody answers there; start the server, or check host and port"
    return _line(error)


async def _connect(servers: Servers, shown_url: str) -> None:
    (info,) = await _info(servers)
    version = tuple(int(part) for part in re.findall(r"\d+", info.get("redis_version", "0"))[:2])
    if version < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise StartError(f"{shown_url}: Redis {info.get('redis_version')} is too old: take {oldest} or later")
    if info.get("cluster_enabled") == "1":
        await servers.become_cluster()
    await _look_at_durability(servers)


async def _look_at_durability(servers: Servers) -> None:
    if any(info.get("aof_enabled") != "1" for info in await _info(servers)):
        log.warning(
            "redis keeps no append-only file: what is acknowledged may be lost with it",
            advice="appendonly yes, appendfsync always",
        )
        return
    try:
        answers = await servers.on_every_server("CONFIG", "GET", "appendfsync")
    except ResponseError:
        return  # Hosted ones do not tell.
    modes = {str(each[1], "utf-8") for each in answers if each}
    if modes - {"always"}:
        log.warning(
            "what is acknowledged is as durable as redis' appendfsync",
            appendfsync=", ".join(sorted(modes)),
            advice="always",
        )


async def _info(servers: Servers) -> list[dict[str, str]]:
    return [_fields(answer) for answer in await servers.on_every_server("INFO")]


def _fields(info: Any) -> dict[str, str]:
    lines = bytes(info).decode().splitlines()
    return {name: value for name, separator, value in (line.partition(":") for line in lines) if separator}


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
