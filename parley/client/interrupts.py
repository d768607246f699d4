"""Ctrl-C as an answer rather than an exception, so that leaving is a decision."""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine


async def until_one_ends(*doings: Coroutine[object, object, None]) -> bool:
    """Do all this until one of it ends, or raises, or somebody presses Ctrl-C; say whether it was that."""
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):  # where there are no signals, Ctrl-C stays an exception
        loop.add_signal_handler(signal.SIGINT, interrupted.set)
    tasks = [asyncio.create_task(doing) for doing in (*doings, _wait(interrupted))]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGINT)
    return interrupted.is_set()


async def _wait(interrupted: asyncio.Event) -> None:
    await interrupted.wait()
