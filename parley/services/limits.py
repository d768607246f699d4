"""How often somebody may do something: the generic cell rate algorithm (ITU-T I.371), one number per key."""

import time
from collections import OrderedDict
from collections.abc import Callable

from parley.errors import RateLimited

MAX_KEYS = 100_000

BURST_SECONDS = 4
"""So many seconds' worth may come at once."""

_ROUNDING = 1e-6
"""Steps that are added up may come to a little more than their product."""

PER_ADDRESS = 20
"""So many users' worth may come from one address, as from an office or a class."""


class Limiter:
    """Lets `burst` things through at once and `per_second` in the long run, for each key by itself.

    Never waits, and remembers at most `MAX_KEYS` keys: the ones that were used longest ago are forgotten.
    """

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._step = 1 / per_second
        self._tolerance = (burst - 1 + _ROUNDING) * self._step
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


class Rates:
    """What everybody may ask, whichever API it comes through: `per_second` requests of one user in the long
    run, and so many times more from one address. No limit where that is 0."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._is_on = per_second > 0
        rate = per_second or 1
        self._users = Limiter(rate, max(1, rate * BURST_SECONDS), clock)
        rate *= PER_ADDRESS
        self._addresses = Limiter(rate, max(1, rate * BURST_SECONDS), clock)

    def of_user(self, user_id: str) -> None:
        """Count a request of a user. Raises `RateLimited`."""
        if self._is_on:
            self._users.take(user_id)

    def of_address(self, address: str) -> None:
        """Count a request from an address. Raises `RateLimited`."""
        if self._is_on:
            self._addresses.take(address)
