"""A mock of a Kafka broker for tests: the real protocol, in a process of its own, ended by its id."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from functools import cache
from typing import Self

_MOCK = """
import sys
from confluent_kafka import Producer
mock = Producer({"bootstrap.servers": "", "test.mock.num.brokers": 1})
(broker,) = mock.list_topics(timeout=10).brokers.values()
print(f"{broker.host}:{broker.port}", flush=True)
sys.stdin.read()
"""


class KafkaServer:
    """librdkafka's mock of a broker. It forgets everything with its process, and then has another port."""

    def __init__(self) -> None:
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Start, and return when it takes connections."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _MOCK], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        address = self._process.stdout.readline().decode().strip()
        if not address:
            self.stop()
            raise AssertionError("the mock of Kafka did not start")
        self.url = f"kafka://{address}"
        return self

    def pause(self) -> None:
        """Let it hang: connected, but silent."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


_for_the_session = ExitStack()


@cache
def own_kafka() -> KafkaServer:
    """The one mock for the whole test run, for those who leave it as it was."""
    server = KafkaServer().start()
    _for_the_session.callback(server.stop)
    return server


def the_kafka() -> str:
    """The URL of that mock, or of the broker that PARLEY_TEST_KAFKA names."""
    return os.environ.get("PARLEY_TEST_KAFKA") or own_kafka().url


def end_servers() -> None:
    """End what was started for the whole run."""
    _for_the_session.close()
