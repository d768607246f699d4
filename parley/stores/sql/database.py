"""What the SQL store asks of its database, whichever it is."""

from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection

from parley.errors import ParleyError
from parley.models import Applied, Change

P = ParamSpec("P")
T = TypeVar("T")

DEADLINE_SECONDS = 10.0
"""How long a caller waits for a step."""

SEARCH_SECONDS = 3.0
"""How long a search may take."""

MAX_WAITING_STEPS = 1000
"""More than these are refused, so that a database that hangs does not fill the memory."""

RETRY_AFTER_SECONDS = 1.0


class Database(Protocol):
    """Runs steps, which are plain functions of a `Connection`, each as one transaction.

    The same functions serve every database. Raises what a step raises and `StoreUnavailable`, in place of a
    fault `InternalError`, and nothing of the driver's.
    """

    async def open(self) -> None:
        """Connect; make the tables where there are none. Raises `StartError`."""

    async def migrate(self) -> str | None:
        """Bring the schema up to date, and return its revision of before. Raises `StartError`."""

    async def close(self) -> None:
        """Finish the steps under way, then let go of everything."""

    async def write(
        self, step: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a step that writes. What it wrote is durable when this returns."""

    async def read(
        self, step: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a step that only reads: one moment, with everything that was written before."""

    async def search(
        self, step: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a step that reads a lot, without keeping others waiting. Raises `SearchTooBroad` where it takes
        longer than `SEARCH_SECONDS`."""

    async def apply(self, changes: Sequence[Change]) -> list[Applied | ParleyError]:
        """`Store.apply`, except that one change that cannot be stored fails the whole batch."""
