"""No answer leaves the server before the disk has what it acknowledges, as its system calls show."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect

from parley.ids import new_id
from tests.faults.system_calls import Step, sent_too_early, steps, tracer
from tests.servers import ServerProcess

pytestmark = pytest.mark.slow

CLIENTS = 4
MESSAGES = 25
LOG = "/tmp/parley.db-wal"


async def _talk(server: ServerProcess) -> set[str]:
    """Messages over HTTP and WebSocket, from several people at once; the ids that were acknowledged."""
    acknowledged: set[str] = set()
    async with httpx2.AsyncClient(base_url=f"{server.url}/api/v1", timeout=20) as http:
        guest = (await http.post("/sessions/guest", json={"display_name": "Ann"})).json()
        http.headers["authorization"] = f"Bearer {guest['token']}"
        assert (await http.post("/rooms", json={"name": "kitchen"})).status_code == 201

        async def post() -> None:
            for _ in range(MESSAGES):
                body = {"id": new_id(), "text": "hi"}
                answer = await http.post("/rooms/kitchen/messages", json=body)
                assert answer.status_code == 201
                acknowledged.add(answer.json()["id"])

        async def say() -> None:
            async with connect(server.ws, proxy=None) as connection:
                await connection.send(json.dumps({"op": "hello", "ref": "hello", "token": guest["token"]}))
                refs = {str(ref) for ref in range(MESSAGES)}
                for ref in refs:
                    command = {"op": "message.send", "ref": ref, "room": "kitchen", "text": "hi"}
                    await connection.send(json.dumps({**command, "id": new_id()}))
                while refs:
                    for line in str(await connection.recv()).split("\n"):
                        answer: dict[str, Any] = json.loads(line)
                        if answer.get("ref") in refs:
                            refs.remove(answer["ref"])
                            acknowledged.add(answer["ok"]["message"]["id"])

        async with asyncio.timeout(60), asyncio.TaskGroup() as work:
            for _ in range(CLIENTS):
                work.create_task(post())
                work.create_task(say())
    assert len(acknowledged) == 2 * CLIENTS * MESSAGES
    return acknowledged


async def _traced(folder: Path, synchronous: str) -> tuple[set[str], set[str], set[str]]:
    """What was acknowledged under that setting, what was seen being sent, and what of it too early."""
    trace = folder / "trace"
    server = ServerProcess(folder, sqlite_synchronous=synchronous)
    await asyncio.to_thread(server.start, before=tracer(trace))
    try:
        acknowledged = await _talk(server)
    finally:
        assert await asyncio.to_thread(server.stop) == 0
    return acknowledged, *sent_too_early(steps(trace), acknowledged)


async def test_a_sync_has_come_to_its_end_before_every_acknowledgement(tmp_path: Path) -> None:
    acknowledged, sent, early = await _traced(tmp_path, "FULL")
    assert sent == acknowledged
    assert early == set()


async def test_without_syncs_the_same_watch_finds_every_acknowledgement_too_early(tmp_path: Path) -> None:
    acknowledged, sent, early = await _traced(tmp_path, "OFF")
    assert sent == early == acknowledged


@pytest.mark.parametrize(
    ("order", "is_early"),
    [
        (["write", "sync", "synced", "send"], False),
        (["write", "sync", "send", "synced"], True),
        (["write", "send", "sync", "synced"], True),
        (["sync", "synced", "write", "send"], True),
        (["sync", "write", "synced", "send"], True),
        (["send", "write", "sync", "synced"], True),
    ],
)
def test_what_counts_as_too_early(order: list[str], is_early: bool) -> None:
    known = {
        "write": Step("pwrite64", LOG, '"… ann …", 4096, 0', ended=False),
        "sync": Step("fdatasync", LOG, "", ended=False),
        "synced": Step("fdatasync", LOG, "", ended=True),
        "send": Step("sendto", "socket:[1]", '"… ann …"', ended=False),
    }
    sent, early = sent_too_early([known[each] for each in order], ["ann"])
    assert sent == {"ann"}
    assert bool(early) is is_early
