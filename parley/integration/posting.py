"""Posts what other services send: in the order of each user, acknowledged when it is stored."""

import asyncio
import random
import uuid
from collections.abc import Callable
from functools import partial
from typing import Annotated, Protocol

import msgspec
import structlog

from parley import events
from parley.errors import BodyTooLarge, Draining, InternalError, InvalidField, InvalidJson, ParleyError
from parley.ids import new_id
from parley.integration import MESSAGES
from parley.integration.line import Line, Link
from parley.models import Model
from parley.realtime.feed import Complaint
from parley.realtime.protocol import MessageAnswer, error_body
from parley.services.core import Core

MAX_BODY_BYTES = 256 * 1024
"""As much as over HTTP."""
AT_ONCE = 64
"""Posts that are under way; more are not taken from the broker."""
FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0
TRIES_OF_A_FAULT = 5
"""How often something is tried where the fault is ours, and may be one for ever."""
SPEAK_SECONDS = 1.0
"""Of refusals, one is logged in that time; all are counted."""

POSTS = uuid.UUID("8f0f5f0e-5ac1-5b0e-9a43-6d1c5b7e2f10")
"""The namespace (RFC 9562, version 5) of ids that are made of how the broker knows a message."""

log = structlog.get_logger()

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class Post(Model):
    """A message to be posted: who says what, where. Both the guest and the public room are made on first
    use. The same `id` again is the same message; fields that are not known are ignored."""

    user: Name
    room: Name
    text: str
    id: Annotated[str, msgspec.Meta(max_length=200, extra_json_schema={"format": "uuid"})] | None = None


class Posted(Model):
    """It is stored, now or already."""

    ok: MessageAnswer


class Delivery(Protocol):
    """One message that the broker has given us, and will give again unless it is settled."""

    body: bytes
    identity: str | None
    """How the broker knows it, whenever it is delivered; None where it cannot tell it from another."""

    async def settle(self, answer: bytes, *, stored: bool) -> None:
        """Answer who wants an answer, and let the broker forget the message."""


class PostLink(Link, Protocol):
    """A connection over which posts come in."""

    async def take(self) -> Delivery:
        """The next one."""


_decode = msgspec.json.Decoder(Post).decode


class Posting:
    """Takes posts and settles each when it is stored, or refused for good. What may work later is tried until
    it does, and keeps later ones of the same user waiting: theirs are stored in the order of the queue."""

    def __init__(self, new_link: Callable[[], PostLink], reason: Callable[[BaseException], str]) -> None:
        self.posted = 0
        self.refused = 0
        self.retried = 0
        self._line = Line(MESSAGES, new_link, reason, self._work)
        self._core: Core | None = None
        self._silent_until = 0.0

    async def run(self, core: Core) -> None:
        """Take what comes, for ever."""
        self._core = core
        await self._line.run()

    async def stopped(self) -> None:
        """The task is gone; what was not settled is delivered again, to another node or later."""
        await self._line.let_go()

    def healthy(self) -> bool:
        """Whether the broker is there."""
        return self._line.is_linked

    async def _work(self, link: PostLink) -> None:
        places = asyncio.Semaphore(AT_ONCE)
        last: dict[str, asyncio.Task[None]] = {}
        trouble: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(user: str, task: asyncio.Task[None]) -> None:
            places.release()
            if last.get(user) is task:
                del last[user]
            if not task.cancelled() and (error := task.exception()) and not trouble.done():
                trouble.set_exception(error)

        async def take() -> None:
            while True:
                await places.acquire()
                delivery = await link.take()
                post = _read(delivery)
                user = post.user.casefold() if isinstance(post, Post) else ""
                task = asyncio.create_task(self._handle(delivery, post, last.get(user)), name="post")
                last[user] = task
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                task.add_done_callback(partial(done, user))

        under_way: set[asyncio.Task[None]] = set()
        taking = asyncio.create_task(take(), name="taking posts")
        try:
            await asyncio.wait([taking, trouble], return_when=asyncio.FIRST_COMPLETED)
            (taking if taking.done() else trouble).result()
        finally:
            pending = {taking, *under_way}
            for task in pending:
                task.cancel()
            await asyncio.wait(pending)
            for task in pending:
                if not task.cancelled():
                    task.exception()
            trouble.cancel()

    async def _handle(
        self, delivery: Delivery, post: Post | ParleyError, before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
        try:
            if isinstance(post, ParleyError):
                raise post
            answer: Model = await self._post(post, delivery.identity)
        except ParleyError as error:
            self.refused += 1
            self._tell(error)
            await delivery.settle(events.encode(Complaint(error=error_body(error))), stored=False)
        else:
            self.posted += 1
            await delivery.settle(events.encode(answer), stored=True)

    async def _post(self, post: Post, identity: str | None) -> Posted:
        """Post until it is stored. Raises what it is refused for."""
        assert self._core is not None
        id_ = post.id
        if id_ is None:  # chosen once: what failed may have been stored all the same
            id_ = str(uuid.uuid5(POSTS, identity)) if identity is not None else new_id()
        tries = faults = 0
        while True:
            try:
                applied = await self._core.post_as_guest(post.user, post.room, post.text, id=id_)
                return Posted(ok=MessageAnswer(message=applied.message))
            except Draining:
                await asyncio.Event().wait()  # another node gets it when we are gone
            except ParleyError as error:
                faults += isinstance(error, InternalError)
                if not error.retryable and not 0 < faults < TRIES_OF_A_FAULT:
                    raise
                after = error.retry_after or 0.0
            except Exception:
                log.exception("a message was not posted")
                faults += 1
                if faults >= TRIES_OF_A_FAULT:
                    raise InternalError from None
                after = 0.0
            self.retried += 1
            delay = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(tries, 10))
            tries += 1
            await asyncio.sleep(max(after, delay * random.uniform(0.5, 1)))

    def _tell(self, error: ParleyError) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._silent_until:
            self._silent_until = now + SPEAK_SECONDS
            log.warning("a message of another service was refused", code=error.code, refused=self.refused)


def _read(delivery: Delivery) -> Post | ParleyError:
    """The post in a message of the broker's, or why there is none."""
    if len(delivery.body) > MAX_BODY_BYTES:
        return BodyTooLarge()
    try:
        return _decode(delivery.body)
    except msgspec.ValidationError as error:
        return InvalidField(str(error))
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return InvalidJson()
