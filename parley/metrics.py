"""What a node tells Prometheus: numbers that are kept anyway, read where they are when somebody asks."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

import parley
from parley.integration.announcer import Announcer
from parley.integration.posting import Posting
from parley.node import Node


@dataclass(frozen=True, slots=True)
class Family:
    """The numbers of one name: a counter if that ends in `_total`, which then never falls, else a gauge.

    `read` answers one number or, where there is a `label`, one for each of its values. Those are few and
    known beforehand: nobody's id, name, address or token is ever among them.
    """

    name: str
    help: str
    read: Callable[[Node], float | Mapping[str, float]]
    label: str = ""

    def of(self, node: Node) -> Metric:
        """The numbers of a node as they are now."""
        kind = CounterMetricFamily if self.name.endswith("_total") else GaugeMetricFamily
        family = kind(self.name, self.help, labels=[self.label] if self.label else [])
        numbers = self.read(node)
        if isinstance(numbers, Mapping):
            for value, number in numbers.items():
                family.add_metric([value], number)
        else:
            family.add_metric([], numbers)
        return family


ALWAYS = (
    Family(
        "parley_ready",
        "1 while the node takes requests; 0 while it starts, drains or is broken.",
        lambda node: node.state == "ready",
    ),
    Family(
        "parley_bus_healthy",
        "1 while what is said on this node will probably reach the others at once.",
        lambda node: node.bus.healthy(),
    ),
    Family(
        "parley_bus_breaks_total",
        "How often the connection to the bus was lost.",
        lambda node: node.bus.breaks,
    ),
    Family(
        "parley_bus_published_frames_total",
        "Frames that the bus took from this node.",
        lambda node: node.bus.published_frames,
    ),
    Family(
        "parley_bus_published_payloads_total",
        "Payloads in the frames that the bus took from this node.",
        lambda node: node.bus.published_payloads,
    ),
    Family(
        "parley_bus_published_bytes_total",
        "Bytes in the frames that the bus took from this node, without their heads.",
        lambda node: node.bus.published_bytes,
    ),
    Family(
        "parley_bus_received_frames_total",
        "Frames that the bus brought, those that nobody here wanted too.",
        lambda node: node.bus.received_frames,
    ),
    Family(
        "parley_bus_dropped_payloads_total",
        "Payloads that could not be sent; other nodes read the store instead.",
        lambda node: node.bus.dropped_payloads,
    ),
    Family(
        "parley_bus_garbage_frames_total",
        "Frames that no node can have sent.",
        lambda node: node.bus.garbage,
    ),
)
"""What can be told of a node that has not started."""

STARTED = (
    Family(
        "parley_bus_silent_nodes",
        "Other nodes that report to the store and are not heard on the bus.",
        lambda node: node.realtime.presence.unheard(),
    ),
    Family(
        "parley_bus_garbage_payloads_total",
        "Payloads in good frames that make no sense to this version.",
        lambda node: node.everywhere.nonsense,
    ),
    Family(
        "parley_connections",
        "Open connections to clients, before their hello too.",
        lambda node: len(node.realtime.clients),
    ),
    Family(
        "parley_connected_users",
        "Users who are connected to this node.",
        lambda node: len(node.hub.sessions),
    ),
    Family(
        "parley_live_rooms",
        "Rooms that somebody on this node follows.",
        lambda node: len(node.hub.feeds),
    ),
    Family(
        "parley_events_encoded_total",
        "Events of rooms that this node encoded, once each, however many hear them.",
        lambda node: node.hub.encoded,
    ),
    Family(
        "parley_repairs_total",
        "Rooms brought up to date from the store, by what showed that they were not.",
        lambda node: node.repair.repairs,
        "cause",
    ),
    Family(
        "parley_journal_waiting_changes",
        "Changes that wait for the next batch.",
        lambda node: node.journal.waiting,
    ),
    Family(
        "parley_journal_batches_total",
        "Batches of changes that the store was given.",
        lambda node: node.journal.batches,
    ),
    Family(
        "parley_journal_changes_total",
        "Changes to rooms' messages, by what became of them.",
        lambda node: node.journal.changes,
        "outcome",
    ),
    Family(
        "parley_services_events_total",
        "Events that other services were told over RabbitMQ or Kafka, by what became of them.",
        lambda node: _events_out(node.outside.announcer if node.outside is not None else None),
        "outcome",
    ),
    Family(
        "parley_services_waiting_events",
        "Events that wait for RabbitMQ or Kafka to take them.",
        lambda node: len(node.outside.announcer.backlog) if node.outside is not None else 0,
    ),
    Family(
        "parley_services_posts_total",
        "Posts of other services, by what became of them.",
        lambda node: _posts_in(node.outside.posting if node.outside is not None else None),
        "outcome",
    ),
)
"""What there is from the start on."""


def _events_out(announcer: Announcer | None) -> dict[str, int]:
    if announcer is None:
        return {"published": 0, "repeated": 0, "refused": 0}
    counted = {"published": announcer.published, "repeated": announcer.repeated}
    return counted | {"refused": announcer.refused}


def _posts_in(posting: Posting | None) -> dict[str, int]:
    if posting is None:
        return {"posted": 0, "refused": 0, "retried": 0}
    return {"posted": posting.posted, "refused": posting.refused, "retried": posting.retried}


PROCESS = PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR
"""What prometheus-client knows of every program; they keep nothing and serve any number of nodes."""


class NodeCollector(Collector):
    """One node's numbers. Never waits, and asks neither the store nor the bus."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def collect(self) -> Iterator[Metric]:
        yield self._info()
        for family in ALWAYS:
            yield family.of(self._node)
        if hasattr(self._node, "realtime"):  # the last thing that the start makes and these ask for
            for family in STARTED:
                yield family.of(self._node)

    def _info(self) -> Metric:
        """Which program this is, and on what; of the URLs only the schemes, as the rest may be secret."""
        settings = self._node.settings
        told = {
            "version": parley.__version__,
            "store": settings.store.partition("://")[0],
            "bus": settings.bus.partition("://")[0],
        }
        return InfoMetricFamily("parley", "The version, and the kinds of store and bus.", told)


def registry_of(node: Node) -> CollectorRegistry:
    """What there is to tell of a node and its process.

    It keeps nothing itself, so that any number may be made of one node and of many nodes in one process.
    """
    registry = CollectorRegistry()
    for collector in (NodeCollector(node), *PROCESS):
        registry.register(collector)
    return registry


def text_of(node: Node) -> bytes:
    """All of it in Prometheus' text format, version 0.0.4."""
    return generate_latest(registry_of(node))
