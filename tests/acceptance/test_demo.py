"""`make demo`: what it says works."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.servers import free_port

ROOT = Path(__file__).parents[2]


class Demo:
    """A running demo, and what it has printed."""

    def __init__(self, folder: Path, port: int) -> None:
        given = {name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")}
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, ROOT / "scripts" / "demo.py"],
            cwd=folder,
            env=given | {"PARLEY_PORT": str(port), "PARLEY_LOG_FORMAT": "json"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.guide = ""
        for line in self.process.stdout:
            self.guide += line
            if line.startswith("All that can be asked"):
                break
        else:
            raise AssertionError(f"the demo did not start:\n{self.process.stderr.read()}")
        self.url = self.found(r"Parley is at (\S+),")
        self.password = self.found(r"with the password (\w+),")
        httpx2.get(f"{self.url}/readyz").raise_for_status()

    def found(self, pattern: str) -> str:
        match = re.search(pattern, self.guide)
        assert match is not None, self.guide
        return match[1]

    def stop(self) -> tuple[int, str]:
        """Ctrl-C: the exit code and what was logged."""
        self.process.send_signal(signal.SIGINT)
        _, log = self.process.communicate(timeout=20)
        return self.process.returncode, log


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path, free_port())
    yield demo
    if demo.process.returncode is None:
        demo.process.kill()
        demo.process.communicate()


def test_ann_signs_in_and_finds_people_and_rooms(demo: Demo) -> None:
    with httpx2.Client(base_url=f"{demo.url}/api/v1", timeout=20) as http:
        signed_in = http.post("/sessions", json={"name": "ann", "password": demo.password}).json()
        http.headers["authorization"] = f"Bearer {signed_in['token']}"
        mine = http.get("/rooms", params={"scope": "mine"}).json()["items"]
        rooms = {room["name"]: room for room in mine if room["kind"] != "direct"}
        assert set(rooms) == {"lobby", "kitchen", "attic", "news", "duet"}
        assert (rooms["attic"]["kind"], rooms["news"]["read_only"], rooms["duet"]["capacity"]) == (
            "private",
            True,
            2,
        )
        assert all(room["message_count"] for room in mine)
        [direct] = [room for room in mine if room["kind"] == "direct"]
        assert (direct["peer"]["name"], direct["unread"]) == ("cleo", 1)
        limits = http.get("/limits").json()
        assert all(limits[name] for name in ("max_users", "max_rooms", "max_room_members", "max_history"))


def test_all_that_it_says_can_be_pasted(demo: Demo) -> None:
    if shutil.which("curl") is None:
        raise AssertionError("curl is missing: install the package curl (`make test` does so as root)")
    pasted = "".join(
        line
        for line in demo.guide.splitlines(keepends=True)
        if re.match(r" +(AT=|sign_in|sed|ANN=|curl|for)", line)
    )
    done = subprocess.run(["sh"], input=pasted, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    said, alone, unread, full, read_only, hidden, limits, often = done.stdout.splitlines()
    for line, expected in (
        (said, '"text":"Tea?"'),
        (alone, '"text":"A slice."'),
        (unread, '"text":"Tea?"'),
        (full, '"code":"room_full"'),
        (read_only, '"code":"read_only_room"'),
        (hidden, '"code":"room_not_found"'),
        (limits, '"max_rooms":10'),
    ):
        assert expected in line
    assert set(often.split()) == {"200", "429"}


def test_it_ends_cleanly_and_leaves_nothing_behind(demo: Demo) -> None:
    code, log = demo.stop()
    assert code == 0
    assert "parley has stopped" in log
    assert "Traceback" not in log
    assert list(demo.folder.iterdir()) == []


def test_it_takes_another_port_where_one_is_taken(demo: Demo, tmp_path: Path) -> None:
    taken = int(demo.url.rpartition(":")[2])
    second = Demo(tmp_path, taken)
    assert second.url != demo.url
    assert httpx2.get(f"{second.url}/readyz").status_code == 200
    assert second.password != demo.password
    assert second.stop()[0] == 0
