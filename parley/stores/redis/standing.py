"""Deciding by the rules, in the step that does it: what a rule was asked about must still be so."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

from parley.errors import RoomNotFound, StoreUnavailable
from parley.models import Role, RoomKind
from parley.stores.redis import keys, scripts
from parley.stores.redis.faults import RETRY_AFTER_SECONDS
from parley.stores.redis.servers import Servers, script

MAX_TRIES = 5
"""How often a rule is asked again, because somebody's role has changed meanwhile."""


@dataclass(frozen=True)
class Standing:
    """What the rules ask about in a room: the role of who asks and that of whom it is about. `owners` and
    `members` are counted where the latter is an owner or the room is direct, and are 2 for any more."""

    kind: RoomKind
    by: Role | None
    role: Role | None
    owners: int
    members: int


async def decided(
    servers: Servers,
    room_id: str,
    by: str | None,
    user_id: str,
    rule: Callable[[Standing], None],
    step: Callable[[str], Awaitable[Any]],
) -> Any:
    """What a step answers, if the rule allows it to whoever asks, and all that it decided on is as it was.

    The step is given what was seen, for its script to compare. Nobody asking is not asked. Raises what the
    rule and the step raise, `RoomNotFound` and `StoreUnavailable`.
    """
    if by is None:
        return await step("")
    asking = script(scripts.ASK, keys.of_room(room_id, "", "roles"), by, "", user_id)
    for _ in range(MAX_TRIES):
        seen = str(await servers.one(*asking), "utf-8")
        if not seen:
            raise RoomNotFound
        rule(_standing(seen))
        answer = await step(seen)
        if answer != b"moved":
            return answer
    raise StoreUnavailable(retry_after=RETRY_AFTER_SECONDS)


def _standing(seen: str) -> Standing:
    kind, by, role, owners, members = seen.split()
    return Standing(cast(RoomKind, kind), _role(by), _role(role), int(owners), int(members))


def _role(text: str) -> Role | None:
    return Role(text) if text != "-" else None
