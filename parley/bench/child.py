"""The server under test: `parley serve` in a process of its own, which says at its end what it counted."""

import json
import resource

import uvloop

from parley import config, server, telemetry
from parley.app import node_from
from parley.node import Node


async def _serve(node: Node) -> dict[str, float]:
    await server.run(node)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "encoded": node.hub.encoded,
        "repairs": sum(node.repair.repairs.values()),
        "cpu_seconds": used.ru_utime + used.ru_stime,
    }


def main() -> None:
    """Serve until told to stop, then print the counters."""
    settings = config.read()
    telemetry.configure(settings.log_format)
    print(json.dumps(uvloop.run(_serve(node_from(settings)))), flush=True)


if __name__ == "__main__":
    main()
