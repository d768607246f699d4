"""Routes: searching everything, and the server itself."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from parley.models import Limits, SearchResult, Stats
from parley.web.answers import reply
from parley.web.callers import CallerOf, CoreOf
from parley.web.schemas import Cursor, Limit

router = APIRouter()


@router.get("/search", response_model=SearchResult, tags=["messages"])
async def search_messages(
    caller: CallerOf,
    core: CoreOf,
    query: Annotated[str, Query(max_length=1000, description="words, or beginnings of words")],
    room: Annotated[str | None, Query(max_length=200, description="only there: an id or a name")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Messages that the caller may read and that hold all these words, the newest first."""
    return reply(await core.messages.search(caller.user.id, query, room, cursor, limit))


@router.get("/limits", response_model=Limits, tags=["server"])
async def see_limits(core: CoreOf) -> Response:
    """What this server allows; known to everybody, as it says how to come in."""
    return reply(core.stats.limits())


@router.get("/stats", response_model=Stats, tags=["server"])
async def see_stats(caller: CallerOf, core: CoreOf) -> Response:
    """How much there is on this server."""
    return reply(await core.stats.see())
