"""What the whole test run shares, ended with it."""

import os
from collections.abc import Iterator

import pytest

from tests import kafka_server, rabbitmq_server, redis_servers
from tests.frames import undocumented

# Tests ask faster than people do; those of the limit itself set one.
os.environ.setdefault("PARLEY_RATE_LIMIT", "0")


@pytest.fixture(scope="session", autouse=True)
def _servers_end_with_the_run() -> Iterator[None]:
    yield
    for servers in (redis_servers, rabbitmq_server, kafka_server):
        servers.end_servers()


@pytest.fixture(autouse=True)
def _every_frame_is_documented() -> Iterator[None]:
    yield
    found = undocumented.copy()
    undocumented.clear()
    assert not found
