"""What a client knows: the cases that every client passes, whatever its language, in tests/fixtures/state."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from parley.client.state import ChatState
from parley.realtime.protocol import Message, Room, Welcome, events

FIXTURES = Path(__file__).parents[1] / "fixtures" / "state"
CASES = [json.loads(path.read_text()) for path in sorted(FIXTURES.glob("*.json"))]


def step(state: ChatState, told: dict[str, Any]) -> list[events.Event]:
    """Do what one entry of `events` says: an event of the protocol, or something of the client's own."""
    match told:
        case {"event": _}:
            return state.apply(msgspec.convert(told, events.Event))
        case {"welcome": welcome}:
            return state.apply(msgspec.convert(welcome, Welcome))
        case {"written": message}:
            state.written(msgspec.convert(message, Message))
        case {"stored": message}:
            state.stored(msgspec.convert(message, Message))
        case {"refused": message_id}:
            state.refused(message_id)
        case {"seen": room}:
            state.seen(msgspec.convert(room, Room))
        case {"heard_of": heard}:
            state.heard_of(heard["room_id"], heard["revision"])
        case {"paged": page}:
            state.paged(page["room_id"], msgspec.convert(page["messages"], list[Message]), page["asked_at"])
        case _:
            pytest.fail(f"what is {told}?")
    return []


def summary(event: events.Event) -> str:
    kind = str(event.__struct_config__.tag)
    return f"{kind} {event.message.seq}" if isinstance(event, events.MessageEvent) else kind


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_the_state_after_the_events_is_the_one_that_is_written_down(case: dict[str, Any]) -> None:
    state = msgspec.convert(case["before"], ChatState, strict=False)
    news = [summary(event) for told in case["events"] for event in step(state, told)]
    assert msgspec.to_builtins(state) == msgspec.to_builtins(
        msgspec.convert(case["after"], ChatState, strict=False)
    )
    assert news == case["news"]
    for known in state.rooms.values():
        seqs = list(known.messages)
        assert seqs == list(range(known.begin, known.begin + len(seqs))), (
            "the window is unbroken and in order"
        )


def test_the_window_of_a_busy_room_does_not_grow_for_ever() -> None:
    case = next(case for case in CASES if case["name"] == "a sent message joins the window")
    state = msgspec.convert(case["before"], ChatState, strict=False)
    state.keep = 10
    sent = msgspec.convert(case["events"][0], events.MessageSent)
    for number in range(4, 100):
        message = msgspec.structs.replace(sent.message, id=str(number), seq=number, revision=number)
        assert state.apply(msgspec.structs.replace(sent, revision=number, message=message))
    assert list(state.rooms[sent.room_id].messages) == list(range(90, 100))
