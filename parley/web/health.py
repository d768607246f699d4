"""Routes for whoever runs the server: is it alive, is it ready, how is it doing? No token is asked for."""

import asyncio

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from parley import metrics
from parley.errors import ParleyError, StoreUnavailable
from parley.stores.base import Store
from parley.web.answers import reply
from parley.web.callers import node_of

STORE_SECONDS = 2.0
"""How long the store may take to answer before the server counts as not ready."""

router = APIRouter(include_in_schema=False)

_pings: set[asyncio.Task[None]] = set()
"""Those under way, until they end by the store's own deadline."""


@router.get("/healthz")
async def alive() -> Response:
    """The process runs. No I/O."""
    return reply({"status": "alive"})


@router.get("/readyz")
async def ready(request: Request) -> Response:
    """Whether the process can serve: 503 while it starts, drains, is broken or has no store.

    A bus that is away is said, and no reason to send people elsewhere: what it would have told comes from
    the store, a moment later.
    """
    node = node_of(request)
    status, store = node.state, "unknown"
    if status == "ready":
        store = await _answer_of(node.store)
        status = "ready" if store == "ok" else store
    # Other nodes on this store that this bus does not reach have another PARLEY_BUS.
    reaches_all = not node.bus.is_alone or node.state != "ready" or not node.realtime.presence.others
    bus = "ok" if node.bus.healthy() and reaches_all else "degraded"
    return reply({"status": status, "store": store, "bus": bus}, 200 if status == "ready" else 503)


@router.get("/metrics")
async def measured(request: Request) -> Response:
    """The node's numbers, for Prometheus. They are for operators: a proxy must not pass this on."""
    return Response(metrics.text_of(node_of(request)), media_type=CONTENT_TYPE_PLAIN_0_0_4)


async def _answer_of(store: Store) -> str:
    """`ok`, or the code of the store's error; a store that is late counts as one that does not answer."""
    ping = asyncio.create_task(store.ping(), name="ping")
    _pings.add(ping)
    ping.add_done_callback(_ended)
    # Not `timeout`: a store that calls off its own work after its own deadline must live to see it.
    await asyncio.wait({ping}, timeout=STORE_SECONDS)
    if not ping.done():
        return StoreUnavailable.code
    try:
        ping.result()
    except ParleyError as error:
        return error.code
    return "ok"


def _ended(ping: asyncio.Task[None]) -> None:
    _pings.discard(ping)
    if not ping.cancelled():
        ping.exception()  # whoever waited has it, or has gone
