"""Passwords: hashed with argon2id, in threads of their own, because each takes a tenth of a second."""

import asyncio
import os
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from parley.errors import InvalidField, RateLimited

MIN_CHARACTERS = 8
MAX_BYTES = 1024
THREADS = max(1, (os.cpu_count() or 2) - 1)
"""One core stays for the chat."""
MAX_WAITING = 64
"""More than these are told to come again, or log-ins would wait longer than people do."""


T = TypeVar("T")
Args = TypeVarTuple("Args")


class Passwords:
    """Makes hashes and compares with them. Hashing lets go of the interpreter, so that chat goes on."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        # By default the second choice of RFC 9106: 64 MiB, 3 passes.
        self._hasher = hasher or PasswordHasher()
        self._pool = ThreadPoolExecutor(THREADS, "parley-passwords")
        self._waiting = 0
        self._nobodys: str | None = None

    def close(self) -> None:
        """Let the threads end."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def hash(self, password: str) -> str:
        """What to keep of a password. Raises `InvalidField`, `RateLimited`."""
        text = checked(password)
        return await self._run(self._hash, text)

    async def is_right(self, password: str, kept: str | None) -> bool:
        """Whether this is the password of that hash. Takes as long where there is none, so that the time
        tells nobody which names exist. Raises `RateLimited`."""
        if self._nobodys is None:
            self._nobodys = await self._run(self._hash, "nobody's")
        right = await self._run(self._verify, password[:MAX_BYTES], kept or self._nobodys)
        return right and kept is not None

    def _hash(self, password: str) -> str:
        return self._hasher.hash(password)

    def _verify(self, password: str, kept: str) -> bool:
        try:
            return self._hasher.verify(kept, unicodedata.normalize("NFKC", password))
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[*Args], T], *arguments: *Args) -> T:
        if self._waiting >= MAX_WAITING:
            raise RateLimited("Too many people are signing in; try again in a moment.", retry_after=2)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)
        finally:
            self._waiting -= 1


def checked(password: str) -> str:
    """A password in the form in which it is hashed. Raises `InvalidField`."""
    text = unicodedata.normalize("NFKC", password)
    if len(text) < MIN_CHARACTERS or len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise InvalidField(f"password: at least {MIN_CHARACTERS} characters, at most {MAX_BYTES} bytes.")
    return text
