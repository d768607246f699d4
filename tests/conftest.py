"""What the whole test run shares, ended with it."""

from collections.abc import Iterator

import pytest

from tests import redis_servers


@pytest.fixture(scope="session", autouse=True)
def _servers_end_with_the_run() -> Iterator[None]:
    yield
    redis_servers.end_servers()
