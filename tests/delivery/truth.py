"""What the store says in the end, read page by page over HTTP, and what of it others have not got."""

from collections.abc import Mapping

import httpx2

from tests.delivery.crowd import Crowd
from tests.delivery.nodes import Place
from tests.delivery.person import Op, Person
from tests.delivery.stream import Json


class Truth:
    """The rooms of a run as the store has them."""

    def __init__(self) -> None:
        self.heads: dict[str, int] = {}
        self.messages: dict[str, dict[int, Json]] = {}

    async def look(self, place: Place, crowd: Crowd) -> None:
        """Read where each room stands."""
        async with httpx2.AsyncClient(base_url=f"{place.url}/api/v1", timeout=10) as http:
            for room_id, reader in _readers(crowd).items():
                self.heads[room_id] = (await _read(http, reader, f"/rooms/{room_id}"))["revision"]

    async def read(self, place: Place, crowd: Crowd) -> list[str]:
        """Read all of it; return what is wrong with the store itself."""
        wrong: list[str] = []
        async with httpx2.AsyncClient(base_url=f"{place.url}/api/v1", timeout=10) as http:
            for room_id, reader in _readers(crowd).items():
                messages: list[Json] = []
                while True:
                    after = messages[-1]["seq"] if messages else 0
                    path = f"/rooms/{room_id}/messages?after={after}&limit=200"
                    page = (await _read(http, reader, path))["items"]
                    if not page:
                        break
                    messages += page
                room = await _read(http, reader, f"/rooms/{room_id}")
                if [each["seq"] for each in messages] != list(range(1, room["last_seq"] + 1)):
                    wrong.append(f"the store's {room['name']} has holes")
                if len({each["id"] for each in messages}) != len(messages):
                    wrong.append(f"the store's {room['name']} has a message twice")
                changes = await _read(http, reader, f"/rooms/{room_id}/changes?since=0")
                by_seq = {each["seq"]: each for each in messages}
                if any(by_seq.get(each["seq"]) != each for each in changes["messages"]):
                    wrong.append(f"the store's pages and changes of {room['name']} differ")
                if changes["revision"] != room["revision"] or room["revision"] != self.heads[room_id]:
                    wrong.append(f"the store's {room['name']} stands at more than one revision")
                self.messages[room_id] = by_seq
        return wrong

    def missed_by(self, crowd: Crowd) -> list[str]:
        """Who has something else than the store, and what was acknowledged and is not there."""
        wrong: list[str] = []
        for person in crowd.people:
            for room_id in person.reads_in:
                wrong += _differences(person.name, person.rooms[room_id].messages, self.messages[room_id])
            wrong += self._unkept(person)
        for talker in crowd.talkers:
            for room_id in talker.rooms:
                known = talker.chat.state.rooms[room_id].messages
                ours = {seq: (each.id, each.revision, each.text) for seq, each in known.items()}
                theirs = {
                    seq: (each["id"], each["revision"], each["text"])
                    for seq, each in self.messages[room_id].items()
                    if seq >= min(ours, default=0)
                }
                wrong += _differences(talker.name, ours, theirs)
            acknowledged = [future.result() for future in talker.written]
            wrong += [
                f"{talker.name}: {each.text!r} was acknowledged and is not there"
                for each in acknowledged
                if self.messages[each.room_id].get(each.seq, {}).get("id") != each.id
            ]
            if len({each.id for each in acknowledged}) != len(acknowledged):
                wrong.append(f"{talker.name}: two messages have one id")
            stored = {each["id"] for room_id in talker.rooms for each in self.messages[room_id].values()}
            if set(talker.shown) != stored:
                wrong.append(f"{talker.name}: {len(stored)} messages, {len(talker.shown)} shown")
        return wrong

    def _unkept(self, person: Person) -> list[str]:
        """What was acknowledged to somebody and is not so."""
        last: dict[tuple[str, ...], Op] = {}
        for op in person.answered:
            if op.error is None:
                emoji = (str(op.line["emoji"]),) if op.kind == "message.react" else ()
                last[(op.kind, op.message_id, *emoji)] = op
        return [
            f"{person.name}: acknowledged and not so: {op.line}"
            for op in last.values()
            if not self._is_kept(op, person, last)
        ]

    def _is_kept(self, op: Op, person: Person, last: dict[tuple[str, ...], Op]) -> bool:
        stored = self.messages[op.room_id].get(op.answer["seq"], {})
        if stored.get("id") != op.message_id or stored["revision"] < op.answer["revision"]:
            return False
        if op.kind == "message.delete" or stored["deleted_at"] is not None:
            return stored["deleted_at"] is not None and stored["text"] == ""
        if op.kind == "message.react":
            return person.user["id"] in stored["reactions"].get(op.line["emoji"], [])
        if op.kind == "message.send" and ("message.edit", op.message_id) in last:
            return True
        return bool(stored["text"] == op.line["text"])


def _readers(crowd: Crowd) -> dict[str, Person]:
    """For each room somebody who may read it."""
    return {room_id: person for person in crowd.people for room_id in person.reads_in}


async def _read(http: httpx2.AsyncClient, reader: Person, path: str) -> Json:
    answer = await http.get(path, headers={"authorization": f"Bearer {reader.token}"})
    assert answer.status_code == 200, answer.text
    told: Json = answer.json()
    return told


def _differences(name: str, ours: Mapping[int, object], theirs: Mapping[int, object]) -> list[str]:
    return [
        f"{name}: message {seq} is {ours.get(seq)} here, {theirs.get(seq)} in the store"
        for seq in sorted(ours.keys() | theirs.keys())
        if ours.get(seq) != theirs.get(seq)
    ][:3]
