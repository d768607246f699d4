"""Asks the store about those who are connected here what other nodes may have told in vain: whether their
sessions go on, what they are called and which rooms they are in."""

from collections.abc import Callable, Collection
from typing import NamedTuple

from parley.ids import from_ms, now_ms
from parley.realtime.hub import Hub
from parley.realtime.live_room import Follower
from parley.stores.base import Store

OVERLAP_MS = 15_000
"""How much further than to the last look it is looked back: the clocks of nodes differ, and a step that was
noted may not have been done yet."""

AT_ONCE = 1_000
"""Connections that are looked at together; others have their turn of the loop in between."""


class _Seen(NamedTuple):
    """A connection, and the rooms that it was a member's in before the store was asked."""

    follower: Follower
    rooms: frozenset[str]


class Recheck:
    """Brings the connections of this node in step with the store."""

    def __init__(self, store: Store, hub: Hub, is_alone: Callable[[], bool]) -> None:
        self._store = store
        self._hub = hub
        self._is_alone = is_alone
        self.on_early: Callable[[str], None] = lambda user_id: None
        """Called with a user who is still saying hello, and is to be looked at again."""
        self._looked_ms = now_ms()

    async def look(self, user_ids: Collection[str] | None) -> None:
        """Look at these users, or at all who are connected here. Raises `StoreUnavailable`.

        Of all of them it asks who has moved lately, so that it costs little where nobody has.
        """
        if self._is_alone() or not self._hub.sessions:
            return
        here = set(self._hub.sessions) if user_ids is None else self._hub.sessions.keys() & user_ids
        # Who still says hello is asked about by that, and looked at afterwards.
        followers = [each for user_id in here for each in self._hub.sessions[user_id] if each.has_entered]
        for begin in range(0, len(followers), AT_ONCE):
            await self._end_sessions(followers[begin : begin + AT_ONCE])
        if user_ids is None:
            began = now_ms()
            here = self._hub.sessions.keys() & await self._store.moved(from_ms(self._looked_ms - OVERLAP_MS))
            self._looked_ms = began
        await self._compare_rooms(here)

    async def _end_sessions(self, followers: list[Follower]) -> None:
        found = await self._store.sessions(list({each.session_id for each in followers}))
        for follower in followers:
            entry = found.get(follower.session_id)
            if entry is None:
                follower.end("signed out")
            elif entry[1].display_name != follower.user.display_name:
                follower.renamed(entry[1])

    async def _compare_rooms(self, user_ids: Collection[str]) -> None:
        seen: dict[str, list[_Seen]] = {}
        for user_id in user_ids:
            for follower in self._hub.sessions.get(user_id, ()):
                if follower.has_entered:
                    seen.setdefault(user_id, []).append(_Seen(follower, frozenset(follower.member_of)))
                else:
                    self.on_early(user_id)
        if not seen:
            return
        lost: dict[tuple[str, str], None] = {}
        for user_id, rooms in (await self._store.rooms_of(list(seen))).items():
            mine = {room.id for room in rooms}
            for follower, before in seen[user_id]:
                for room_id in mine - follower.member_of:
                    follower.follow(room_id)
                lost.update(dict.fromkeys((user_id, each) for each in (before & follower.member_of) - mine))
        if lost:
            await self._part(lost)

    async def _part(self, lost: Collection[tuple[str, str]]) -> None:
        """Tell users that they are no longer in a room, or that it is closed (user id, room id)."""
        still_open = await self._store.heads(list({room_id for _, room_id in lost}))
        for user_id, room_id in lost:
            if room_id in still_open:
                self._hub.left(user_id, room_id)
            else:
                self._hub.closed(room_id)
