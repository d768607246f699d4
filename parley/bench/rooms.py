"""What it costs to list somebody's rooms with what they have not read there."""

import httpx2

from parley.bench.target import Target

LISTS = 200
"""Requests that are measured; fewer would not be seen by a clock that ticks a hundred times a second."""


def run(rooms: int) -> dict[str, float]:
    """CPU of the server for a list of so many rooms, for `GET /me` in the same run, and their ratio."""
    with Target() as target:
        headers = {"Authorization": f"Bearer {target.guest('Ann')}"}
        with httpx2.Client(base_url=f"{target.url}/api/v1", headers=headers, timeout=10) as client:
            for number in range(rooms - 1):  # the lobby is one of them
                made = client.post("/rooms", json={"name": f"room-{number}"}).raise_for_status().json()
                client.post(f"/rooms/{made['id']}/messages", json={"text": "unread"}).raise_for_status()
            listed = client.get("/rooms", params={"scope": "mine"}).raise_for_status().json()
            one = _cpu_ms(target, client, "/me")
            mine = _cpu_ms(target, client, "/rooms?scope=mine")
    return {"rooms": len(listed["items"]), "cpu_ms_per_list": mine, "cpu_ms_per_me": one, "ratio": mine / one}


def _cpu_ms(target: Target, client: httpx2.Client, path: str) -> float:
    before = target.cpu_seconds()
    for _ in range(LISTS):
        client.get(path).raise_for_status()
    return (target.cpu_seconds() - before) / LISTS * 1000
