"""How long after its acknowledgement a message was shown to the others, while this or that was broken."""

from tests.delivery.crowd import Crowd
from tests.delivery.person import Person

Span = tuple[float, float]


class Delays:
    """Seconds, by the time in which a message was acknowledged: a name of `spans`, or `""`.

    Who was not connected could not be told before they came back; their seconds begin there.
    """

    def __init__(self, crowd: Crowd, spans: dict[str, Span]) -> None:
        self._spans = spans
        self._found: dict[str, list[float]] = {name: [] for name in ("", *spans)}
        self._heard_only: dict[str, list[float]] = {name: [] for name in ("", *spans)}
        sent_at = {
            op.message_id: (op.answered_at, op.room_id)
            for person in crowd.people
            for op in person.answered
            if op.kind == "message.send"
        }
        for person in crowd.people:
            for message_id, shown_at in person.shown.items():
                if message_id not in sent_at:
                    continue
                sent, room_id = sent_at[message_id]
                seconds = max(0, shown_at - _came_before(person, sent, shown_at))
                self._found[self._name_of(sent)].append(seconds)
                if person in crowd.listeners and room_id == crowd.study:
                    self._heard_only[self._name_of(sent)].append(seconds)

    def latest(self, name: str = "") -> float | None:
        """The worst of them, None where nothing was so."""
        return max(self._found.get(name, ()), default=None)

    def most(self, name: str = "") -> float:
        """What nine of ten stay under."""
        found = sorted(self._found.get(name, ()))
        return found[len(found) * 9 // 10] if found else 0.0

    def half_of_heard_only(self, name: str) -> float:
        """What half of them stay under, where nobody on the same node speaks."""
        found = sorted(self._heard_only.get(name, ()))
        return found[len(found) // 2] if found else 0.0

    def _name_of(self, moment: float) -> str:
        return next((name for name, (begin, end) in self._spans.items() if begin <= moment <= end), "")


def _came_before(person: Person, sent: float, shown_at: float) -> float:
    """When they came back, if they were away meanwhile; else when it was sent."""
    came = [each for each in person.came if sent < each <= shown_at]
    return max(came, default=sent)
