"""What one client was told of one room, held against what the protocol promises. No socket and no clock."""

from typing import Any

Json = dict[str, Any]

NEW = "message.sent"
CHANGED = ("message.edited", "message.deleted", "message.reacted")


class RoomStream:
    """A room as its live stream tells it. Whatever must not be is put down in `wrong`.

    Each event carries the next revision; `room.changes` begins where the client stands and leads further.
    Each message is new once, and new messages come in the order of the room without holes.
    """

    def __init__(self, room: Json) -> None:
        self.room_id = str(room["id"])
        self.revision = int(room["revision"])
        self.told = int(room["last_seq"])
        self.messages: dict[int, Json] = {}
        self.wrong: list[str] = []
        self.jumps = 0
        """How often several events were told as one."""

    def take(self, event: Json) -> list[str]:
        """Take in an event; return the ids of the messages that are new."""
        kind, revision = str(event["event"]), int(event.get("revision") or 0)
        if kind == "room.reset":
            self.wrong.append(f"told to begin anew at {self.revision}: {event['reason']}")
        elif kind == "room.changes":
            return self._changes(event, revision)
        elif revision:
            if revision != self.revision + 1:
                self.wrong.append(f"{kind} {revision} came after {self.revision}")
            self.revision = max(self.revision, revision)
            if kind == NEW or kind in CHANGED:
                message = event["message"]
                if (message["seq"] > self.told) is not (kind == NEW):
                    self.wrong.append(f"{kind} of message {message['seq']} came after {self.told}")
                return self._messages([message])
        return []

    def _changes(self, event: Json, revision: int) -> list[str]:
        if event["since"] > self.revision or revision <= self.revision:
            self.wrong.append(f"changes from {event['since']} to {revision} came after {self.revision}")
        self.jumps += 1
        fresh = [each for each in event["messages"] if each["revision"] > self.revision]
        if any(each["revision"] > revision for each in fresh):
            self.wrong.append(f"changes to {revision} hold what came later")
        self.revision = max(self.revision, revision)
        return self._messages(sorted(fresh, key=lambda each: int(each["seq"])))

    def _messages(self, messages: list[Json]) -> list[str]:
        new = []
        for message in messages:
            seq = message["seq"]
            if seq > self.told:
                if seq != self.told + 1:
                    self.wrong.append(f"message {seq} came after {self.told}")
                self.told = seq
                new.append(str(message["id"]))
            else:
                known = self.messages.get(seq, {})
                if known.get("id") != message["id"]:
                    self.wrong.append(f"message {seq} is another one")
                elif known["revision"] >= message["revision"]:
                    self.wrong.append(f"message {seq} was told again")
                    continue
            self.messages[seq] = message
        return new
