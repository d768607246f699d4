"""What must not be in a stream is noticed, and what may be is not."""

from typing import Any

import pytest

from tests.delivery.stream import Json, RoomStream


def message(seq: int, revision: int, text: str = "") -> Json:
    return {"id": f"id{seq}", "seq": seq, "revision": revision, "text": text}


def told(kind: str, seq: int, revision: int) -> Json:
    return {"event": f"message.{kind}", "revision": revision, "message": message(seq, revision)}


def changes(since: int, revision: int, *messages: Json) -> Json:
    return {"event": "room.changes", "since": since, "revision": revision, "messages": list(messages)}


def stream(*events: Any) -> RoomStream:
    made = RoomStream({"id": "kitchen", "revision": 0, "last_seq": 0})
    for event in events:
        made.take(event)
    return made


@pytest.mark.parametrize(
    "events",
    [
        [told("sent", 1, 1), told("sent", 2, 2), told("edited", 1, 3)],
        [told("sent", 1, 1), {"event": "member.joined", "revision": 2}, told("sent", 2, 3)],
        [told("sent", 1, 1), changes(1, 4, message(1, 4), message(2, 2), message(3, 3)), told("sent", 4, 5)],
        [told("sent", 1, 1), changes(0, 2, message(1, 1), message(2, 2))],
        [told("sent", 1, 1), {"event": "read.marked", "seq": 1}],
    ],
)
def test_a_stream_without_holes_is_right(events: list[Json]) -> None:
    assert stream(*events).wrong == []


@pytest.mark.parametrize(
    "events",
    [
        [told("sent", 1, 1), told("sent", 2, 3)],
        [told("sent", 1, 1), told("sent", 1, 1)],
        [told("sent", 1, 1), told("sent", 1, 2)],
        [told("sent", 1, 1), told("sent", 3, 2)],
        [told("sent", 1, 1), told("edited", 2, 2)],
        [told("sent", 1, 1), {"event": "member.joined", "revision": 3}],
        [told("sent", 1, 1), changes(2, 3, message(2, 2), message(3, 3))],
        [told("sent", 1, 1), changes(1, 1)],
        [told("sent", 1, 1), changes(1, 3, message(3, 3))],
        [told("sent", 1, 1), changes(1, 2, message(2, 3))],
        [told("sent", 1, 1), {**changes(1, 2), "event": "room.reset", "reason": "ahead"}],
    ],
)
def test_a_stream_with_a_hole_or_a_repetition_is_wrong(events: list[Json]) -> None:
    assert stream(*events).wrong


def test_messages_are_new_once() -> None:
    made = stream()
    assert made.take(told("sent", 1, 1)) == ["id1"]
    assert made.take(changes(1, 3, message(1, 3), message(2, 2))) == ["id2"]
    assert made.take(told("edited", 2, 4)) == []
