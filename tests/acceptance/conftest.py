"""A running server, people with accounts on it, and consoles as processes of their own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from tests.client.conftest import console as console
from tests.servers import ServerProcess
from tests.web.conftest import Person

PASSWORD = "correct horse battery"


class Member(Person):
    """Somebody with an account, on one device; signs up unless they have done so."""

    def __init__(self, server: ServerProcess, name: str, *, path: str = "/accounts") -> None:
        self.server = server
        self.name = name
        self.http = httpx2.Client(base_url=server.url, timeout=20)
        answer = self.post(path, json={"name": name, "password": PASSWORD})
        assert answer.status_code == 201, answer.text
        self.id = answer.json()["user"]["id"]
        self.token = answer.json()["token"]
        self.http.headers["authorization"] = f"Bearer {self.token}"


SignUp = Callable[[str], Member]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """`parley serve` as it comes."""
    with ServerProcess(Path(tmp_path_factory.mktemp("server"))) as process:
        yield process


@pytest.fixture
def sign_up(server: ServerProcess) -> Iterator[SignUp]:
    """Makes an account, under a name that begins so."""
    people: list[Member] = []

    def come(name: str) -> Member:
        people.append(Member(server, f"{name}-{uuid4().hex[:8]}"))
        return people[-1]

    yield come
    for person in people:
        person.http.close()


@pytest.fixture
def ann(sign_up: SignUp) -> Member:
    return sign_up("ann")


@pytest.fixture
def bob(sign_up: SignUp) -> Member:
    return sign_up("bob")


@pytest.fixture
def cleo(sign_up: SignUp) -> Member:
    return sign_up("cleo")


@pytest.fixture
def room() -> str:
    """The name of a room that nobody has used."""
    return f"kitchen-{uuid4().hex[:8]}"
