"""What every bus promises, on the real brokers."""

import asyncio
import time

from parley.buses.base import EVERYTHING, LOOK
from tests.buses.nodes import World
from tests.servers import until


async def test_what_is_published_reaches_all_others_that_want_it_and_nobody_else(world: World) -> None:
    kitchen, study = world.topic("kitchen"), world.topic("study")
    ann, bob, cleo, dan = [await world.node() for _ in range(4)]
    for node in (bob, cleo):
        await node.wanting(ann, kitchen)
    await dan.wanting(ann, study)
    ann.bus.publish(kitchen, b"hello")
    await bob.hears(kitchen, b"hello")
    await cleo.hears(kitchen, b"hello")
    ann.bus.publish(study, b"quiet")
    await dan.hears(study, b"quiet")
    assert {topic for topic, _ in dan.heard} == {study}
    assert {topic for topic, _ in bob.heard} == {kitchen}
    assert ann.heard == []


async def test_everyone_may_publish_what_they_want_themselves(world: World) -> None:
    kitchen = world.topic("kitchen")
    ann, bob = await world.node(), await world.node()
    await ann.wanting(bob, kitchen)
    await bob.wanting(ann, kitchen)
    ann.bus.publish(kitchen, b"from ann")
    bob.bus.publish(kitchen, b"from bob")
    await bob.hears(kitchen, b"from ann")
    await ann.hears(kitchen, b"from bob")


async def test_a_topic_stays_in_order_within_one_turn_of_the_loop(world: World) -> None:
    kitchen = world.topic("kitchen")
    ann, bob = await world.node(), await world.node()
    await bob.wanting(ann, kitchen)
    lines = [
        b'{"revision":%d,"text":"%s"}' % (number, "é".encode() * (number % 300)) for number in range(1000)
    ]
    for line in lines:
        ann.bus.publish(kitchen, line)
    await bob.hears(kitchen, *lines)


async def test_many_topics_in_one_turn_arrive_each_in_order(world: World) -> None:
    topics = [world.topic(f"room{number}") for number in range(50)]
    ann, bob = await world.node(), await world.node()
    await bob.wanting(ann, *topics)
    for number in range(20):
        for topic in topics:
            ann.bus.publish(topic, b"%d" % number)
    for topic in topics:
        await bob.hears(topic, *(b"%d" % number for number in range(20)))


async def test_a_thousand_payloads_of_one_turn_travel_in_one_message(brokered: World) -> None:
    kitchen = brokered.topic("kitchen")
    ann, bob, cleo = [await brokered.node() for _ in range(3)]
    await bob.wanting(ann, kitchen)
    # The probes are through.
    ann.bus.publish(kitchen, b"begin")
    await bob.hears(kitchen, b"begin")
    came = bob.bus.received_frames
    for number in range(1000):
        cleo.bus.publish(kitchen, b"%04d" % number)
    await until(lambda: len(bob.on(kitchen)) == 1001)
    assert bob.bus.received_frames - came == 1
    await until(lambda: cleo.bus.published_payloads == 1000, what="the broker's answer")
    assert cleo.bus.published_frames == 1
    assert cleo.bus.published_bytes == 5 * 1000 - 1


async def test_what_is_no_longer_wanted_is_no_longer_heard(world: World) -> None:
    kitchen, study = world.topic("kitchen"), world.topic("study")
    ann, bob = await world.node(), await world.node()
    await bob.wanting(ann, kitchen, study)
    bob.bus.unwant(kitchen)
    ann.bus.publish(kitchen, b"unheard")
    ann.bus.publish(study, b"heard")
    await bob.hears(study, b"heard")
    assert bob.on(kitchen) == []
    await bob.wanting(ann, kitchen)
    ann.bus.publish(kitchen, b"again")
    await bob.hears(kitchen, b"again")


async def test_unsubscribing_spares_the_node_the_frames(brokered: World) -> None:
    kitchen, study = brokered.topic("kitchen"), brokered.topic("study")
    ann, bob = await brokered.node(), await brokered.node()
    await bob.wanting(ann, kitchen, study)
    bob.bus.unwant(kitchen)
    if "kafka" in str(getattr(bob.bus, "shown_url", "")):
        return  # There every node reads everything.
    last = -1
    deadline = time.monotonic() + 10
    while last != bob.bus.received_frames:
        assert time.monotonic() < deadline, "the topic still arrives"
        last = bob.bus.received_frames
        ann.bus.publish(kitchen, b"unheard")
        await asyncio.sleep(0.1)


async def test_the_last_word_about_a_want_counts(world: World) -> None:
    kitchen, study = world.topic("kitchen"), world.topic("study")
    ann, bob = await world.node(), await world.node()
    for _ in range(7):
        bob.bus.want(kitchen)
        bob.bus.unwant(kitchen)
        bob.bus.unwant(study)
        bob.bus.want(study)
    bob.bus.want(kitchen)
    bob.bus.unwant(study)
    await bob.reached_by(ann, kitchen)
    ann.bus.publish(study, b"unheard")
    ann.bus.publish(kitchen, b"heard")
    await bob.hears(kitchen, b"heard")
    assert {topic for topic, _ in bob.heard} == {kitchen}


async def test_ten_thousand_topics_are_wanted_without_waiting(world: World) -> None:
    ann, bob = await world.node(), await world.node()
    topics = [world.topic(f"room{number}") for number in range(10_000)]
    began = time.perf_counter()
    for topic in topics:
        bob.bus.want(topic)
    assert time.perf_counter() - began < 0.5
    await bob.reached_by(ann, *topics, seconds=30)
    for topic in topics[1:]:
        bob.bus.unwant(topic)
    ann.bus.publish(topics[1], b"unheard")
    ann.bus.publish(topics[0], b"heard")
    await bob.hears(topics[0], b"heard")
    assert bob.on(topics[1]) == []


async def test_whatever_concerns_everything_reaches_everybody(world: World) -> None:
    ann, bob = await world.node(), await world.node()
    ann.bus.publish(EVERYTHING, LOOK)
    await bob.hears(EVERYTHING, LOOK)


async def test_a_stop_hands_over_what_was_published(world: World) -> None:
    kitchen = world.topic("kitchen")
    ann, bob = await world.node(), await world.node()
    await bob.wanting(ann, kitchen)
    leaving = await world.node()
    for number in range(100):
        leaving.bus.publish(kitchen, b"%d" % number)
    began = time.perf_counter()
    await leaving.bus.stop()
    assert time.perf_counter() - began < 1
    assert not leaving.bus.healthy()
    await bob.hears(kitchen, *(b"%d" % number for number in range(100)))
    world.forget(leaving)


async def test_a_stopped_bus_delivers_nothing_and_raises_nothing(world: World) -> None:
    kitchen = world.topic("kitchen")
    ann, bob, cleo = [await world.node() for _ in range(3)]
    await bob.wanting(ann, kitchen)
    await cleo.wanting(ann, kitchen)
    await bob.bus.stop()
    world.forget(bob)
    bob.heard.clear()
    bob.bus.publish(kitchen, b"too late")
    bob.bus.want(world.topic("study"))
    ann.bus.publish(kitchen, b"hello")
    await cleo.hears(kitchen, b"hello")
    assert bob.heard == []


async def test_garbage_is_counted_and_ignored(brokered: World) -> None:
    kitchen = brokered.topic("kitchen")
    ann, bob = await brokered.node(), await brokered.node()
    await bob.wanting(ann, kitchen)
    bodies = [b"", b"\n", b"\xff\x00\xfe", b"parley/1 ", b"parley/2 0123456789ab\n{}", b"{" * 5000]
    await brokered.shout(kitchen, *bodies)
    await brokered.shout("x" * 150, *bodies)
    await until(lambda: bob.bus.garbage >= len(bodies))
    assert bob.bus.garbage == len(bodies), "what was not wanted is not looked at"
    ann.bus.publish(kitchen, b"hello")
    await bob.hears(kitchen, b"hello")
    assert bob.bus.breaks == 0
    assert bob.bus.healthy()


async def test_what_a_receiver_raises_stops_nobody(brokered: World) -> None:
    kitchen = brokered.topic("kitchen")
    ann, bob = await brokered.node(), await brokered.node()
    await bob.wanting(ann, kitchen)
    deliver = bob.bus._deliver  # type: ignore[attr-defined]

    def failing(topic: str, payload: bytes) -> None:
        if payload == b"bad":
            raise RuntimeError("cannot be delivered")
        deliver(topic, payload)

    bob.bus._deliver = failing  # type: ignore[attr-defined]
    for payload in (b"good", b"bad", b"better"):
        ann.bus.publish(kitchen, payload)
    await bob.hears(kitchen, b"good", b"better")
    assert bob.bus.breaks == 0


async def test_a_payload_that_is_too_large_is_told_as_a_hint(brokered: World) -> None:
    kitchen = brokered.topic("kitchen")
    ann, bob = await brokered.node(), await brokered.node()
    await bob.wanting(ann, kitchen)
    ann.bus.publish(kitchen, b"before")
    ann.bus.publish(kitchen, b"x" * 3_000_000)
    ann.bus.publish(kitchen, b"after")
    await until(lambda: b"after" in bob.on(kitchen))
    assert sorted(bob.on(kitchen)) == [LOOK, b"after", b"before"]
    assert ann.bus.dropped_payloads == 1
    assert ann.bus.breaks == 0
