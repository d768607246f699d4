"""What waits for the broker is bounded, in order, and what does not fit is remembered by room."""

import pytest
import structlog
from msgspec.structs import replace

from parley import events
from parley.integration import backlog
from parley.integration.backlog import Backlog, Gap, letter
from parley.models import Message

SOUP = Message(
    id="0", room_id="kitchen", seq=1, revision=1, author_id="0", author_name="ann", kind="text",
    text="soup", sent_at="2026-11-20T13:15:53.123Z",  # type: ignore[arg-type]
)  # fmt: skip


def sent(revision: int, room_id: str = "kitchen") -> tuple[events.MessageSent, bytes]:
    message = replace(SOUP, room_id=room_id, revision=revision, seq=revision)
    event = events.MessageSent(room_id=room_id, revision=revision, message=message)
    return event, events.encode(event)


def filled(*revisions: int) -> Backlog:
    made = Backlog()
    for revision in revisions:
        made.put(*sent(revision))
    return made


def marks(of: Backlog) -> list[str]:
    return [each.mark for each in of.batch()]


def test_lines_wait_in_their_order_until_they_are_said_to_be_sent() -> None:
    ours = filled(1, 2, 3)
    assert marks(ours) == marks(ours) == ["1", "2", "3"]
    ours.sent(2)
    assert marks(ours) == ["3"]
    ours.sent(1)
    assert not ours
    assert ours._bytes == 0


def test_a_batch_is_bounded_in_number_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "BATCH", 3)
    assert marks(filled(*range(1, 9))) == ["1", "2", "3"]
    monkeypatch.setattr(backlog, "BATCH_BYTES", 2 * len(sent(1)[1]) + 1)
    assert marks(filled(*range(1, 9))) == ["1", "2"]
    monkeypatch.setattr(backlog, "BATCH_BYTES", 1)
    assert marks(filled(1, 2)) == ["1"], "what is larger than a batch goes by itself"


@pytest.mark.parametrize("bound", ["MAX_WAITING", "MAX_WAITING_BYTES"])
def test_what_does_not_fit_is_remembered_by_its_room(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(backlog, bound, 2 if bound == "MAX_WAITING" else 2 * len(sent(1)[1]))
    ours = filled(1, 2, 3, 4)
    assert marks(ours) == ["1", "2"]
    assert ours.a_gap() == ("kitchen", Gap(2, 4))
    ours.sent(2)
    ours.put(*sent(5))
    ours.put(*sent(9, "hall"))
    assert [each.room_id for each in ours.batch()] == ["hall"], "nothing of a room before what is missing"
    assert ours.a_gap() == ("kitchen", Gap(2, 5))
    assert ours.forgotten == 3
    ours.read("kitchen", 4)
    assert ours.a_gap() == ("kitchen", Gap(4, 5)), "more came while it was read"
    ours.read("kitchen", 7)
    assert ours.a_gap() is None
    ours.put(*sent(8))
    assert marks(ours) == ["9", "8"]


def test_so_many_rooms_are_remembered_and_then_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MAX_WAITING", 0)
    monkeypatch.setattr(backlog, "MAX_GAPS", 2)
    ours = Backlog()
    with structlog.testing.capture_logs() as log:
        for room_id in ("kitchen", "hall", "attic", "cellar", "hall"):
            ours.put(*sent(3, room_id))
    assert (ours.gaps, ours.lost, ours.forgotten) == (2, 2, 5)
    assert [each["log_level"] for each in log] == ["error"], "once, not for each"
    ours.read("kitchen", 3)
    ours.gone("hall")
    with structlog.testing.capture_logs() as log:
        for room_id in ("kitchen", "hall", "attic"):
            ours.put(*sent(4, room_id))
    assert len(log) == 1, "the next time, again"


def test_a_room_that_cannot_be_read_lets_others_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MAX_WAITING", 0)
    ours = Backlog()
    for room_id in ("kitchen", "hall"):
        ours.put(*sent(3, room_id))
    ours.postpone("kitchen")
    assert ours.a_gap() == ("hall", Gap(2, 3))


def test_each_letter_has_an_id_of_its_own_which_is_always_the_same() -> None:
    one, again = letter(*sent(7)), letter(*sent(7))
    changes = events.RoomChanges(
        room_id="kitchen", since=5, revision=7, messages=[], members=[], room=None, reset=False
    )
    reset = events.RoomReset(
        room_id="kitchen", revision=7, messages=[], members=[], room=None, reset=True, reason="behind"
    )
    closed = events.RoomClosed(room_id="kitchen")
    others = [letter(each, events.encode(each)) for each in (changes, reset, closed)]
    assert one.id("e") == again.id("e") == "e:kitchen:7"
    assert [each.id("e") for each in others] == ["e:kitchen:5-7", "e:kitchen:reset-7", "e:kitchen:closed"]
    assert letter(*sent(7, "hall")).id("e") != one.id("e") != one.id("another epoch")
    assert [each.event for each in (one, *others)] == [
        "message.sent", "room.changes", "room.reset", "room.closed",
    ]  # fmt: skip
