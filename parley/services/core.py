"""The services of one node, together: what every API is made from."""

from dataclasses import dataclass

from parley.models import Applied, Role
from parley.permissions import may_send
from parley.services.accounts import Accounts
from parley.services.limits import Rates
from parley.services.marks import Marks
from parley.services.messages import Messages
from parley.services.own_data import OwnData
from parley.services.rooms import Rooms
from parley.services.sessions import Sessions
from parley.services.stats import Statistics
from parley.services.typing import Typing
from parley.stores.base import Store


@dataclass(frozen=True, slots=True)
class Core:
    """All that can be asked of this node."""

    store: Store
    accounts: Accounts
    sessions: Sessions
    rooms: Rooms
    messages: Messages
    marks: Marks
    typing: Typing
    own_data: OwnData
    stats: Statistics
    rates: Rates

    async def post_as_guest(self, name: str, room: str, text: str, *, id: str | None = None) -> Applied:
        """Post as the guest of that name into a public room, as one-liners do; a room of that name is made on
        first use, and so is the guest; neither for a text that would be refused.

        Raises what `Accounts.walk_in`, `Rates.of_user`, `Rooms.ensure`, `may_send`, `Rooms.join` and
        `Messages.send` raise.
        """
        self.messages.check(text, id)
        user = await self.accounts.walk_in(name)
        self.rates.of_user(user.id)
        found = await self.rooms.ensure(room, user)
        may_send(Role.MEMBER, read_only=found.read_only)
        await self.rooms.join(user, found.id)
        return await self.messages.send(user, found.id, text, id=id)
