"""Lines from standard input, whatever that is: a terminal, a pipe or a file."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator

CHUNK_BYTES = 64 * 1024
MAX_CHUNKS = 4
"""Chunks that are read ahead."""
MAX_LINE_BYTES = 1024 * 1024
"""What is longer goes out in parts, each of which the server may refuse."""


async def typed_lines(fd: int = 0) -> AsyncIterator[str]:
    """Each line without its end; what is no UTF-8 becomes a `\ufffd`.

    A thread reads, because asyncio cannot wait for files. It holds no lock of Python's own streams, so that
    it keeps nobody from leaving while it waits for a line that never comes.
    """
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes] = asyncio.Queue()
    ahead = threading.Semaphore(MAX_CHUNKS)

    def read() -> None:
        chunk = b"-"
        while chunk:
            ahead.acquire()
            try:
                chunk = os.read(fd, CHUNK_BYTES)
            except OSError:  # the terminal is gone
                chunk = b""
            try:
                loop.call_soon_threadsafe(chunks.put_nowait, chunk)
            except RuntimeError:  # the loop is over
                return

    threading.Thread(target=read, name="stdin", daemon=True).start()
    rest = b""
    while chunk := await chunks.get():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield _text(line)
        while len(rest) > MAX_LINE_BYTES:
            yield _text(rest[:MAX_LINE_BYTES])
            rest = rest[MAX_LINE_BYTES:]
        ahead.release()
    if rest:
        yield _text(rest)


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r").decode(errors="replace")
