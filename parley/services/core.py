"""The services of one node, together: what every API is made from."""

from dataclasses import dataclass

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
