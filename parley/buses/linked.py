"""What all buses with a broker share: stay connected, send what waits, subscribe to what is wanted."""

import asyncio
import random
import re
import socket
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

import structlog

from parley.buses.base import Deliver
from parley.buses.frames import HEAD_BYTES, Frame, packed, payloads_of
from parley.buses.outbox import Outbox
from parley.buses.wants import Wants
from parley.errors import StartError
from parley.security import masked

CONNECT_SECONDS = 4.0
ANSWER_SECONDS = 3.0
"""How long the broker may take to answer before it is taken for dead."""
PING_SECONDS = 1.5
STOP_SECONDS = 1.0
CLOSE_SECONDS = 1.0
GIVE_UP_SECONDS = 10.0
"""How long a driver may go on connecting when nobody waits for it any more."""
FIRST_DELAY_SECONDS = 0.05
LONGEST_DELAY_SECONDS = 2.0
MAX_SUBSCRIPTIONS = 250
"""How many topics are subscribed to at once; who wants another one meanwhile has to wait."""
MAX_FRAME_BYTES = 512 * 1024

Arrived = Callable[[str, bytes], None]
"""Called with a topic and the body of a frame. Never raises."""

log = structlog.get_logger()


class Link(Protocol):
    """One connection to a broker. Whatever is raised here, it is closed and another one is made."""

    async def open(self) -> None:
        """Connect. Raises whatever is wrong."""

    async def listen(self) -> None:
        """Hand over what arrives; never returns. Raises when the connection is lost."""

    async def ping(self) -> None:
        """Return when the broker has answered, on every connection that this one consists of."""

    async def send(self, frames: list[Frame]) -> None:
        """Return when the broker has the frames."""

    async def subscribe(self, topics: list[str]) -> None:
        """Return when what is published from now on arrives."""

    async def unsubscribe(self, topics: list[str]) -> None:
        """No longer let these arrive."""

    async def close(self) -> None:
        """Disconnect, however far `open` came."""


class LinkedBus:
    """Keeps the promises of `Bus` over one `Link` after the other."""

    is_alone = False

    def __init__(self, url: str, *, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self.shown_url = re.sub(r"//[^@]*@", "//***@", masked(url))
        self.breaks = self.garbage = self.received_frames = 0
        self.published_frames = self.published_payloads = self.published_bytes = 0
        self.on_subscribed: Callable[[Collection[str]], None] = lambda topics: None
        self._outbox = Outbox(max_frame_bytes)
        self._wants = Wants()
        self._deliver: Deliver = lambda topic, payload: None
        self._something_to_send = asyncio.Event()
        self._something_to_say = asyncio.Event()
        self._in_line = asyncio.Event()
        self._was_in_line = False
        self._linked = False
        self._sending = False
        self._running: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def _new_link(self) -> Link:
        """A connection that is not open yet."""
        raise NotImplementedError

    def _reason(self, error: BaseException) -> str:
        """Why connecting fails, for an operator."""
        return reason(error)

    @property
    def dropped_payloads(self) -> int:
        return self._outbox.dropped

    async def start(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._running = asyncio.create_task(self._run(), name="bus")
        in_line = asyncio.create_task(self._in_line.wait())
        try:
            await asyncio.wait([self._running, in_line], return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await self.stop()
            raise
        finally:
            in_line.cancel()
        if self._running.done():
            error = self._running.exception()
            assert error is not None
            raise StartError(f"cannot use {self.shown_url}: {self._reason(error)}") from None

    async def stop(self) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        while self._linked and (self._outbox or self._sending) and time.monotonic() < deadline:
            await asyncio.sleep(0.002)
        if self._running is not None:
            # The first time it may take until the goodbye is said.
            await ended([self._running], again_seconds=CLOSE_SECONDS + 0.2)

    def publish(self, topic: str, payload: bytes) -> None:
        self._outbox.put(topic, payload)
        self._something_to_send.set()

    def want(self, topic: str) -> None:
        self._wants.want(topic)
        self._something_to_say.set()

    def unwant(self, topic: str) -> None:
        self._wants.unwant(topic)
        self._something_to_say.set()

    def healthy(self) -> bool:
        return self._linked and self._in_line.is_set()

    def _arrived(self, topic: str, body: bytes) -> None:
        self.received_frames += 1
        if topic not in self._wants or body.startswith(self._outbox.head):
            return
        try:
            payloads = payloads_of(body)
        except ValueError:
            self.garbage += 1
            return
        for payload in payloads:
            try:
                self._deliver(topic, payload)
            except Exception:
                log.exception("what came over the bus could not be delivered", topic=topic)

    async def _run(self) -> None:
        """Be connected for ever. Raises only what the very first connection meets with."""
        tries = 0
        away_since: float | None = None
        while True:
            try:
                await self._be_linked(away_since)
            except Exception as error:
                if not self._was_in_line:
                    raise
                if self._in_line.is_set():
                    self._in_line.clear()
                    self.breaks += 1
                    tries, away_since = 0, time.monotonic()
                    log.warning("the bus is away", bus=self.shown_url, reason=self._reason(error))
            delay = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2**tries)
            tries = min(tries + 1, 10)
            await asyncio.sleep(delay * random.uniform(0.5, 1))

    async def _be_linked(self, away_since: float | None) -> None:
        """Connect and work until something breaks, which is raised."""
        link = self._new_link()
        opening = asyncio.create_task(link.open(), name="bus opening")
        jobs: list[asyncio.Task[None]] = []
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                # Drivers leave things behind when they are called off in the midst of it.
                await asyncio.shield(opening)
            self._wants.forget()
            self._linked = True
            self._outbox.open()
            jobs += map(
                asyncio.create_task,
                (link.listen(), self._watch(link), self._subscribe(link, away_since), self._send(link)),
            )
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            for job in done:
                job.result()
            raise ConnectionError("the connection ended")
        finally:
            self._linked = False
            self._outbox.close()
            await ended(jobs)
            await self._part_with(link, opening)

    async def _part_with(self, link: Link, opening: asyncio.Task[None]) -> None:
        """Disconnect, without waiting long for a goodbye that may never come."""
        closing = asyncio.create_task(self._closed(link, opening), name="bus closing")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        await asyncio.wait([closing], timeout=CLOSE_SECONDS)

    async def _closed(self, link: Link, opening: asyncio.Task[None]) -> None:
        try:
            await asyncio.wait([opening], timeout=GIVE_UP_SECONDS)
            opening.cancel()
            await link.close()
        except Exception as error:
            log.debug("the bus did not disconnect cleanly", error=str(error))

    async def _watch(self, link: Link) -> None:
        """A peer that died without saying so answers nothing."""
        while True:
            await asyncio.sleep(PING_SECONDS)
            await answered(link.ping())

    async def _subscribe(self, link: Link, away_since: float | None) -> None:
        while True:
            self._something_to_say.clear()
            while not self._wants.are_settled():
                more, less = self._wants.changes(MAX_SUBSCRIPTIONS)
                if more:
                    await link.subscribe(more)
                    self.on_subscribed(more)
                if less:
                    await link.unsubscribe(less)
            if not self._in_line.is_set():
                if not self._was_in_line:
                    # Nobody wants it, but whether we may publish is known at the start.
                    await answered(link.send([packed(self._outbox.head, "started", [b""])]))
                self._was_in_line = True
                self._in_line.set()
                if away_since is not None:
                    log.info(
                        "the bus is back", bus=self.shown_url, seconds=round(time.monotonic() - away_since, 1)
                    )
            await self._something_to_say.wait()

    async def _send(self, link: Link) -> None:
        """Send what was published in a turn of the loop together, and what came while that was under way."""
        while True:
            self._something_to_send.clear()
            while frames := self._outbox.take():
                self._sending = True
                try:
                    await answered(link.send(frames))
                except BaseException:
                    self._outbox.lose(frames)
                    raise
                finally:
                    self._sending = False
                self.published_frames += len(frames)
                for frame in frames:
                    self.published_payloads += frame.payloads
                    self.published_bytes += len(frame.body) - HEAD_BYTES
            await self._something_to_send.wait()


async def ended(tasks: Collection[asyncio.Task[None]], *, again_seconds: float = 0.1) -> None:
    """Cancel tasks until they are gone. Once may not do: before Python 3.12 `asyncio.wait_for`, which drivers
    use, can swallow it."""
    for task in tasks:
        task.cancel()
    pending: Collection[asyncio.Task[None]] = tasks
    while pending:
        _, pending = await asyncio.wait(pending, timeout=again_seconds)
        for task in pending:
            task.cancel()
    for task in tasks:
        if not task.cancelled():
            task.exception()  # It was looked at, or came too late to matter.


async def answered(answer: Awaitable[None]) -> None:
    """Wait for the broker, but not for ever. Raises `TimeoutError`."""
    async with asyncio.timeout(ANSWER_SECONDS):
        await answer


def reason(error: BaseException) -> str:
    """What every broker's driver may meet with. Drivers repeat the host, which may be part of a password."""
    for cause in _chain(error):
        if isinstance(cause, StartError):
            return str(cause)
        if isinstance(cause, socket.gaierror):
            return "there is no such host; check its name"
        if isinstance(cause, TimeoutError):
            return "it does not answer; check host and port"
        if isinstance(cause, OSError):
            return "nobody answers there; start the server, or check host and port"
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _chain(error: BaseException) -> list[BaseException]:
    """An error and what led to it, the deepest first."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    return chain[::-1]
