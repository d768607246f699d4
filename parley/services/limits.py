"""How often somebody may do something: the generic cell rate algorithm (ITU-T I.371), one number per key."""

import time
from collections import OrderedDict
from collections.abc import Callable

from parley.errors import RateLimited

MAX_KEYS = 100_000


class Limiter:
    """Lets `burst` things through at once and `per_second` in the long run, for each key by itself.

    Never waits, and remembers at most `MAX_KEYS` keys: the ones that were used longest ago are forgotten.
    """

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._step = 1 / per_second
        self._tolerance = (burst - 1) * self._step
        self._clock = clock
        self._due: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str) -> None:
        """Count one thing more. Raises `RateLimited` with the time to wait, and counts nothing then."""
        now = self._clock()
        due = max(self._due.get(key, now), now)
        if due - now > self._tolerance:
            raise RateLimited(retry_after=due - now - self._tolerance)
        self._due[key] = due + self._step
        self._due.move_to_end(key)
        if len(self._due) > MAX_KEYS:
            self._due.popitem(last=False)

    def give_back(self, key: str) -> None:
        """Forget what was counted, as after a log-in with the right password."""
        self._due.pop(key, None)
