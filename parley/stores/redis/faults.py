"""The one place where what goes wrong with Redis becomes an error of ours."""

import re
from collections.abc import Iterable

import structlog
from redis.exceptions import (
    AskError,
    ClusterError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    TryAgainError,
)
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import TimeoutError as TookTooLong

from parley.errors import InternalError, ParleyError, StoreUnavailable

RETRY_AFTER_SECONDS = 1.0

_PASSING = (
    AskError,
    ClusterError,
    ConnectionLost,
    NoPermissionError,
    OSError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    TookTooLong,
    TryAgainError,
)
# The codes that have no class of their own. Redis 6 puts a script's error, code and all, into a sentence.
_NOT_NOW = re.compile(
    r"\b(LOADING|READONLY|OOM|MISCONF|NOREPLICAS|BUSY|UNKILLABLE|EXECABORT|WRONGPASS)\b|max number of clients"
)

log = structlog.get_logger()


def is_passing(error: BaseException) -> bool:
    """Whether the same command may work later."""
    return isinstance(error, _PASSING) or _NOT_NOW.search(str(error)) is not None


def translated(error: Exception) -> ParleyError:
    """The error of ours for one of Redis."""
    if isinstance(error, ParleyError):
        return error
    return StoreUnavailable(retry_after=RETRY_AFTER_SECONDS) if is_passing(error) else InternalError()


def note(errors: Iterable[Exception]) -> None:
    """Log what went wrong, each of its kind once."""
    for text, passing in {(str(error), is_passing(error)) for error in errors}:
        if passing:
            log.warning("redis does not answer", error=text)
        else:
            log.error("a step of the store failed", error=text)
