"""Who is connected to which node. What a node says is forgotten when its time runs out."""

from collections.abc import Sequence

from parley.ids import Time, to_ms
from parley.stores.redis import keys, scripts
from parley.stores.redis.servers import Servers, script


async def report(
    servers: Servers, node_id: str, until: Time, came: Sequence[str], went: Sequence[str]
) -> bool:
    arguments = (node_id, to_ms(until), len(came), *came, *went)
    return bool(await servers.one(*script(scripts.REPORT, [keys.NODES, _users(node_id)], *arguments)))


async def online(servers: Servers, at: Time, but: str) -> set[str]:
    nodes = await servers.one("ZRANGEBYSCORE", keys.NODES, f"({to_ms(at)}", "+inf")
    others = [_users(node.decode()) for node in nodes if node.decode() != but]
    found = await servers.one("SUNION", *others) if others else []
    return {each.decode() for each in found if each}


def _users(node_id: str) -> str:
    return f"{keys.NODES}:{node_id}"
