#!/usr/bin/env python3
"""Serves a chat to look at: people, rooms of every kind and some words, in memory only.

PARLEY_HOST and PARLEY_PORT say where; if that port is taken, it is another one.
"""

import secrets
import socket
import sys
from pathlib import Path

import uvloop

from parley import config, server, telemetry
from parley.buses.memory import MemoryBus
from parley.errors import StartError
from parley.node import Node
from parley.stores.memory import MemoryStore

# Low enough to run into.
LIMITS = {
    "max_users": 50,
    "max_rooms": 10,
    "max_room_members": 20,
    "max_history": 25,
    "max_message_bytes": 1000,
    "rate_limit": 5,
    "session_ttl": 900,
}
GUIDE = Path(__file__).with_suffix(".txt").read_text()
SAID = """kitchen ann Who has eaten my cake?
kitchen ben Which cake?
kitchen ann The one that is on your chin.
attic ann Only you and I can see this room.
attic ben And read what is said in it.
news ann Only I write here. Tomorrow the kitchen is closed for cleaning.
duet ben Just the two of us?
duet ann It says so on the door.
lobby cleo Good morning, all!"""


class Demo(Node):
    """A node that begins with people, rooms and what was said in them, and tells what there is."""

    async def start(self) -> None:
        await super().start()
        password = secrets.token_hex(6)
        await self._fill(password)
        host, port = self.settings.host, self.settings.port
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        print(GUIDE.replace("URL", url).replace("PASSWORD", password), flush=True)

    async def _fill(self, password: str) -> None:
        rooms, people = self.core.rooms, {}
        for name in ("ann", "ben", "cleo"):
            signed_in = await self.core.accounts.register(name, password, name.title(), "the demo", "")
            people[name] = signed_in.user
        ann, ben, cleo = people.values()
        await rooms.create(ann, name="kitchen", title="The kitchen")
        await rooms.create(ann, name="attic", title="The attic", kind="private")
        await rooms.create(ann, name="news", title="What is new", read_only=True)
        await rooms.create(ann, name="duet", title="A room for two", capacity=2)
        for room, joining in (("kitchen", (ben, cleo)), ("news", (ben, cleo)), ("duet", (ben,))):
            for user in joining:
                await rooms.join(user, room)
        await rooms.add_member(ann, "attic", ben.id, "member")
        for line in SAID.splitlines():
            room, name, text = line.split(" ", 2)
            await self.core.messages.send(people[name], await rooms.id_of(room, people[name].id), text)
        direct_id = await rooms.direct_id(cleo, ann)
        await self.core.messages.send(cleo, direct_id, "Is there any cake left, between you and me?")


def free_port(host: str, wanted: int) -> int:
    """The port that is wanted, or another one if it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in (wanted, 0):
        try:
            with socket.create_server((host, port), family=family) as free:
                return int(free.getsockname()[1])
        except OSError:
            continue
    return wanted


if __name__ == "__main__":
    try:
        settings = config.read(store="memory://", bus="memory://", guests=True, registration=True, **LIMITS)
        telemetry.configure(settings.log_format)
        port = free_port(settings.host, settings.port)
        demo = Demo(settings.model_copy(update={"port": port}), MemoryStore(), MemoryBus())
        sys.exit(uvloop.run(server.run(demo)))
    except StartError as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:  # before it was ready
        sys.exit(130)
