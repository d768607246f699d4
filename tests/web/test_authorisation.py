"""Every operation by every kind of caller, over HTTP and over the socket: the answer is that of the table."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from parley.ids import new_id
from parley.realtime.protocol import OPS
from parley.services.sessions import SignedIn
from tests.realtime.conftest import Client
from tests.web.authorisation_table import EVERYBODY, FORMS, OTHER_TABLE, OUTSIDE, ROOM_TABLE, Form
from tests.web.world import Scene, World, a_scene, a_world

PREFIX = "/api/v1"

Told = dict[str, Any]
Way = Callable[[Scene, str, Form, dict[str, str]], Awaitable[Told]]


def fields_of(form: Form, words: dict[str, str]) -> dict[str, Any]:
    """The fields of an operation, with what they speak of."""
    return {
        name: value.format(**words) if isinstance(value, str) else value
        for name, value in form.fields.items()
    }


async def over_http(scene: Scene, caller: str, form: Form, words: dict[str, str]) -> Told:
    """What a caller is told over HTTP, without what belongs to this one request."""
    assert form.http is not None
    fields = fields_of(form, words)
    method, path = form.http.split(" ")
    parts = {name for name in fields if f"{{{name}}}" in path}
    rest = {name: value for name, value in fields.items() if name not in parts}
    more: dict[str, Any] = {}
    if rest and method == "GET":
        more["params"] = rest
    elif rest and method != "DELETE":
        more["json"] = rest
    token = token_of(scene, caller)
    answer = await scene.world.http.request(
        method,
        PREFIX + path.format(**fields),
        headers={"authorization": f"Bearer {token}"} if token else {},
        **more,
    )
    body = answer.json() if answer.content else {}
    body.pop("request_id", None)
    headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
    code = "ok" if answer.is_success else body["code"]
    return {"code": code, "status": answer.status_code, "body": body, "headers": headers}


async def over_socket(scene: Scene, caller: str, form: Form, words: dict[str, str]) -> Told:
    """What a caller is told over a connection of their own."""
    client = Client(scene.world.node, token_of(scene, caller))
    client.careless = True  # some of it is nonsense by intent
    try:
        arrives = form.op in ARRIVING
        if form.op == "hello" or (caller != "nobody" and not arrives):
            answer = await client.ask(op="hello", token=client.token)
            if form.op == "hello" or "error" in answer:
                return told(answer)
        return told(await client.ask(op=form.op, **fields_of(form, words)))
    finally:
        client.session.closed()


ARRIVING = {"account.register", "session.create", "session.guest", "session.refresh", "server.limits"}
"""Operations of those who are not signed in yet."""


def told(answer: dict[str, Any]) -> Told:
    answer.pop("ref")
    return {"code": answer["error"]["code"] if "error" in answer else "ok", "body": answer}


def token_of(scene: Scene, caller: str) -> str | None:
    return None if caller == "nobody" else scene.cast[caller].token


WAYS: dict[str, Way] = {"HTTP": over_http, "socket": over_socket}


async def carried_out(world: World, name: str, kind: str, expected: dict[str, str]) -> list[str]:
    """Try an operation as everybody in a room of that kind, each time in a new one unless it was refused the
    last time; what was not expected."""
    wrong = []
    form = FORMS[name]
    scene: Scene | None = None
    for way, ask in WAYS.items():
        if way == "HTTP" and form.http is None:
            continue
        for caller, outcome in expected.items():
            scene = scene or await a_scene(world, kind)
            words = scene.words(caller, await another_session(scene, name, caller))
            answer = await ask(scene, caller, form, words)
            if answer["code"] != outcome:
                wrong.append(f"{caller} over {way} in a {kind} room: {answer['code']}, not {outcome}")
            if outcome == "room_not_found" and await shows(scene, caller, ask, form, words):
                wrong.append(f"{caller} over {way} is told that there is a {kind} room")
            if answer["code"] == "ok":
                scene = None
    return wrong


async def shows(scene: Scene, caller: str, ask: Way, form: Form, words: dict[str, str]) -> bool:
    """Whether a room, by its id or by its name, is answered otherwise than one that does not exist."""
    pairs = [(scene.room.id, new_id())]
    if scene.room.name is not None:
        pairs.append((scene.room.name, f"no-{new_id()}"))
    return any(
        [
            await ask(scene, caller, form, words | {"room": room})
            != await ask(scene, caller, form, words | {"room": ghost})
            for room, ghost in pairs
        ]
    )


async def another_session(scene: Scene, name: str, caller: str) -> str:
    """A session of the caller, or where the operation says so of somebody else."""
    whose = scene.cast.get("helper" if "somebody else" in name else caller)
    if whose is None or "session.end" not in name:
        return new_id()
    begun: SignedIn = await scene.world.core.sessions.begin(whose.user, "another")
    return (await scene.world.core.sessions.authenticate(begun.token)).session.id


def test_the_table_names_every_operation() -> None:
    assert {form.op for form in FORMS.values()} == OPS
    assert set(FORMS) == set(ROOM_TABLE) | set(OTHER_TABLE)
    for name, by_kind in ROOM_TABLE.items():
        assert {"public", "private", "read-only"} <= set(by_kind), name
        for kind, expected in by_kind.items():
            assert all(expected.values()), f"{name} in a {kind} room: a cell is empty"
    assert all(set(expected) == set(EVERYBODY) for expected in OTHER_TABLE.values())


async def test_the_table_names_every_route() -> None:
    async with a_world() as world:
        paths = (await world.http.get("/api/openapi.json")).json()["paths"]
    routes = {
        f"{method.upper()} {path.removeprefix(PREFIX)}"
        for path, item in paths.items()
        if path.startswith(PREFIX)
        for method in item
    }
    named = {form.http for form in FORMS.values() if form.http}
    assert {route.replace("/members/me", "/members/{user}") for route in named} == routes


CELLS = [(name, kind) for name, by_kind in ROOM_TABLE.items() for kind in by_kind]


@pytest.mark.parametrize(("name", "kind"), CELLS, ids=[f"{name}, {kind}" for name, kind in CELLS])
async def test_everybody_is_answered_as_the_table_says(name: str, kind: str) -> None:
    async with a_world() as world:
        assert await carried_out(world, name, kind, ROOM_TABLE[name][kind]) == []


@pytest.mark.parametrize("name", OTHER_TABLE)
async def test_everybody_is_answered_elsewhere_as_the_table_says(name: str) -> None:
    async with a_world() as world:
        assert await carried_out(world, name, "private", OTHER_TABLE[name]) == []


NONSENSE: dict[str, dict[str, Any]] = {
    "message.send": {"text": " "},
    "message.send, too long": {"text": "x" * 20_000},
    "message.send, under no id": {"text": "hello", "id": "x"},
    "message.send, an answer to nothing": {"text": "hello", "reply_to": new_id()},
    "message.send, an answer to no id": {"text": "hello", "reply_to": "x"},
    "message.edit": {"message": "x", "text": "hello"},
    "message.edit, to nothing": {"message": "{mine}", "text": ""},
    "message.delete": {"message": "x"},
    "message.react": {"message": "x", "emoji": "👍"},
    "message.react, with two words": {"message": "{mine}", "emoji": "well done"},
    "message.search": {"query": "!"},
    "message.page": {"limit": 0},
    "member.list": {"cursor": "x"},
    "member.add": {"user": "nobody"},
    "member.add, as a king": {"user": "{newcomer}", "role": "king"},
    "member.change": {"user": "{newcomer}", "role": "king"},
    "room.change": {"title": " "},
    "room.change, to another kind": {"kind": "direct"},
    "read.mark": {"seq": -1},
}
"""Operations that make no sense, so that they may be refused before anybody looks at the room."""


@pytest.mark.parametrize("name", NONSENSE)
async def test_nonsense_tells_strangers_no_more_of_a_room_than_sense(name: str) -> None:
    op = name.split(",", maxsplit=1)[0]
    http = next(form.http for form in FORMS.values() if form.op == op and "room" in form.fields)
    form = Form(op, http, {"room": "{room}"} | NONSENSE[name])
    async with a_world() as world:
        scene = await a_scene(world, "private")
        for way, ask in WAYS.items():
            for caller in OUTSIDE:
                words = scene.words(caller, new_id())
                assert not await shows(scene, caller, ask, form, words), f"{caller} over {way}"


@pytest.mark.parametrize("way", ["by id", "by name", "over the socket"])
async def test_who_adds_oneself_is_an_ordinary_member(way: str) -> None:
    async with a_world() as world:
        scene = await a_scene(world, "public")
        ann = scene.cast["outsider"]
        if way == "over the socket":
            client = await ann.connected()
            await client.ask(op="member.add", room=scene.room.id, user=ann.id, role="owner")
        else:
            key = ann.id.upper() if way == "by id" else ann.user.name.upper()
            await ann.does("PUT", f"/rooms/{scene.room.id}/members/{key}", json={"role": "owner"})
        assert (await world.core.rooms.see(scene.room.id, ann.id)).role == "member"
