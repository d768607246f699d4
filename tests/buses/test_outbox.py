"""What waits to be sent: joined, bounded, and never forgotten without a word."""

from parley.buses.base import EVERYTHING, LOOK
from parley.buses.frames import payloads_of
from parley.buses.outbox import MAX_BATCH_FRAMES, MAX_TOPICS, MAX_WAITING_BYTES, Outbox


def opened(max_frame_bytes: int = 100_000) -> Outbox:
    outbox = Outbox(max_frame_bytes)
    outbox.open()
    return outbox


def all_of(outbox: Outbox) -> dict[str, list[bytes]]:
    """Everything that goes out, by topic."""
    found: dict[str, list[bytes]] = {}
    while frames := outbox.take():
        for frame in frames:
            found.setdefault(frame.topic, []).extend(payloads_of(frame.body))
    return found


def test_payloads_of_a_topic_are_one_frame_in_their_order() -> None:
    outbox = opened()
    for topic, payload in (("a", b"1"), ("b", b"2"), ("a", b"3")):
        outbox.put(topic, payload)
    frames = outbox.take()
    assert [(frame.topic, payloads_of(frame.body)) for frame in frames] == [
        ("a", [b"1", b"3"]),
        ("b", [b"2"]),
    ]
    assert not outbox
    assert outbox.take() == []


def test_no_frame_is_larger_than_the_broker_takes() -> None:
    outbox = opened(max_frame_bytes=1000)
    payloads = [b"%03d" % number * 30 for number in range(100)]
    for payload in payloads:
        outbox.put("a", payload)
    frames = outbox.take()
    assert max(len(frame.body) for frame in frames) <= 1000
    assert [each for frame in frames for each in payloads_of(frame.body)] == payloads
    assert len(frames) == 10


def test_the_largest_payload_that_fits_is_sent_and_the_next_larger_is_looked_at() -> None:
    outbox = opened(max_frame_bytes=1000)
    head = len(outbox.head)
    outbox.put("a", b"x" * (1000 - head - 1))
    outbox.put("b", b"x" * (1000 - head))
    sent = all_of(outbox)
    assert len(sent["a"][0]) == 1000 - head - 1
    assert sent["b"] == [LOOK]
    assert outbox.dropped == 1


def test_what_waits_is_bounded_in_bytes() -> None:
    outbox = opened()
    payload = b"x" * 9999
    for number in range(2000):
        outbox.put(f"topic{number % 100}", payload)
    sent = all_of(outbox)
    kept = sum(payloads.count(payload) for payloads in sent.values())
    assert kept == MAX_WAITING_BYTES // 10_000
    assert outbox.dropped == 2000 - kept
    assert all(payloads[0] == LOOK for payloads in sent.values())
    outbox.put("again", payload)
    assert all_of(outbox) == {"again": [payload]}


def test_what_waits_is_bounded_in_topics() -> None:
    outbox = opened()
    for number in range(MAX_TOPICS + 10):
        outbox.put(f"topic{number}", b"x")
    sent = all_of(outbox)
    assert {topic for topic, payloads in sent.items() if payloads == [LOOK]} == {
        f"topic{number}" for number in range(MAX_TOPICS, MAX_TOPICS + 10)
    }
    assert len(sent) == MAX_TOPICS + 10


def test_what_cannot_be_sent_is_told_once_as_a_hint() -> None:
    outbox = opened()
    outbox.put("a", b"1")
    outbox.close()
    for _ in range(5):
        outbox.put("b", b"2")
    assert outbox.dropped == 6
    outbox.open()
    outbox.put("b", b"3")
    assert all_of(outbox) == {"a": [LOOK], "b": [LOOK, b"3"]}
    assert not outbox


def test_what_was_under_way_when_it_broke_is_told_again_as_a_hint() -> None:
    outbox = opened()
    outbox.put("a", b"1")
    frames = outbox.take()
    outbox.lose(frames)
    outbox.close()
    outbox.open()
    assert all_of(outbox) == {"a": [LOOK]}
    # And again, if that broke too.
    outbox.put("a", b"2")
    outbox.lose(outbox.take())
    assert all_of(outbox) == {"a": [LOOK]}


def test_more_lost_topics_than_can_be_remembered_are_everything() -> None:
    outbox = Outbox(100_000)
    for number in range(3 * MAX_TOPICS):
        outbox.put(f"topic{number}", b"x")
    assert outbox.dropped == 3 * MAX_TOPICS
    outbox.open()
    outbox.put("a", b"1")
    assert all_of(outbox) == {EVERYTHING: [LOOK], "a": [b"1"]}


def test_what_goes_out_at_once_is_bounded() -> None:
    outbox = opened(max_frame_bytes=600_000)
    for number in range(3 * MAX_BATCH_FRAMES):
        outbox.put(f"topic{number}", b"x")
    assert len(outbox.take()) == MAX_BATCH_FRAMES
    all_of(outbox)
    for number in range(8):
        outbox.put(f"topic{number}", b"x" * 500_000)
    assert len(outbox.take()) == 3
