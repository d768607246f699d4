"""A server in this process, asked over HTTP and over sessions without sockets, and people of every kind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx2
from argon2 import PasswordHasher
from fastapi import FastAPI

from parley.buses.base import Bus
from parley.buses.memory import MemoryBus
from parley.config import Settings
from parley.ids import new_id
from parley.models import Message, Room, User
from parley.node import Node
from parley.services.passwords import Passwords
from parley.services.sessions import SignedIn
from parley.stores.base import Store
from parley.stores.memory import MemoryStore
from parley.web import app as web
from tests.realtime.conftest import Client

PASSWORD = "correct horse"
HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""As little work as argon2 allows, to save the tests' time."""
HASH = HASHER.hash(PASSWORD)


@cache
def _app() -> FastAPI:
    """The application, which takes longer to make than all the rest: it serves one world after the other."""
    node = Node(Settings(_env_file=None), MemoryStore(), MemoryBus())
    return web.create(node)


class World:
    """One node with its HTTP API."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.core = node.core
        app = _app()
        app.state.node = node
        transport = httpx2.ASGITransport(app)
        self.http = httpx2.AsyncClient(transport=transport, base_url="http://parley")

    async def person(self, name: str, kind: str = "person") -> "Somebody":
        """Somebody who has just come in, on one device."""
        if kind == "guest":
            signed_in = await self.core.accounts.guest(name)
        else:
            unique = f"{name.lower().replace(' ', '-')}-{new_id()[-12:]}"
            user = User(id=new_id(), name=unique, display_name=name, kind="person")
            await self.core.store.add_user(user, [self.core.rooms.lobby_id], HASH)
            signed_in = await self.core.sessions.begin(user, "")
        return Somebody(self, signed_in)

    async def people(self, *names: str) -> list["Somebody"]:
        return [await self.person(name) for name in names]


@dataclass
class Somebody:
    """A user who asks over HTTP or over a connection of their own."""

    world: World
    signed_in: SignedIn
    clients: list[Client] = field(default_factory=list)

    @property
    def user(self) -> User:
        return self.signed_in.user

    @property
    def id(self) -> str:
        return self.signed_in.user.id

    @property
    def token(self) -> str:
        return self.signed_in.token

    async def another_device(self) -> "Somebody":
        return Somebody(self.world, await self.world.core.sessions.begin(self.user, "another"))

    async def session_id(self) -> str:
        return (await self.world.core.sessions.authenticate(self.token)).session.id

    async def request(self, method: str, path: str, **more: Any) -> httpx2.Response:
        headers = {"authorization": f"Bearer {self.token}"}
        return await self.world.http.request(method, f"/api/v1{path}", headers=headers, **more)

    async def does(self, method: str, path: str, **more: Any) -> Any:
        """A request that must succeed, and what it answers."""
        answer = await self.request(method, path, **more)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def connection(self) -> Client:
        """A connection that has not said hello."""
        client = Client(self.world.node, self.token)
        self.clients.append(client)
        return client

    async def connected(self, **hello: Any) -> Client:
        client = self.connection()
        await client.hello(**hello)
        return client

    async def makes(self, kind: str = "private", **settings: Any) -> Room:
        return await self.world.core.rooms.create(
            self.user, **{"name": f"room-{new_id()}", "title": None, "kind": kind, **settings}
        )

    async def brings(self, room: Room, *others: "Somebody", role: str = "member") -> None:
        for other in others:
            await self.world.core.rooms.add_member(self.user, room.id, other.id, role)

    async def removes(self, room: Room, other: "Somebody") -> None:
        await self.world.core.rooms.remove_member(self.user, room.id, other.id)

    async def says(self, room: Room, text: str) -> Message:
        return (await self.world.core.messages.send(self.user, room.id, text)).message


@asynccontextmanager
async def a_world(
    store: Store | None = None, bus: Bus | None = None, **settings: Any
) -> AsyncIterator[World]:
    """A world of its own, with nobody in it."""
    node = Node(Settings(_env_file=None, **settings), store or MemoryStore(), bus or MemoryBus())
    await node.start()
    node.core.accounts._passwords = Passwords(HASHER)
    world = World(node)
    try:
        yield world
    finally:
        await world.http.aclose()
        node.core.accounts._passwords.close()
        await node.stop()


@dataclass
class Scene:
    """A room and everybody around it: what one cell of the table is carried out in."""

    world: World
    kind: str
    room: Room
    cast: dict[str, Somebody]
    said: dict[str, Message]

    def words(self, caller: str, other_session: str) -> dict[str, str]:
        """What the fields of an operation may speak of."""
        somebody = self.cast.get(caller)
        other = "member" if caller not in ("member", "guest") else "guest" if caller == "member" else "member"
        others = self.said[other].id
        words = {name: each.id for name, each in self.cast.items()} | {
            "room": self.room.id,
            "other": self.cast[other].id,
            "mine": self.said[caller].id if caller in self.said else others,
            "others": others,
            "new_name": f"new-{new_id()[-12:]}",
            "password": PASSWORD,
            "others_session": other_session,
            "my_other_session": other_session,
            "me": "nobody",
            "my_name": "nobody",
            "my_refresh_token": "none",
        }
        if somebody is not None:
            words |= {"me": somebody.id, "my_name": somebody.user.name}
            words["my_refresh_token"] = somebody.signed_in.refresh_token or "none"
        return words


ROLES = ("owner", "moderator", "member", "guest", "reader", "former", "helper")


async def a_scene(world: World, kind: str) -> Scene:
    """A room of that kind, in which all who are or were in it have said something."""
    names = (*ROLES, "outsider", "neighbour", "ended", "newcomer")
    cast = {name: await world.person(name, "guest" if name == "guest" else "person") for name in names}
    await cast["neighbour"].makes("private")
    await cast["neighbour"].makes("public")
    owner, core = cast["owner"], world.core
    if kind == "direct":
        room = await core.rooms.direct(cast["member"].user, cast["guest"].user)
        present: tuple[str, ...] = ("member", "guest")
    else:
        room = await owner.makes("public" if kind == "public" else "private")
        present = ROLES
        await owner.brings(room, *(cast[name] for name in ROLES[1:]))
    told = await asyncio.gather(*(cast[name].says(room, f"{name} said") for name in present))
    if kind != "direct":
        for name, role in (("moderator", "moderator"), ("helper", "moderator"), ("reader", "reader")):
            await core.rooms.change_role(owner.user, room.id, cast[name].id, role)
        await owner.removes(room, cast["former"])
    if kind == "read-only":
        await core.rooms.change(owner.user, room.id, read_only=True)
    await core.store.end_session(await cast["ended"].session_id())
    return Scene(world, kind, room, cast, dict(zip(present, told, strict=True)))
