"""Tasks that run as long as the server does, and whose death is noticed."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger()


def start(work: Coroutine[Any, Any, None], name: str, on_death: Callable[[str], None]) -> asyncio.Task[None]:
    """Run `work` beside everything else; if it raises, log why and call `on_death` with its name."""
    task = asyncio.create_task(work, name=name)

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("a background task died", task=name, exc_info=error)
            on_death(name)

    task.add_done_callback(ended)
    return task


async def stop(task: asyncio.Task[None] | None) -> None:
    """Cancel a task and wait until it is gone."""
    if task is not None:
        task.cancel()
        await asyncio.wait([task])
