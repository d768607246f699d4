"""One running server: its store and bus, the services over them and the connections of this process."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from secrets import token_urlsafe

import structlog

from parley import background, events, transfer
from parley.buses.base import Bus
from parley.config import Settings
from parley.errors import ParleyError, RoomNotFound
from parley.ids import new_id, now
from parley.models import Change
from parley.realtime.hub import Hub
from parley.realtime.presence import Presence
from parley.realtime.repair import Repair
from parley.realtime.resume import Resume
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


class Node:
    """One process of a chat. `start` and `stop` each run once, on the event loop."""

    def __init__(self, settings: Settings, store: Store, bus: Bus) -> None:
        self.settings = settings
        self.store = store
        self.bus = bus
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
        rooms = Rooms(self.store, self.settings, self.hub)
        self.journal = Journal(
            self.store, self.hub.announce, refused=self._refused, max_batch=self.settings.journal_batch
        )
        self.repair = Repair(self.store, self.hub)
        await rooms.open_lobby()
        secret = await self._secret()
        sessions = Sessions(self.store, self.settings, self.hub, secret)
        passwords = Passwords()
        self._ending.callback(passwords.close)
        accounts = Accounts(self.store, self.settings, self.hub, sessions, passwords, rooms)
        typing = Typing(rooms, self.hub)
        self._ending.callback(typing.close)
        marks = Marks(self.store, rooms, self.hub)
        messages = Messages(self.store, self.journal, rooms, marks, sessions, typing, self.settings)
        stats = Statistics(self.store, self.settings, self.hub)
        presence = Presence(self.hub, self.store, new_id())
        self.core = Core(
            store=self.store,
            accounts=accounts,
            sessions=sessions,
            rooms=rooms,
            messages=messages,
            marks=marks,
            typing=typing,
            own_data=OwnData(self.store, sessions, rooms, self.hub),
            stats=stats,
            rates=Rates(self.settings.rate_limit),
        )
        resume = Resume(self.hub, self.repair)
        self.realtime = Realtime(core=self.core, hub=self.hub, resume=resume, presence=presence, loop=loop)
        self.hub.on_live = self._want
        self.hub.on_announced = self._announced
        self.hub.on_moved = presence.moved
        await self.bus.start(self._arrived)
        self._ending.push_async_callback(self.bus.stop)
        self._ending.push_async_callback(sessions.save)
        self._ending.push_async_callback(marks.stop)
        self._ending.push_async_callback(presence.stop)
        self.repair.start(self._died)
        self._ending.push_async_callback(self.repair.stop)
        housekeeping = Housekeeping(self.store, self.settings, rooms.closed)
        for name, work in (
            ("sessions", self._keep_sessions()),
            ("housekeeping", housekeeping.run()),
            ("presence", presence.run()),
            ("store", self._watch_store()),
        ):
            self._ending.push_async_callback(background.stop, background.start(work, name, self._died))
        self.journal.start(self._died)
        self._ending.push_async_callback(self.drain)

    async def _secret(self) -> str:
        """The key that signs tokens: the operator's, or one that is made once and kept with the chat."""
        given = self.settings.secret
        return given.get_secret_value() if given else await self.store.keep("secret", token_urlsafe(32))

    async def drain(self) -> None:
        """Take nothing new, write what was taken and send the clients away to come back."""
        if self.realtime.draining:
            return
        self.realtime.draining = True
        self.state = "draining"
        await self.journal.stop(self.settings.drain_seconds)
        await asyncio.sleep(0)  # the last acknowledgements go out before the goodbyes
        await asyncio.sleep(0)
        for client in list(self.realtime.clients):
            client.restart()

    async def stop(self) -> None:
        """Drain, and let go of everything, the last started first."""
        await self._ending.aclose()
        self.state = "stopped"

    def _announced(self, room_id: str, line: bytes) -> None:
        self.bus.publish(f"room:{room_id}", line)

    def _arrived(self, topic: str, payload: bytes) -> None:
        try:
            event = events.decode(payload)
        except ValueError:
            log.warning("a bus frame made no sense", topic=topic, bytes=len(payload))
        else:
            self.hub.deliver(event, payload)

    def _want(self, room_id: str, live: bool) -> None:
        (self.bus.want if live else self.bus.unwant)(f"room:{room_id}")

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
