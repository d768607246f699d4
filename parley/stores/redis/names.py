"""Names that belong to one user, or to one room."""

from collections.abc import Callable

from parley.errors import NameTaken
from parley.stores.redis import scripts
from parley.stores.redis.servers import Servers, script


async def claim(servers: Servers, name: str, id_: str, record: Callable[[str], str]) -> None:
    """Take the name (a key) for an id, whose record is soon at the key that `record` gives.

    Raises `NameTaken` where the name's holder exists, or may still come. One that is closed or removed still
    exists here: whoever closes or removes it gives its name back.
    """
    holder = await servers.one(*script(scripts.CLAIM, [name], id_, ""))
    if holder is None:
        return
    if not await servers.one("EXISTS", record(holder.decode())):
        holder = await servers.one(*script(scripts.CLAIM, [name], id_, holder))
    if holder is not None:
        raise NameTaken


async def release(servers: Servers, name: str, id_: str) -> None:
    """Give the name back, unless another has it by now."""
    await servers.one(*script(scripts.RELEASE, [name], id_))


async def holder(servers: Servers, name: str) -> str | None:
    """The id that has the name."""
    held = await servers.one("GET", name)
    return str(held.split()[0], "utf-8") if held is not None else None
