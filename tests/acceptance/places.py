"""Where the acceptance tests run: which store, which bus between the nodes, and the nodes themselves."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.backends import postgres
from tests.rabbitmq_server import RabbitServer, own_rabbitmq
from tests.redis_servers import RedisServer, a_redis, redis_server, the_redis
from tests.servers import ServerProcess


@dataclass(frozen=True)
class Place:
    """A store and a bus, by their names below. On a bus with a broker there are two nodes."""

    store: str
    bus: str

    @property
    def has_broker(self) -> bool:
        return self.bus != "memory"


class Nodes(NamedTuple):
    """The servers of one chat; where there is only one, it is both. `broker` is for those who break it."""

    one: ServerProcess
    two: ServerProcess
    broker: RedisServer | RabbitServer | None = None


STORES: dict[str, Callable[[Path], str]] = {
    "sqlite": lambda folder: f"sqlite:///{folder / 'parley.db'}",
    "redis": a_redis,
    # An empty one, as an operator makes it.
    "postgresql": lambda folder: postgres().address(postgres().new()),
}


@contextmanager
def bus(name: str, store: str) -> Iterator[tuple[str, RedisServer | RabbitServer | None]]:
    """The URL of a bus, and its broker if it may be broken."""
    match name:
        case "memory":
            yield "memory://", None
        case "redis":
            yield the_redis(), None
        case "own-redis":
            with redis_server() as broker:
                yield broker.url, broker
        case "rabbitmq":
            yield own_rabbitmq().url, own_rabbitmq()
        case "the-store":
            yield store, None
        case _:
            raise AssertionError(f"no such bus: {name}")


@contextmanager
def nodes_at(place: Place, folder: Path) -> Iterator[Nodes]:
    """Running servers."""
    with ExitStack() as stack:
        store = STORES[place.store](folder)
        url, broker = stack.enter_context(bus(place.bus, store))

        processes = []
        for name in ("one", "two") if place.has_broker else ("one",):
            (folder / name).mkdir()
            processes.append(ServerProcess(folder / name, store=store, bus=url))
            stack.callback(processes[-1].stop)
        # All at once, on a store in which there is nothing yet.
        with ThreadPoolExecutor() as pool:
            list(pool.map(ServerProcess.start, processes))
        yield Nodes(processes[0], processes[-1], broker)


def parameters(places: list[Place]) -> list[object]:
    """The places as pytest takes them."""
    return [
        pytest.param(
            place,
            id=f"{place.store}+{place.bus}",
            marks=[pytest.mark.servers] if place.has_broker else [],
        )
        for place in places
    ]
