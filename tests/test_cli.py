"""The command starts at once, says in one line what is wrong, and ends cleanly."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from parley.app import app_from
from parley.config import read
from tests.servers import ServerProcess


def parley(
    folder: Path, *arguments: str, seconds: float = 30, **settings: str
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")}
    environment |= {f"PARLEY_{name.upper()}": value for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "parley", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def test_every_bad_setting_is_named_in_one_line(tmp_path: Path) -> None:
    done = parley(tmp_path, "serve", port="90000", store="oracle://db", guests="perhaps")
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    for name in ("PARLEY_PORT", "PARLEY_STORE", "PARLEY_GUESTS"):
        assert name in line


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PARLEY_PORT=7001\nPARLEY_SESSION_TTL=77\n")
    shown = parley(tmp_path, "config", port="7002").stdout
    assert "PARLEY_PORT=7002" in shown
    assert "PARLEY_SESSION_TTL=77" in shown
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused = parley(tmp_path, "serve", "--port", port, port="7003", store="memory://")
    assert port in refused.stderr


def test_secrets_are_masked_and_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush-hush\n")
    shown = parley(tmp_path, "config", secret_file=str(tmp_path / "secret")).stdout
    assert "PARLEY_SECRET=***" in shown
    assert "hush" not in shown
    missing = parley(tmp_path, "config", secret_file=str(tmp_path / "nothing"))
    assert missing.returncode == 1
    assert "PARLEY_SECRET_FILE" in missing.stderr


@pytest.mark.parametrize(
    ("store", "reason"),
    [
        ("sqlite:////nowhere/at/all/parley.db", "/nowhere/at/all"),
        ("sqlite:///not-a-database.db", "not-a-database.db"),
    ],
)
def test_a_store_that_cannot_be_opened_is_one_line(tmp_path: Path, store: str, reason: str) -> None:
    (tmp_path / "not-a-database.db").write_text("this is a letter to my aunt\n" * 100)
    done = parley(tmp_path, "serve", store=store, port="0")
    assert done.returncode == 1
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = parley(tmp_path, "serve", port=port)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert port in line
    assert "PARLEY_PORT" in line


def test_two_servers_do_not_share_one_file(tmp_path: Path) -> None:
    with ServerProcess(tmp_path):
        second = parley(tmp_path, "serve", port="0", store=f"sqlite:///{tmp_path / 'parley.db'}")
    assert second.returncode == 1
    assert "in use" in second.stderr
    assert "postgresql:// or redis://" in second.stderr


async def test_an_app_that_is_mounted_counts_as_a_server(tmp_path: Path) -> None:
    app = app_from(read(store=f"sqlite:///{tmp_path / 'parley.db'}"))
    async with app.router.lifespan_context(app):
        second = parley(tmp_path, "serve", port="0")
    assert second.returncode == 1
    assert "in use" in second.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(tmp_path: Path, how: signal.Signals) -> None:
    server = ServerProcess(tmp_path).start()
    assert server._end(how) == 0
    log = server.log.read_text()
    assert "parley has stopped" in log
    assert "Traceback" not in log


def test_the_lobby_keeps_what_the_setting_says_also_later(tmp_path: Path) -> None:
    line = {"user": "john", "room": "lobby", "text": "hello"}
    for history, sent, kept in (("50", 12, 12), ("10", 0, 10)):
        with ServerProcess(tmp_path, lobby_history=history) as server:
            for _ in range(sent):
                httpx2.post(f"{server.url}/messages", json=line).raise_for_status()
            guest = httpx2.post(f"{server.url}/api/v1/sessions/guest", json={"display_name": "Ann"}).json()
            page = httpx2.get(
                f"{server.url}/api/v1/rooms/lobby/messages",
                headers={"authorization": f"Bearer {guest['token']}"},
            )
            assert len(page.json()["items"]) == kept
