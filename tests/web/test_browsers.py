"""What pages of other web sites may do, and what browsers are told."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.servers import ServerProcess

FRIEND = "https://friend.example"


@pytest.fixture(scope="module")
def open_to_a_friend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = Path(tmp_path_factory.mktemp("friend"))
    with ServerProcess(folder, origins=f"{FRIEND}, https://other.example") as process:
        yield process


def asked_by(origin: str, server: ServerProcess) -> httpx2.Response:
    """What a browser asks before it sends a page's request."""
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    return httpx2.options(f"{server.url}/api/v1/rooms", headers=headers)


def test_an_allowed_site_may_use_the_api(open_to_a_friend: ServerProcess) -> None:
    asked = asked_by(FRIEND, open_to_a_friend)
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == FRIEND
    answer = httpx2.get(f"{open_to_a_friend.url}/healthz", headers={"origin": FRIEND})
    assert answer.headers["access-control-allow-origin"] == FRIEND
    assert "retry-after" in answer.headers["access-control-expose-headers"].lower()


@pytest.mark.parametrize(
    "origin", ["https://friend.example.evil.example", "http://friend.example", "https://evil.example", "null"]
)
def test_no_other_site_may(open_to_a_friend: ServerProcess, server: ServerProcess, origin: str) -> None:
    for each in (open_to_a_friend, server):
        assert "access-control-allow-origin" not in asked_by(origin, each).headers
        answer = httpx2.get(f"{each.url}/healthz", headers={"origin": origin})
        assert "access-control-allow-origin" not in answer.headers


def test_browsers_are_told_to_be_careful(server: ServerProcess) -> None:
    for path in ("/", "/api/openapi", "/healthz", "/api/v1/me"):
        headers = httpx2.get(f"{server.url}{path}", headers={"authorization": "Bearer x"}).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["content-security-policy"] == "frame-ancestors 'none'"
        assert headers["cache-control"] == "no-store"
