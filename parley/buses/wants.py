"""Which topics a node wants, and which of them the broker knows of."""

from parley.buses.base import EVERYTHING


class Wants:
    """The wanted topics are what counts; the changes to the broker's subscriptions follow from them, however
    often a topic was wanted and no longer wanted meanwhile.

    Safe because nothing here awaits.
    """

    def __init__(self) -> None:
        self._wanted = {EVERYTHING}
        self._held: set[str] = set()
        self._unclear = {EVERYTHING}

    def __contains__(self, topic: str) -> bool:
        return topic in self._wanted

    def are_settled(self) -> bool:
        """Whether there is nothing to tell the broker."""
        return not self._unclear

    def want(self, topic: str) -> None:
        self._wanted.add(topic)
        self._unclear.add(topic)

    def unwant(self, topic: str) -> None:
        if topic != EVERYTHING:
            self._wanted.discard(topic)
            self._unclear.add(topic)

    def forget(self) -> None:
        """The broker knows of nothing, because the connection is a new one."""
        self._held.clear()
        self._unclear = set(self._wanted)

    def changes(self, most: int) -> tuple[list[str], list[str]]:
        """The next topics to subscribe to and to unsubscribe from, which is taken as done: if it fails,
        the connection is given up, and so is all that it held."""
        more: list[str] = []
        less: list[str] = []
        while self._unclear and len(more) + len(less) < most:
            topic = self._unclear.pop()
            if topic in self._wanted and topic not in self._held:
                self._held.add(topic)
                more.append(topic)
            elif topic not in self._wanted and topic in self._held:
                self._held.remove(topic)
                less.append(topic)
        return more, less
