"""What Prometheus is told: true numbers, with an explanation each, and nothing of anybody."""

import asyncio
import re
from collections.abc import Sequence

import httpx2
import pytest
from prometheus_client import Metric
from prometheus_client.core import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

import parley
from parley import metrics
from parley.buses.memory import Exchange, MemoryBus
from parley.config import Settings
from parley.errors import Overloaded, ParleyError, RoomNotFound
from parley.models import Applied, Change
from parley.node import Node
from parley.stores.memory import MemoryStore
from tests.realtime.conftest import make_node
from tests.servers import ServerProcess, until
from tests.web.conftest import Person, socket
from tests.web.world import Somebody, World, a_world

OURS = {"cause", "outcome", "version", "store", "bus"}
PYTHONS = {"generation", "implementation", "major", "minor", "patchlevel", "version"}
"""All labels that there may be: whatever is new here must not tell of anybody, and have few values."""


def parsed(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def numbers(text: str) -> dict[str, float]:
    """Every number that is ours by its name and label values, as `parley_repairs_total audit`."""
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in parsed(text).values()
        for sample in family.samples
        if sample.name.startswith("parley_")
    }


async def scraped(world: World) -> dict[str, float]:
    answer = await world.http.get("/metrics")
    assert answer.status_code == 200
    return numbers(answer.text)


async def grown(world: World, before: dict[str, float]) -> dict[str, float]:
    """What has changed since a scrape, and by how much."""
    after = await scraped(world)
    assert before.keys() == after.keys()
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


async def test_a_server_tells_anybody_in_prometheus_own_format(server: ServerProcess, ann: Person) -> None:
    def now() -> dict[str, float]:
        return numbers(httpx2.get(f"{server.url}/metrics").text)

    answer = httpx2.get(f"{server.url}/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    before = numbers(answer.text)
    assert before["parley_ready"] == before["parley_bus_healthy"] == 1
    assert before[f"parley_info {' '.join(('memory', 'sqlite', parley.__version__))}"] == 1
    async with socket(ann) as anns:
        sent = await anns.ask(op="message.send", room="lobby", text="hello")
        assert "ok" in sent
        after = now()
    for name, growth in {
        "parley_connections": 1,
        "parley_connected_users": 1,
        "parley_live_rooms": 1,
        "parley_events_encoded_total": 1,
        "parley_journal_batches_total": 1,
        "parley_journal_changes_total stored": 1,
        "parley_bus_published_payloads_total": 1,
    }.items():
        assert after[name] - before[name] == growth, name
    await until(lambda: now()["parley_connections"] == before["parley_connections"])


async def test_every_family_explains_itself_and_none_comes_twice() -> None:
    async with a_world() as world:
        text = (await world.http.get("/metrics")).text
    families = parsed(text)
    assert all(family.documentation for family in families.values())
    named = re.findall(r"^# HELP (\S+)", text, re.MULTILINE)
    assert len(named) == len(set(named))
    assert all(family.type in ("counter", "gauge") for family in families.values())
    counters = {name for name in named if name.endswith("_total")}
    assert {f"{family.name}_total" for family in families.values() if family.type == "counter"} == counters


async def test_no_label_tells_of_anybody() -> None:
    async with a_world() as world:
        ann, bob = await world.people("Ann", "Bob")
        room = await ann.makes(title="The kitchen")
        await ann.brings(room, bob)
        await ann.connected()
        await bob.connected()
        await ann.says(room, "hello")
        text = (await world.http.get("/metrics")).text
        told_of: list[str] = [room.id, str(room.name), "kitchen", ann.token, bob.token]
        for somebody in (ann, bob):
            told_of += [somebody.id, str(somebody.user.name), somebody.user.display_name]
    assert not [word for word in told_of if re.search(rf"\b{re.escape(word)}\b", text)]
    labels = {label for family in parsed(text).values() for each in family.samples for label in each.labels}
    assert labels == OURS | PYTHONS


async def test_a_password_in_a_url_is_not_told() -> None:
    settings = Settings(_env_file=None, store="postgresql://parley:tulip@db/chat", bus="redis://:tulip@bus")
    text = metrics.text_of(Node(settings, MemoryStore(), MemoryBus())).decode()
    assert 'parley_info{bus="redis",store="postgresql"' in text
    assert "tulip" not in text
    assert "@" not in text


async def test_asking_changes_nothing() -> None:
    async with a_world() as world:
        assert await grown(world, await scraped(world)) == {}


async def test_connections_come_and_go() -> None:
    async with a_world() as world:
        before = await scraped(world)
        ann, bob = await world.people("Ann", "Bob")
        stranger = ann.connection()
        assert await grown(world, before) == {"parley_connections": 1}
        await stranger.hello()
        await ann.connected()
        await bob.connected()
        seen = await grown(world, before)
        assert (seen["parley_connections"], seen["parley_connected_users"]) == (3, 2)
        assert seen["parley_live_rooms"] == 1
        for client in (*ann.clients, *bob.clients):
            client.session.closed()
        assert not (await grown(world, before)).keys() & {
            "parley_connections",
            "parley_connected_users",
            "parley_live_rooms",
        }


async def test_what_became_of_changes_is_counted() -> None:
    async with a_world() as world:
        ann, bob = await world.people("Ann", "Bob")
        room = await ann.makes()
        before = await scraped(world)
        message = await ann.says(room, "hello")
        await world.core.messages.send(ann.user, room.id, "hello", id=message.id)
        with pytest.raises(RoomNotFound):
            await bob.says(room, "let me in")
        seen = await grown(world, before)
        assert seen["parley_journal_changes_total stored"] == 2
        assert seen["parley_journal_changes_total refused"] == 1


async def test_changes_that_wait_and_that_fail_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Halting(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.going_on = asyncio.Event()

        async def apply(self, changes: Sequence[Change]) -> list[Applied | ParleyError]:
            await self.going_on.wait()
            raise OSError("the disk is full")

    store = Halting()
    async with a_world(store) as world:
        [ann] = await world.people("Ann")
        room = await ann.makes()
        before = await scraped(world)
        first = asyncio.ensure_future(ann.says(room, "one"))
        await until(lambda: world.node.journal.batches == 1)
        rest = [asyncio.ensure_future(ann.says(room, text)) for text in ("two", "three")]
        await until(lambda: world.node.journal.waiting == 2)
        monkeypatch.setattr(world.node.journal, "_max_changes", 2)
        with pytest.raises(Overloaded):
            await ann.says(room, "four")
        seen = await grown(world, before)
        assert seen["parley_journal_waiting_changes"] == 2
        assert seen["parley_journal_changes_total overloaded"] == 1
        store.going_on.set()
        await asyncio.wait([first, *rest])
        assert all(each.exception() for each in (first, *rest))
        seen = await grown(world, before)
    assert seen == {
        "parley_journal_batches_total": 2,
        "parley_journal_changes_total failed": 3,
        "parley_journal_changes_total overloaded": 1,
    }


async def test_repairs_and_what_the_bus_did_are_counted() -> None:
    async with a_world() as world:
        before = await scraped(world)
        world.node.repair.repairs["audit"] += 2
        bus = world.node.bus
        bus.breaks, bus.garbage, bus.received_frames = 3, 4, 5
        bus.published_frames, bus.published_payloads, bus.published_bytes = 6, 7, 8
        assert isinstance(bus, MemoryBus)
        bus.dropped_payloads = 9
        assert await grown(world, before) == {
            "parley_repairs_total audit": 2,
            "parley_bus_breaks_total": 3,
            "parley_bus_garbage_frames_total": 4,
            "parley_bus_received_frames_total": 5,
            "parley_bus_published_frames_total": 6,
            "parley_bus_published_payloads_total": 7,
            "parley_bus_published_bytes_total": 8,
            "parley_bus_dropped_payloads_total": 9,
        }


async def test_two_nodes_in_one_process_each_tell_their_own() -> None:
    exchange, store = Exchange(), MemoryStore()
    nodes = [await make_node(store, exchange), await make_node(store, exchange)]
    try:
        here, there = map(World, nodes)
        ann = await here.person("Ann", "guest")
        bob = await here.person("Bob", "guest")
        await ann.connected()
        at_the_other = Somebody(there, bob.signed_in)
        await at_the_other.connected()
        await ann.says(await here.core.rooms.see("lobby", ann.id), "hello")
        await until(lambda: nodes[1].bus.received_frames)
        first, second = (numbers(metrics.text_of(node).decode()) for node in nodes)
        assert (first["parley_connections"], second["parley_connections"]) == (1, 1)
        assert (first["parley_events_encoded_total"], second["parley_events_encoded_total"]) == (1, 0)
        assert first["parley_bus_published_frames_total"] == second["parley_bus_received_frames_total"] == 1
        assert second["parley_bus_published_frames_total"] == 0
    finally:
        for node in nodes:
            await node.stop()


async def test_a_node_that_has_not_started_or_has_stopped_can_be_asked() -> None:
    node = Node(Settings(_env_file=None), MemoryStore(), MemoryBus())
    told = numbers(metrics.text_of(node).decode())
    assert (told["parley_ready"], told["parley_bus_healthy"]) == (0, 0)
    assert "parley_connections" not in told
    await node.start()
    assert numbers(metrics.text_of(node).decode())["parley_ready"] == 1
    await node.drain()
    assert numbers(metrics.text_of(node).decode())["parley_ready"] == 0
    await node.stop()
    assert numbers(metrics.text_of(node).decode())["parley_ready"] == 0


def test_names_are_as_prometheus_wants_them() -> None:
    for family in (*metrics.ALWAYS, *metrics.STARTED):
        assert re.fullmatch(r"parley(_[a-z]+)+", family.name)
        assert family.help.endswith(".")
        assert not re.search(r"_(ms|milliseconds|kb|count)\b", family.name)


async def test_a_registry_that_looks_for_duplicates_finds_none() -> None:
    async with a_world() as world:
        strict = CollectorRegistry(auto_describe=True)
        for collector in (metrics.NodeCollector(world.node), *metrics.PROCESS):
            strict.register(collector)
