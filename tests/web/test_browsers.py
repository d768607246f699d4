"""What pages of other web sites may do, and what browsers are told."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

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


async def admitted(server: ServerProcess, origin: str, **headers: str) -> bool:
    """Whether a page of that site gets a connection, to the chat and to the plain feed alike."""
    answers = []
    for path in (server.ws, f"{server.ws}/updates/lobby"):
        try:
            async with connect(path, additional_headers={"origin": origin, **headers}, proxy=None):
                answers.append(True)
        except InvalidStatus as refused:
            answers.append(refused.response.status_code != 403)
    assert answers[0] == answers[1]
    return answers[0]


LOOK_ALIKES = [
    "null",
    "NULL",
    "https://evil.example",
    "http://127.0.0.1",
    "http://127.0.0.1.evil.example",
    "http://127.0.0.1.evil.example:{port}",
    "http://127.0.0.1:{port}.evil.example",
    "http://127.0.0.1:{port}@evil.example",
    "http://evil.example@127.0.0.1:{port}",
    "http://evil.example#127.0.0.1:{port}",
    "http://evil.example/127.0.0.1:{port}",
    "http://127.0.0.1:{port}/evil",
    "http://127.0.0.1:{port} http://evil.example",
    "http://127.0.0.1:{port}0",
    "http://localhost:{port}",
    "HTTP://127.0.0.1:{port}",
    "ftp://127.0.0.1:{port}",
    "//127.0.0.1:{port}",
    "127.0.0.1:{port}",
    "https://FRIEND.example",
    "HTTPS://friend.example",
    "http://friend.example",
    "https://friend.example:8443",
    "https://friend.example/",
    "https://friend.example.evil.example",
    "https://friend.example, https://other.example",
]


@pytest.mark.parametrize("origin", LOOK_ALIKES)
async def test_no_page_that_looks_like_ours_or_a_friends_gets_a_connection(
    open_to_a_friend: ServerProcess, server: ServerProcess, origin: str
) -> None:
    for each in (open_to_a_friend, server):
        assert not await admitted(each, origin.format(port=each.port))


async def test_our_own_pages_and_those_of_friends_get_a_connection(
    open_to_a_friend: ServerProcess, server: ServerProcess
) -> None:
    assert await admitted(open_to_a_friend, FRIEND)
    assert not await admitted(server, FRIEND)
    for each in (open_to_a_friend, server):
        assert await admitted(each, each.url)
        assert await admitted(each, each.url.replace("http", "https"))  # behind a proxy that takes TLS off


async def test_behind_tls_our_own_pages_come_over_tls(server: ServerProcess) -> None:
    secure = {"x-forwarded-proto": "https"}
    assert await admitted(server, server.url.replace("http", "https"), **secure)
    assert not await admitted(server, server.url, **secure)
