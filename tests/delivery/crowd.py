"""Everybody in one run: people on raw frames and talkers on the Python client, on every node."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2

from parley.client import Chat
from tests.delivery.nodes import Nodes
from tests.delivery.person import Person
from tests.delivery.stream import Json
from tests.delivery.talker import Talker
from tests.servers import until

PEOPLE = ("ann", "bob", "cleo", "dan", "eve", "fay")
PERSON_SECONDS = 0.25
"""How often one of them does something, about."""
TALKER_SECONDS = 1.0
READY_SECONDS = 20


class Crowd:
    """Two people and a talker on each of three nodes, or all on the only one. All of them are in a public
    and in a private room; the first and the third have a room of the two of them besides.

    In `study` only those of the first node speak: where others only listen, nothing of their own shows them
    what they have missed. `listeners` are those of the third node.
    """

    def __init__(self, nodes: Nodes, seed: str) -> None:
        self.nodes = nodes
        self.people: list[Person] = []
        self.talkers: list[Talker] = []
        self.listeners: list[Person] = []
        self.study = ""
        self.enough = asyncio.Event()
        self._seed = seed
        self._stack = AsyncExitStack()
        self._staying: list[asyncio.Task[None]] = []
        self._writing: list[asyncio.Task[None]] = []

    async def come(self) -> None:
        """Let everybody in, make the rooms, and connect."""
        async with httpx2.AsyncClient(base_url=f"{self.nodes[0].url}/api/v1", timeout=10) as http:
            for number, name in enumerate(PEOPLE):
                user, token = await _guest(http, name)
                at = number % len(self.nodes)
                seed = f"{self._seed} {name}"
                self.people.append(Person(name, user, token, self.nodes, at, seed, PERSON_SECONDS))
            ann, _, cleo, dan, _, fay = self.people
            self.listeners = [cleo, fay]
            kitchen = await _made(http, ann, "post", "/rooms", {"name": "kitchen", "kind": "public"})
            pantry = await _made(http, ann, "post", "/rooms", {"name": "pantry", "kind": "private"})
            self.study = await _made(http, ann, "post", "/rooms", {"name": "study", "kind": "private"})
            direct = await _made(http, ann, "put", f"/direct/{cleo.user['id']}")
            for number in range(len(self.nodes)):
                user, token = await _guest(http, f"talker {number}")
                chat = Chat(self.nodes[number].url, token=token)
                self.talkers.append(Talker(user["display_name"], chat, [kitchen, pantry], TALKER_SECONDS))
                await _enter(http, ann, user["id"], pantry)
                await _made(http, token, "put", f"/rooms/{kitchen}/members/me")
            for person in self.people:
                person.writes_in = [kitchen, pantry, *([direct] if person in (ann, cleo) else [])]
                person.reads_in = [*person.writes_in, self.study]
                if person in (ann, dan):
                    person.writes_in.append(self.study)
                if person is not ann:
                    await _enter(http, ann, person.user["id"], pantry)
                    await _enter(http, ann, person.user["id"], self.study)
                    await _made(http, person, "put", f"/rooms/{kitchen}/members/me")
        for talker in self.talkers:
            self._staying.append(asyncio.create_task(talker.read()))
            await self._stack.enter_async_context(talker.chat)
            await asyncio.wait_for(talker.chat.ready(), READY_SECONDS)
        self._staying += [asyncio.create_task(person.live()) for person in self.people]
        await until(lambda: all(person.is_connected for person in self.people), READY_SECONDS)

    def begin(self) -> None:
        """From now on everybody writes."""
        self._writing = [asyncio.create_task(each.write(self.enough)) for each in self._all()]

    async def finish(self, deadline: float) -> None:
        """Write nothing new, and return when everything is answered."""
        self.enough.set()
        _, late = await asyncio.wait(self._writing, timeout=max(0, deadline - time.monotonic()))
        self.check_that_all_go_on()
        assert not late, f"{len(late)} of them wait for an answer"

    def check_that_all_go_on(self) -> None:
        """Raise what has ended somebody."""
        for task in (*self._staying, *self._writing):
            if task.done():
                task.result()

    async def leave(self) -> None:
        for task in (*self._staying, *self._writing):
            task.cancel()
        await asyncio.gather(*self._staying, *self._writing, return_exceptions=True)
        await self._stack.aclose()

    def behind(self, heads: dict[str, int]) -> list[str]:
        """Who does not stand where the store does."""
        return [each.name for each in self._all() if not each.knows(heads)]

    def wrong(self) -> list[str]:
        return [wrong for each in self._all() for wrong in each.wrong]

    def _all(self) -> Iterator[Any]:
        yield from self.people
        yield from self.talkers


async def _guest(http: httpx2.AsyncClient, name: str) -> tuple[Json, str]:
    answer = await http.post("/sessions/guest", json={"display_name": name})
    assert answer.status_code == 201, answer.text
    return answer.json()["user"], answer.json()["token"]


async def _made(
    http: httpx2.AsyncClient, who: Person | str, method: str, path: str, body: Json | None = None
) -> str:
    """Ask for something that answers with a room, and return its id."""
    token = who if isinstance(who, str) else who.token
    headers = {"authorization": f"Bearer {token}"}
    answer = await http.request(method.upper(), path, json=body, headers=headers)
    assert answer.status_code < 300, answer.text
    return str(answer.json()["id"])


async def _enter(http: httpx2.AsyncClient, owner: Person, user_id: str, room_id: str) -> None:
    await _made(http, owner, "put", f"/rooms/{room_id}/members/{user_id}", {"role": "member"})
