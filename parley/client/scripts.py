"""What `parley send`, `parley tail` and `parley rooms` run: one thing each, and an exit code."""

import asyncio
import contextlib
import getpass
import sys
from collections.abc import Awaitable, Callable

import msgspec

from parley.client import safe_text, streams
from parley.client.answers import RoomPage
from parley.client.chat import Chat
from parley.client.errors import ChatEnded, ChatError, Refused
from parley.client.plain import plain_line

REFUSED = 2
FAILED = 1
PATIENCE_SECONDS = 10
"""How long a script waits for a server that is away."""


async def send(room: str, text: str, server: str, name: str | None = None) -> int:
    """Write one message into a room, which is made if there is none of that name."""

    async def do(chat: Chat) -> None:
        await chat.send(room, text)
        with contextlib.suppress(ChatError):  # nobody leaves the lobby
            await chat.request("room.leave", room=room)

    return await _run(do, server, name, [room])


async def tail(room: str, server: str, name: str | None = None, count: int = 20) -> int:
    """Print the last messages of a room, one per line."""

    async def do(chat: Chat) -> None:
        for message in await chat.history(room, limit=max(1, min(count, 200))):
            if message.deleted_at is None:
                sys.stdout.write(f"{plain_line(message)}\n")

    return await _run(do, server, name, [])


async def rooms(server: str, name: str | None = None) -> int:
    """Print the public rooms: name, members, messages and title, separated by tabs."""

    async def do(chat: Chat) -> None:
        cursor = None
        while True:
            answer = await chat.request("room.list", scope="public", cursor=cursor, limit=200)
            page = msgspec.convert(answer, RoomPage)
            for room in page.items:
                counts = str(room.member_count), str(room.message_count)
                fields = room.name or room.id, *counts, room.title
                sys.stdout.write("\t".join(safe_text.line(field) for field in fields) + "\n")
            if (cursor := page.next) is None:
                return

    return await _run(do, server, name, [])


async def _run(do: Callable[[Chat], Awaitable[None]], server: str, name: str | None, rooms: list[str]) -> int:
    reason = f"no answer from {server}"

    def on_status(status: str, why: str) -> None:
        nonlocal reason
        if status == "away" and reason != (reason := f"no answer from {server}: {why}"):
            streams.complain(f"{reason}; trying for {PATIENCE_SECONDS} s")

    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            async with Chat(server, name=name or getpass.getuser(), rooms=rooms, on_status=on_status) as chat:
                await chat.ready()
                await do(chat)
                sys.stdout.flush()
        return 0
    except BrokenPipeError:
        streams.give_up_stdout()
        return 0
    except TimeoutError:
        streams.complain(reason)
        return FAILED
    except (ChatError, ValueError) as error:
        streams.complain(str(error))
        refusal = error.refusal if isinstance(error, ChatEnded) else error
        return REFUSED if isinstance(refusal, Refused | ValueError) else FAILED
