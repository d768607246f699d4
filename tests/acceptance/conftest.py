"""Running servers, people with accounts on them, and consoles as processes of their own."""

from collections.abc import Iterator
from copy import copy
from typing import Protocol, Self
from uuid import uuid4

import httpx2
import pytest

from tests.acceptance.places import Nodes, Place, nodes_at, parameters
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

    def at(self, server: ServerProcess) -> Self:
        """The same device, but it talks to another node."""
        moved = copy(self)
        moved.server = server
        moved.http = httpx2.Client(base_url=server.url, timeout=20, headers=self.http.headers)
        return moved


class SignUp(Protocol):
    """Makes accounts, on any node or on this one."""

    def __call__(self, name: str, at: ServerProcess | None = None) -> Member: ...


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A module that says so in `PLACES` runs in each of them."""
    places = getattr(metafunc.module, "PLACES", None)
    if places and "nodes" in metafunc.fixturenames:
        metafunc.parametrize("nodes", parameters(places), indirect=True, scope="module")


@pytest.fixture(scope="module")
def nodes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """`parley serve` as it comes, or two of them on one store and bus."""
    place = getattr(request, "param", Place("sqlite", "memory"))
    with nodes_at(place, tmp_path_factory.mktemp("nodes")) as running:
        yield running


@pytest.fixture(scope="module")
def server(nodes: Nodes) -> ServerProcess:
    """The node that ann and cleo talk to."""
    return nodes.one


@pytest.fixture(scope="module")
def elsewhere(nodes: Nodes) -> ServerProcess:
    """The node that bob talks to: another one, where there are two."""
    return nodes.two


@pytest.fixture
def sign_up(nodes: Nodes) -> Iterator[SignUp]:
    """Makes an account, under a name that begins so: the first on node one, the next on the other, and so
    on."""
    people: list[Member] = []

    def come(name: str, at: ServerProcess | None = None) -> Member:
        node = at or (nodes.two if len(people) % 2 else nodes.one)
        people.append(Member(node, f"{name}-{uuid4().hex[:8]}"))
        return people[-1]

    yield come
    for person in people:
        person.http.close()


@pytest.fixture
def ann(sign_up: SignUp, nodes: Nodes) -> Member:
    return sign_up("ann", nodes.one)


@pytest.fixture
def bob(sign_up: SignUp, nodes: Nodes) -> Member:
    return sign_up("bob", nodes.two)


@pytest.fixture
def cleo(sign_up: SignUp, nodes: Nodes) -> Member:
    return sign_up("cleo", nodes.one)


@pytest.fixture
def room() -> str:
    """The name of a room that nobody has used."""
    return f"kitchen-{uuid4().hex[:8]}"
