"""Starts servers to be measured and reads what they used."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2

from parley.errors import StartError

START_SECONDS = 20
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
TICKS = os.sysconf("SC_CLK_TCK")


class Target:
    """One server process on a free port, pinned to one core, the first one unless given, its data in a folder
    that is removed."""

    def __init__(self, core: int = 0, /, **settings: object) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._core = CORES[core % len(CORES)]
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = tempfile.TemporaryDirectory(prefix="parley-bench-")
        self.folder = Path(self._folder.name)
        given = {
            "port": self.port,
            "log_format": "json",
            "store": f"sqlite:///{self.folder}/parley.db",
            "rate_limit": 1_000_000,  # out of the way, and yet it counts
        }
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")
        }
        self._environment |= {
            f"PARLEY_{name.upper()}": str(value) for name, value in (given | settings).items()
        }
        self.counted: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "parley.bench.child"],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=(self.folder / "log").open("wb"),
        )
        if len(CORES) > 1:
            os.sched_setaffinity(self._process.pid, {self._core})
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise StartError(f"the server to measure did not start: {self._last_words()}")
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            out, _err = self._process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            out, _err = self._process.communicate()
        if kind is None:
            self.counted = json.loads(out)
        self._folder.cleanup()

    def cpu_seconds(self) -> float:
        """CPU that the server has used so far, in the kernel and outside."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def guest(self, name: str) -> str:
        """The token of a new guest."""
        answer = httpx2.post(f"{self.url}/api/v1/sessions/guest", json={"display_name": name}, timeout=10)
        answer.raise_for_status()
        return str(answer.json()["token"])

    def _last_words(self) -> str:
        """The end of what the server said."""
        said = (self.folder / "log").read_text().strip().splitlines()
        return said[-1].removeprefix("parley.errors.StartError: ") if said else "it said nothing"

    def _answers(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/readyz", timeout=1).status_code == 200
        except httpx2.HTTPError:
            return False
