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


async def online(servers: Servers, at: Time, but: str) -> dict[str, set[str]]:
    nodes = await servers.one("ZRANGEBYSCORE", keys.NODES, f"({to_ms(at)}", "+inf")
    others = [node.decode() for node in nodes if node.decode() != but]
    found = await servers.all([("SMEMBERS", _users(node_id)) for node_id in others])
    return {
        node_id: {each.decode() for each in users if each}
        for node_id, users in zip(others, found, strict=True)
    }


def _users(node_id: str) -> str:
    return f"{keys.NODES}:{node_id}"
