"""How long to wait before trying again."""

import random


class Backoff:
    """Exponential with full jitter, so that many clients of one server do not come back in step.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    def __init__(self, base_seconds: float = 0.5, cap_seconds: float = 10) -> None:
        self._base = base_seconds
        self._cap = cap_seconds
        self._tries = 0

    def next_seconds(self, at_least: float = 0) -> float:
        """How long to wait this time; `at_least` is what the server asked for."""
        longest = min(self._cap, self._base * 2**self._tries)
        if longest < self._cap:
            self._tries += 1
        return at_least + random.uniform(0, longest)

    def reset(self) -> None:
        """It worked: begin anew the next time."""
        self._tries = 0
