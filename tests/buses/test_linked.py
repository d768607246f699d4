"""How a bus gets along with a broker that is slow, stuck or broken, without one."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from parley.buses import linked
from parley.buses.base import LOOK
from parley.buses.frames import Frame, payloads_of
from parley.buses.linked import Link, LinkedBus
from parley.buses.outbox import MAX_TOPICS, MAX_WAITING_BYTES
from parley.errors import StartError
from tests.servers import until


class FakeBroker:
    """Remembers what it was told, and misbehaves as it is told."""

    def __init__(self) -> None:
        self.sent: list[list[Frame]] = []
        self.subscribed: set[str] = set()
        self.up = asyncio.Event()
        self.up.set()
        self.sending = asyncio.Event()
        self.sending.set()
        self.answering = True
        self.broken = asyncio.Event()
        self.links = 0
        self.closed = 0

    def payloads(self, topic: str) -> list[bytes]:
        frames = [frame for batch in self.sent for frame in batch if frame.topic == topic]
        return [payload for frame in frames for payload in payloads_of(frame.body)]


class FakeLink:
    def __init__(self, broker: FakeBroker) -> None:
        self.broker = broker

    async def open(self) -> None:
        if not self.broker.up.is_set():
            raise ConnectionRefusedError
        self.broker.links += 1
        self.broker.subscribed.clear()

    async def listen(self) -> None:
        await self.broker.broken.wait()
        self.broker.broken.clear()
        raise ConnectionResetError

    async def ping(self) -> None:
        if not self.broker.answering:
            await asyncio.Event().wait()

    async def send(self, frames: list[Frame]) -> None:
        await self.broker.sending.wait()
        self.broker.sent.append(frames)

    async def subscribe(self, topics: list[str]) -> None:
        self.broker.subscribed |= set(topics)

    async def unsubscribe(self, topics: list[str]) -> None:
        self.broker.subscribed -= set(topics)

    async def close(self) -> None:
        self.broker.closed += 1


class FakeBus(LinkedBus):
    def __init__(self, broker: FakeBroker) -> None:
        super().__init__("fake://ann:hush@host")
        self.broker = broker

    def _new_link(self) -> Link:
        return FakeLink(self.broker)


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
async def bus(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LinkedBus]:
    monkeypatch.setattr(linked, "PING_SECONDS", 0.02)
    monkeypatch.setattr(linked, "ANSWER_SECONDS", 0.1)
    bus = FakeBus(broker)
    await bus.start(lambda topic, payload: None)
    broker.sent.clear()
    yield bus
    await bus.stop()


async def test_what_gathers_while_a_send_is_under_way_goes_out_together(
    bus: LinkedBus, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linked, "ANSWER_SECONDS", 10)
    broker.sending.clear()
    for number in range(100):
        bus.publish("a", b"%d" % number)
        bus.publish("b", b"%d" % number)
        await asyncio.sleep(0)
    broker.sending.set()
    await until(lambda: len(broker.payloads("b")) == 100)
    assert broker.payloads("a") == [b"%d" % number for number in range(100)]
    assert len(broker.sent) == 2


async def test_publishing_never_waits_and_stays_bounded_while_the_broker_is_stuck(
    bus: LinkedBus, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linked, "ANSWER_SECONDS", 10)
    broker.sending.clear()
    began = time.perf_counter()
    for number in range(20_000):
        bus.publish(f"a{number % 100}", b"x" * 1000)
    await asyncio.sleep(0)
    for number in range(20_000):
        bus.publish(f"b{number}", b"x")
    assert time.perf_counter() - began < 1
    assert bus.dropped_payloads > 20_000
    assert bus._outbox._bytes <= MAX_WAITING_BYTES
    assert len(bus._outbox._waiting) <= MAX_TOPICS
    assert len(bus._outbox._lost) <= MAX_TOPICS
    broker.sending.set()
    await until(lambda: not bus._outbox)
    await until(lambda: len(broker.payloads("a0")) > 80)


async def test_a_broker_that_takes_nothing_is_left_and_what_it_had_is_looked_at(
    bus: LinkedBus, broker: FakeBroker
) -> None:
    broker.sending.clear()
    bus.publish("a", b"1")
    await until(lambda: bus.breaks == 1)
    assert not bus.healthy()
    broker.sending.set()
    await until(bus.healthy)
    await until(lambda: broker.payloads("a") == [LOOK])
    assert bus.dropped_payloads == 1


async def test_a_broker_that_answers_nothing_is_left(bus: LinkedBus, broker: FakeBroker) -> None:
    broker.answering = False
    await until(lambda: bus.breaks >= 1)
    broker.answering = True
    await until(bus.healthy)
    assert broker.closed >= 1


async def test_all_wants_come_back_and_a_short_break_is_seen(bus: LinkedBus, broker: FakeBroker) -> None:
    wanted = {f"topic{number}" for number in range(5000)}
    for topic in wanted:
        bus.want(topic)
    await until(lambda: wanted < broker.subscribed)
    broker.broken.set()
    await until(lambda: bus.breaks == 1)
    bus.unwant("topic0")
    await until(bus.healthy)
    assert broker.links == 2
    assert broker.subscribed == wanted - {"topic0"} | {""}


async def test_it_tries_for_ever_but_not_all_the_time(bus: LinkedBus, broker: FakeBroker) -> None:
    broker.up.clear()
    broker.broken.set()
    await until(lambda: bus.breaks == 1)
    for number in range(10):
        bus.publish("a", b"%d" % number)
    await until(lambda: broker.closed >= 5, seconds=5)
    assert not bus.healthy()
    broker.up.set()
    await until(bus.healthy, seconds=5)
    await until(lambda: broker.payloads("a") == [LOOK])
    assert bus.breaks == 1


async def test_a_start_that_fails_says_why_in_one_line(broker: FakeBroker) -> None:
    broker.up.clear()
    bus = FakeBus(broker)
    with pytest.raises(StartError) as refusal:
        await bus.start(lambda topic, payload: None)
    assert str(refusal.value) == (
        "cannot use fake://***@host: nobody answers there; start the server, or check host and port"
    )
    await bus.stop()


async def test_a_broker_that_is_stuck_does_not_keep_a_stop(
    bus: LinkedBus, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linked, "ANSWER_SECONDS", 10)
    broker.sending.clear()
    bus.publish("a", b"1")
    began = time.perf_counter()
    await bus.stop()
    assert 0.9 < time.perf_counter() - began < 2.5
