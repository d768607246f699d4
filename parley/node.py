"""One running server: its store and bus, the services over them and the connections of this process."""

import asyncio
import math
import random
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from secrets import token_urlsafe

import structlog

from parley import background, transfer
from parley.buses.base import Bus
from parley.config import Settings
from parley.errors import ParleyError, RoomNotFound
from parley.ids import new_id, now
from parley.integration.outside import Outside
from parley.models import Change
from parley.realtime.everywhere import ROOM, USER, Everywhere
from parley.realtime.hub import Hub
from parley.realtime.presence import NODES, Presence
from parley.realtime.recheck import Recheck
from parley.realtime.repair import Repair
from parley.realtime.resume import Resume
from parley.realtime.rounds import Rounds
from parley.realtime.session import Session
from parley.realtime.transport import Realtime
from parley.services.accounts import Accounts
from parley.services.core import Core
from parley.services.housekeeping import Housekeeping
from parley.services.journal import Journal
from parley.services.limits import Rates
from parley.services.marks import Marks
from parley.services.messages import Messages
from parley.services.own_data import OwnData
from parley.services.passwords import Passwords
from parley.services.rooms import Rooms
from parley.services.sessions import Sessions
from parley.services.stats import Statistics
from parley.services.typing import Typing
from parley.stores.base import Store

log = structlog.get_logger()

WATCH_SECONDS = 5.0
"""How often the store is asked whether it is still the same."""

STEP_SECONDS = 1.0
"""How often session ends are written down and ended sessions looked for."""

PART_SECONDS = 0.05
"""How often some clients are sent away while a node drains."""
AT_LEAST = 20
"""So many of them each time, so that a small node ends at once."""


class Node:
    """One process of a chat. `start` and `stop` each run once, on the event loop."""

    def __init__(self, settings: Settings, store: Store, bus: Bus, outside: Outside | None = None) -> None:
        self.settings = settings
        self.store = store
        self.bus = bus
        self.outside = outside
        self.origins = frozenset(each.strip() for each in settings.origins.split(",") if each.strip())
        self.state = "starting"
        self.on_death: Callable[[str], None] = lambda name: None
        self._ending = AsyncExitStack()

    async def start(self) -> None:
        """Open the store, make the lobby and begin to work. Raises `StartError`."""
        try:
            await self._start()
        except BaseException:
            await self._ending.aclose()
            raise
        self.state = "ready"

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        await self.store.open()
        self._ending.push_async_callback(self.store.close)
        await transfer.claim(self.store)
        self.hub = Hub(loop)
        presence = Presence(self.hub, self.store, self.bus, new_id())
        self.everywhere = live = Everywhere(self.hub, self.bus, presence)
        rooms = Rooms(self.store, self.settings, live)
        live.on_closed = rooms.forget
        self.journal = Journal(
            self.store, live.announce, refused=self._refused, max_batch=self.settings.journal_batch
        )
        self.repair = Repair(self.store, self.hub)
        await rooms.open_lobby()
        secret = await self._secret()
        sessions = Sessions(self.store, self.settings, live, secret)
        passwords = Passwords()
        self._ending.callback(passwords.close)
        accounts = Accounts(self.store, self.settings, live, sessions, passwords, rooms)
        typing = Typing(rooms, live)
        self._ending.callback(typing.close)
        marks = Marks(self.store, rooms, live)
        messages = Messages(self.store, self.journal, rooms, marks, sessions, typing, self.settings)
        stats = Statistics(self.store, self.settings, live)
        self.core = Core(
            store=self.store,
            accounts=accounts,
            sessions=sessions,
            rooms=rooms,
            messages=messages,
            marks=marks,
            typing=typing,
            own_data=OwnData(self.store, sessions, rooms, live),
            stats=stats,
            rates=Rates(self.settings.rate_limit),
        )
        resume = Resume(self.hub, self.repair)
        self.realtime = Realtime(core=self.core, hub=self.hub, resume=resume, presence=presence, loop=loop)
        recheck = Recheck(self.store, self.hub, self._is_alone)
        self._of_rooms = Rounds(self.repair.compare, self._hears_all)
        self._of_users = Rounds(recheck.look, self._hears_all)
        recheck.on_early = self._of_users.ask
        live.on_look = self._look
        self.bus.on_subscribed = self._subscribed
        self.bus.want(NODES)
        await self.bus.start(live.arrived)
        self._ending.push_async_callback(self.bus.stop)
        if self.outside is not None:
            live.on_stored = self.outside.publish
            self._ending.push_async_callback(self.outside.stop)
        self._ending.push_async_callback(sessions.save)
        self._ending.push_async_callback(marks.stop)
        self._ending.push_async_callback(presence.stop)
        self._ending.push_async_callback(self.repair.stop)
        housekeeping = Housekeeping(self.store, self.settings, rooms.closed)
        for name, work in (
            ("sessions", self._keep_sessions()),
            ("housekeeping", housekeeping.run()),
            ("presence", presence.run()),
            ("repair", self._of_rooms.run()),
            ("recheck", self._of_users.run()),
            ("store", self._watch_store()),
        ):
            self._ending.push_async_callback(background.stop, background.start(work, name, self._died))
        self.journal.start(self._died)
        if self.outside is not None:
            self.outside.start(self.core, self._died)
        self._ending.push_async_callback(self.drain)

    async def _secret(self) -> str:
        """The key that signs tokens: the operator's, or one that is made once and kept with the chat."""
        given = self.settings.secret
        return given.get_secret_value() if given else await self.store.keep("secret", token_urlsafe(32))

    async def drain(self) -> None:
        """Take nothing new, write what was taken and send the clients away to come back: over up to half of
        `drain_seconds`, as all of them at once would be a storm for the nodes that they go to. Until it is
        their turn they hear what happens."""
        if self.realtime.draining:
            return
        until = asyncio.get_running_loop().time() + self.settings.drain_seconds / 2
        self.realtime.draining = True
        self.realtime.presence.leave()
        self.state = "draining"
        await self.journal.stop(self.settings.drain_seconds)
        await asyncio.sleep(0)  # the last acknowledgements go out before the goodbyes
        await asyncio.sleep(0)
        await self._part_with_all(until)

    async def _part_with_all(self, until: float) -> None:
        """Send the clients away in random order, as many at a time as makes the last ones go by then."""
        clients = list(self.realtime.clients)
        random.shuffle(clients)
        while clients:
            steps = (until - asyncio.get_running_loop().time()) / PART_SECONDS
            together = max(AT_LEAST, math.ceil(len(clients) / max(1, steps)))
            for client in clients[:together]:
                client.restart()
            del clients[:together]
            if clients:
                await asyncio.sleep(PART_SECONDS)

    async def stop(self) -> None:
        """Drain, and let go of everything, the last started first."""
        await self._ending.aclose()
        self.state = "stopped"

    def _is_alone(self) -> bool:
        """Whether nothing can have happened on another node."""
        return self.bus.is_alone and not self.realtime.presence.others

    def _hears_all(self) -> bool:
        """Whether what other nodes say arrives here, as far as is known."""
        return self.bus.healthy() and not self.realtime.presence.unheard()

    def _subscribed(self, topics: Iterable[str]) -> None:
        """What happened before these topics began to arrive was not heard here."""
        for topic in topics:
            self._look(topic)

    def _look(self, topic: str) -> None:
        """Something that was said of a topic did not arrive."""
        if topic.startswith(ROOM):
            self._of_rooms.ask(topic.removeprefix(ROOM))
        elif topic.startswith(USER):
            self._of_users.ask(topic.removeprefix(USER))
        else:
            self._of_rooms.ask_all()
            self._of_users.ask_all()
            self.realtime.presence.doubt()

    def _died(self, name: str) -> None:
        self.state = "broken"
        for client in list(self.realtime.clients):
            client.restart()
        self.on_death(name)

    async def _watch_store(self) -> None:
        """Raise if the store is suddenly another one, such as an emptied one: what is known here is not true.

        The process ends, and the next one makes of the store what it needs.
        """
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                epoch = await self.store.kept("epoch")
            except ParleyError:
                continue  # it is away; that is said elsewhere
            if epoch != self.store.epoch:
                raise RuntimeError("the store was emptied or replaced")

    def _refused(self, change: Change, error: ParleyError) -> None:
        if isinstance(error, RoomNotFound):
            self.core.rooms.forget(change.room_id)

    async def _keep_sessions(self) -> None:
        while True:
            await asyncio.sleep(STEP_SECONDS)
            try:
                await self.core.sessions.save()
                await self._end_sessions()
            except ParleyError as error:
                log.warning("sessions will be looked at again", code=error.code)

    async def _end_sessions(self) -> None:
        """End the connections of sessions that have run out."""
        moment = now()
        for client in [each for followers in self.hub.sessions.values() for each in followers]:
            if isinstance(client, Session) and client.expires_at <= moment:
                await client.renew()
