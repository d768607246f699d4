"""Hashing passwords takes long, and chat does not wait for it."""

import asyncio
import time

import pytest

from parley.errors import InvalidField, RateLimited
from parley.services.passwords import MAX_WAITING, Passwords, checked


async def waits(until_done: asyncio.Task[list[str]]) -> list[float]:
    """How late, in seconds, the loop was at each look while something went on, the shortest first."""
    late = []
    while not until_done.done():
        began = time.monotonic()
        await asyncio.sleep(0.005)
        late.append(time.monotonic() - began - 0.005)
    return sorted(late)


@pytest.mark.slow
async def test_two_hundred_log_ins_at_once_do_not_hold_up_the_loop() -> None:
    passwords = Passwords()
    kept = await passwords.hash("correct horse")

    async def log_in(number: int) -> str:
        try:
            right = await passwords.is_right("correct horse" if number % 2 else "wrong horse", kept)
        except RateLimited as error:
            return f"in {error.retry_after} seconds"
        return "right" if right else "wrong"

    async def everybody() -> list[str]:
        return await asyncio.gather(*map(log_in, range(200)))

    work = asyncio.create_task(everybody())
    late = await waits(work)
    answers = work.result()
    passwords.close()
    # Not the very latest: on a busy machine the system may give the whole process no time for a moment.
    assert late[len(late) * 95 // 100] < 0.05
    assert answers.count("right") + answers.count("wrong") >= MAX_WAITING
    assert answers.count("in 2 seconds") > 0
    assert answers[0] == "wrong"
    assert answers[1] == "right"


async def test_who_does_not_exist_has_no_right_password() -> None:
    passwords = Passwords()
    assert await passwords.is_right("nobody's", None) is False
    assert await passwords.is_right("", "no hash at all") is False
    passwords.close()


@pytest.mark.parametrize("password", ["", "1234567", "x" * 1025, "ä" * 513])
def test_a_password_that_is_too_short_or_too_long_is_refused(password: str) -> None:
    with pytest.raises(InvalidField):
        checked(password)
