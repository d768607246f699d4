"""When the store is asked: in time, whoever asks meanwhile."""

import asyncio
from itertools import pairwise

import pytest

from parley import background
from parley.realtime import rounds
from parley.realtime.rounds import Rounds
from tests.servers import until

AWAY_SECONDS = 0.5


async def test_who_asks_in_between_does_not_put_off_the_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "AWAY_SECONDS", AWAY_SECONDS)
    loop = asyncio.get_running_loop()
    looked_at: list[float] = []

    async def look(asked: set[str] | None) -> None:
        if asked is None:
            looked_at.append(loop.time())
            loop.call_later(0.4 * AWAY_SECONDS, going.ask, "room")

    going = Rounds(look, lambda: False)
    running = asyncio.create_task(going.run())
    await until(lambda: len(looked_at) > 5)
    await background.stop(running)
    gaps = [after - before for before, after in pairwise(looked_at)]
    assert min(gaps) < 1.1 * AWAY_SECONDS
