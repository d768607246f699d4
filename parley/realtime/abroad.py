"""Who is connected to the other nodes, and which rooms they follow there, as far as this node knows."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Set

Place = tuple[str, str]
"""A node, and a user who is connected to it."""


class Abroad:
    """One entry per node and user. Safe because nothing here awaits."""

    def __init__(self) -> None:
        self._nodes: dict[str, dict[str, frozenset[str]]] = {}
        self._users: Counter[str] = Counter()
        self._rooms: dict[str, Counter[str]] = {}

    def __contains__(self, user_id: str) -> bool:
        return user_id in self._users

    @property
    def users(self) -> Set[str]:
        """All who are connected somewhere."""
        return self._users.keys()

    def in_room(self, room_id: str) -> Collection[str]:
        """Those of them who follow a room."""
        return self._rooms.get(room_id, {}).keys()

    def rooms_of(self, user_id: str) -> set[str]:
        """The rooms that a user follows there."""
        return {room_id for there in self._nodes.values() for room_id in there.get(user_id, ())}

    def came(self, node_id: str, user_id: str, rooms: Iterable[str]) -> None:
        """A user is connected to a node and follows these rooms."""
        self.went(node_id, user_id)
        self._nodes.setdefault(node_id, {})[user_id] = followed = frozenset(rooms)
        self._users[user_id] += 1
        for room_id in followed:
            self._rooms.setdefault(room_id, Counter())[user_id] += 1

    def went(self, node_id: str, user_id: str) -> frozenset[str]:
        """A user is no longer connected to a node; returns the rooms that they followed there."""
        there = self._nodes.get(node_id)
        if there is None or user_id not in there:
            return frozenset()
        followed = there.pop(user_id)
        if not there:
            del self._nodes[node_id]
        _less(self._users, user_id)
        for room_id in followed:
            _less(self._rooms[room_id], user_id)
            if not self._rooms[room_id]:
                del self._rooms[room_id]
        return followed

    def compared(self, nodes: Mapping[str, Set[str]]) -> tuple[list[Place], list[Place]]:
        """Those who came and those who went, if this is who is connected to which node."""
        here: Mapping[str, Set[str]] = {id_: there.keys() for id_, there in self._nodes.items()}
        return _more(nodes, here), _more(here, nodes)


def _more(nodes: Mapping[str, Set[str]], than: Mapping[str, Set[str]]) -> list[Place]:
    return [(id_, user_id) for id_, users in nodes.items() for user_id in users - than.get(id_, set())]


def _less(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
