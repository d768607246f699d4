"""A private RabbitMQ for tests, from Debian's package: own names, ports and folder, ended by its ids."""

import base64
import hashlib
import json
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Self

from tests.servers import free_port

START_SECONDS = 60
STRANGER = "stranger:hush-hush"
"""A user who may not do anything."""
MUTE = ("mute", "hush-hush")
"""A user who may do everything with what is ours, and nothing else: not even answer."""
ANOTHER_VHOST = "another"
"""For one more chat at the same time: what other services post is taken by the first one in a vhost."""
OURS = r"^parley(\..*)?$"
BINARY = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def _user(name: str, password: str) -> dict[str, object]:
    salt = b"salt"
    digest = hashlib.sha256(salt + password.encode()).digest()
    return {
        "name": name,
        "password_hash": base64.b64encode(salt + digest).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": "",
    }


def _may(name: str, what: str, vhost: str = "/") -> dict[str, str]:
    return {"user": name, "vhost": vhost, "configure": what, "write": what, "read": what}


_DEFINITIONS = {
    "users": [_user("guest", "guest"), _user(*STRANGER.split(":")), _user(*MUTE)],
    "vhosts": [{"name": "/"}, {"name": ANOTHER_VHOST}],
    "permissions": [
        _may("guest", ".*"),
        _may("guest", ".*", ANOTHER_VHOST),
        _may("stranger", "^$"),
        _may("mute", OURS),
    ],
}


class RabbitServer:
    """One `rabbitmq-server` with one scheduler. `kill` and `start` may follow each other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        self._epmd_port = free_port()
        self._distribution_port = free_port()
        self._name = f"parley-{secrets.token_hex(4)}@localhost"
        self._process: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        (folder / "enabled_plugins").write_text("[].\n")
        (folder / "definitions.json").write_text(json.dumps(_DEFINITIONS))
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.default = 127.0.0.1:{self.port}\n"
            # Otherwise it refuses to begin where others have left too little.
            "disk_free_limit.absolute = 10MB\n"
            "vm_memory_high_watermark.absolute = 512MB\n"
            f"load_definitions = {folder / 'definitions.json'}\n"
        )

    @property
    def _environment(self) -> dict[str, str]:
        folder = self.folder
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")},
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_BASE": str(folder),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
            # The program itself, and not a shell that starts it.
            "RABBITMQ_ALLOW_INPUT": "true",
        }

    def start(self) -> Self:
        """Start, with what the folder has, and return when it takes connections."""
        if not BINARY.exists():
            raise AssertionError(
                "rabbitmq-server is missing: install it (Debian: rabbitmq-server, the service not started), "
                "or let PARLEY_TEST_RABBITMQ name one"
            )
        if self._epmd is None:
            self._epmd = subprocess.Popen(
                ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        with (self.folder / "output").open("ab") as log:
            self._process = subprocess.Popen(
                [BINARY, "-noinput"],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (self.folder / "output").read_text()[-3000:]
                raise AssertionError(f"rabbitmq did not start:\n{said}")
            time.sleep(0.05)
        return self

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGKILL)
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            self._epmd = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return connection.recv(1) == b"\x01"
        except OSError:
            return False

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(timeout=20)


_for_the_session = ExitStack()


@cache
def own_rabbitmq() -> RabbitServer:
    """The one server for the whole test run, for those who leave it as it was."""
    folder = Path(_for_the_session.enter_context(tempfile.TemporaryDirectory()))
    server = RabbitServer(folder)
    _for_the_session.callback(server.stop)
    return server.start()


def the_rabbitmq() -> str:
    """The URL of that server, or the one that PARLEY_TEST_RABBITMQ names."""
    return os.environ.get("PARLEY_TEST_RABBITMQ") or own_rabbitmq().url


def another_rabbitmq() -> str:
    """As `the_rabbitmq`, but a vhost of its own."""
    return the_rabbitmq().rstrip("/") + "/" + ANOTHER_VHOST


def end_servers() -> None:
    """End what was started for the whole run."""
    _for_the_session.close()
