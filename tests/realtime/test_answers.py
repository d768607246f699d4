"""What each operation answers is what the table says, and so what the API's description says."""

from typing import Any

import pytest

from parley.ids import new_id
from parley.models import Model
from parley.node import Node
from parley.realtime import protocol
from parley.realtime.answers import ANSWERS
from parley.realtime.operations import OPS, AnyCommand, Command
from tests.frames import undocumented
from tests.realtime.conftest import Client

PASSWORD = {"password": "correct horse battery"}


def op_of(command: type[Command]) -> str:
    return str(command.__struct_config__.tag)


class Answered:
    """Which class each operation was answered with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by_op: dict[str, type[Model]] = {}
        self._given: list[Model] = []
        encode = protocol.answer

        def answer(ref: protocol.Ref, ok: Model) -> bytes:
            self._given.append(ok)
            return encode(ref, ok)

        monkeypatch.setattr(protocol, "answer", answer)

    async def ask(self, client: Client, op: str, **fields: Any) -> dict[str, Any]:
        """Ask, and return what was answered, which must be a success."""
        self._given.clear()
        answer = await client.ask(op=op, **fields)
        assert "ok" in answer, (op, answer)
        (given,) = self._given
        self.by_op[op] = type(given)
        return dict(answer["ok"])


def test_every_operation_is_in_the_table() -> None:
    assert set(ANSWERS) == set(AnyCommand.__args__)


async def test_every_operation_answers_what_the_table_says(
    node: Node, bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = Answered(monkeypatch)
    ask = answered.ask
    bobs = (await ask(bob, "profile.see"))["user"]["id"]

    eve = Client(node)
    await ask(eve, "server.limits")
    await ask(eve, "session.guest", display_name="Eve")
    refresh_token = (await ask(eve, "account.register", name="eve", **PASSWORD))["refresh_token"]
    await ask(eve, "session.refresh", refresh_token=refresh_token)
    eve.token = (await ask(eve, "session.create", name="eve", **PASSWORD))["token"]
    await ask(eve, "hello", token=eve.token)

    await ask(eve, "profile.change", display_name="Eve!")
    await ask(eve, "password.change", **PASSWORD, new_password="battery staple horse")
    await ask(eve, "user.see", user=bobs)
    await ask(eve, "user.find")
    await ask(eve, "user.find", query="e")
    await ask(eve, "session.list")
    await ask(eve, "server.stats")

    await ask(eve, "room.create", name="kitchen")
    await ask(eve, "room.change", room="kitchen", title="The kitchen")
    await ask(eve, "room.see", room="kitchen")
    await ask(eve, "room.list")
    await ask(eve, "room.direct", user=bobs)
    await ask(eve, "member.add", room="kitchen", user=bobs)
    await ask(eve, "member.change", room="kitchen", user=bobs, role="moderator")
    await ask(eve, "member.list", room="kitchen")
    await ask(eve, "member.remove", room="kitchen", user=bobs)

    message = (await ask(eve, "message.send", room="kitchen", text="soup", id=new_id()))["message"]["id"]
    await ask(eve, "message.edit", room="kitchen", message=message, text="more soup")
    await ask(eve, "message.react", room="kitchen", message=message, emoji="👍")
    await ask(eve, "message.unreact", room="kitchen", message=message, emoji="👍")
    await ask(eve, "message.page", room="kitchen")
    await ask(eve, "message.unread", room="kitchen")
    await ask(eve, "message.changes", room="kitchen", since=0)
    await ask(eve, "message.search", query="soup")
    await ask(eve, "read.mark", room="kitchen", seq=1)
    await ask(eve, "typing.start", room="kitchen")
    await ask(eve, "typing.stop", room="kitchen")
    await ask(eve, "message.delete", room="kitchen", message=message)
    await ask(eve, "account.export")

    await ask(bob, "room.open", room="kitchen")
    await ask(bob, "room.join", room="kitchen")
    await ask(bob, "room.leave", room="kitchen")
    await ask(eve, "room.close", room="kitchen")
    await ask(bob, "session.end")
    await ask(eve, "account.delete")

    assert set(answered.by_op) == OPS
    assert answered.by_op == {op_of(command): model for command, model in ANSWERS.items()}


async def test_a_frame_that_is_not_documented_is_noticed(ann: Client) -> None:
    ann.transport.send(b'{"event": "message.sent"}')
    assert "required" in str(undocumented.pop())
