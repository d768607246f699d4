"""Tokens that somebody made up, or that are over, open no door; and good ones are written down nowhere."""

import base64
import contextlib
import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import jwt
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from parley import security
from parley.ids import new_id
from parley.realtime.protocol import Close
from tests.servers import ServerProcess

SECRET = "the key of this server, which nobody knows"
PASSWORD = "correct horse battery"
API = "/api/v1"


@pytest.fixture(scope="module")
def secretive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose key the test knows."""
    folder = Path(tmp_path_factory.mktemp("secretive"))
    with ServerProcess(folder, secret=SECRET, store="memory://") as process:
        yield process


def registered(server: ServerProcess) -> dict[str, Any]:
    body = {"name": f"ann-{uuid4().hex[:8]}", "password": PASSWORD}
    answer = httpx2.post(f"{server.url}{API}/accounts", json=body, timeout=20)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def part(of: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(of).encode()).rstrip(b"=").decode()


def sealed(header: dict[str, Any], claims: dict[str, Any], key: bytes, how: str = "sha256") -> str:
    """A token as an attacker would make it: the header need not say how it was signed."""
    words = f"{part(header)}.{part(claims)}"
    seal = hmac.digest(key, words.encode(), how)
    return f"{words}.{base64.urlsafe_b64encode(seal).rstrip(b'=').decode()}"


def forged(server: ServerProcess) -> dict[str, tuple[str, str]]:
    """Tokens by what is wrong with them, each with the code that it is refused with."""
    made, over = registered(server), registered(server)
    over_header = {"authorization": f"Bearer {over['token']}"}
    assert httpx2.delete(f"{server.url}{API}/sessions/current", headers=over_header).status_code == 204
    good = jwt.decode(made["token"], options={"verify_signature": False})
    key = hashlib.sha256(b"parley access " + SECRET.encode()).digest()
    head = {"alg": "HS256", "typ": "at+jwt"}
    assert sealed(head, good, key).split(".")[2]
    assert security.Tokens(SECRET).session_of_access(sealed(head, good, key), 0)  # or this proves nothing
    words = made["token"].rpartition(".")[0]
    unsigned = {name: f"{part(head | {'alg': name})}.{part(good)}." for name in ("none", "None", "NONE", "")}
    invalid = {
        **{f"the algorithm {name!r}": token for name, token in unsigned.items()},
        "no algorithm, and the seal of another": unsigned["none"] + made["token"].rpartition(".")[2],
        "RS256 in the header": sealed(head | {"alg": "RS256"}, good, key),
        "HS512": sealed(head | {"alg": "HS512"}, good, key, "sha512"),
        "HS384": sealed(head | {"alg": "HS384"}, good, key, "sha384"),
        "no word of the algorithm": sealed({"typ": "at+jwt"}, good, key),
        "another key": sealed(head, good, b"x" * 32),
        "an empty key": sealed(head, good, b""),
        "a key of its own": sealed(head | {"jwk": {"kty": "oct", "k": "eA"}}, good, b"x"),
        "no seal": f"{words}.",
        "another audience": sealed(head, good | {"aud": "elsewhere"}, key),
        "no audience": sealed(head, {name: good[name] for name in good if name != "aud"}, key),
        "another type": sealed(head | {"typ": "JWT"}, good, key),
        "no type": sealed({"alg": "HS256"}, good, key),
        "no end": sealed(head, {name: good[name] for name in good if name != "exp"}, key),
        "another user": sealed(head, good | {"sub": new_id()}, key),
        "another session": sealed(head, good | {"sid": new_id()}, key),
        "a refresh token": made["refresh_token"],
        "that of an ended session": over["token"],
        "the refresh token of an ended session": over["refresh_token"],
        "the key of the refresh tokens": sealed(
            head, good, hashlib.sha256(b"parley refresh " + SECRET.encode()).digest()
        ),
        "an opaque one": security.new_token(good["sid"]),
        "noise": "x.y.z",
    }
    expired = sealed(head, good | {"exp": good["iat"] - 1}, key)
    return {name: (token, "token_invalid") for name, token in invalid.items()} | {
        "its time is over": (expired, "token_expired")
    }


async def said_hello(server: ServerProcess, token: str | None, **headers: str) -> tuple[str, int | None]:
    """What hello is answered, and how the connection ends if it does."""
    async with connect(server.ws, additional_headers=headers, proxy=None) as connection:
        await connection.send(json.dumps({"op": "hello", "ref": 1, "token": token}))
        answer = json.loads(str(await connection.recv()).split("\n")[0])
        if "ok" in answer:
            return "ok", None
        await connection.wait_closed()
        return answer["error"]["code"], connection.close_code


async def test_what_somebody_made_up_opens_no_door(secretive: ServerProcess) -> None:
    opened = {}
    for name, (token, code) in forged(secretive).items():
        bearer = {"authorization": f"Bearer {token}"}
        answer = httpx2.get(f"{secretive.url}{API}/me", headers=bearer)
        refreshed = httpx2.post(f"{secretive.url}{API}/sessions/refresh", json={"refresh_token": token})
        told = {
            "over HTTP": (answer.status_code, answer.json()["code"]) == (401, code),
            "in hello": await said_hello(secretive, token) == (code, Close.UNAUTHENTICATED),
            "in the upgrade": await said_hello(secretive, None, **bearer) == (code, Close.UNAUTHENTICATED),
            "for new ones": name == "a refresh token" or refreshed.json().get("code") == "token_invalid",
        }
        if not all(told.values()):
            opened[name] = [door for door, is_shut in told.items() if not is_shut]
    assert opened == {}


async def test_good_tokens_open_the_doors_that_the_others_do_not(secretive: ServerProcess) -> None:
    made = registered(secretive)
    bearer = {"authorization": f"Bearer {made['token']}"}
    assert httpx2.get(f"{secretive.url}{API}/me", headers=bearer).status_code == 200
    assert await said_hello(secretive, made["token"]) == ("ok", None)
    assert await said_hello(secretive, None, **bearer) == ("ok", None)
    body = {"refresh_token": made["refresh_token"]}
    assert httpx2.post(f"{secretive.url}{API}/sessions/refresh", json=body).status_code == 201


async def test_a_token_in_the_address_is_not_looked_at(secretive: ServerProcess) -> None:
    token = registered(secretive)["token"]
    for name in ("token", "access_token", "authorization"):
        answer = httpx2.get(f"{secretive.url}{API}/me", params={name: token})
        assert (answer.status_code, answer.json()["code"]) == (401, "token_missing")
        async with connect(f"{secretive.ws}?{name}={token}", proxy=None) as connection:
            await connection.send('{"op": "hello", "ref": 1}')
            assert json.loads(str(await connection.recv()))["error"]["code"] == "token_missing"


class Heard:
    """What a server was told and has answered: every secret, and every refusal."""

    def __init__(self, server: ServerProcess) -> None:
        self.http = httpx2.Client(base_url=server.url, timeout=20)
        self.secrets = {SECRET, PASSWORD}
        self.refusals = ""

    def ask(self, method: str, path: str, token: str | None = None, **more: Any) -> Any:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        answer = self.http.request(method, path, headers=headers, **more)
        told = answer.json() if answer.content.startswith(b"{") else {}
        self.secrets.update(str(told[name]) for name in ("token", "refresh_token") if told.get(name))
        if answer.is_error:
            self.refusals += answer.text + repr(answer.headers)
        return told


@pytest.mark.parametrize("form", ["json", "text"])
async def test_no_secret_is_in_the_log(tmp_path: Path, form: str) -> None:
    with ServerProcess(tmp_path, secret=SECRET, log_format=form) as server:
        heard = Heard(server)
        ask, name = heard.ask, "ann"
        ann = ask("POST", f"{API}/accounts", json={"name": name, "password": PASSWORD})
        guest = ask("POST", f"{API}/sessions/guest", json={"display_name": "Dora"})
        heard.secrets |= {"a wrong guess", "battery staple", "seven77", "staple, battery"}
        ask("POST", f"{API}/accounts", json={"name": name, "password": PASSWORD})
        ask("POST", f"{API}/accounts", json={"name": "bob", "password": "seven77"})
        ask("POST", f"{API}/accounts", json={"name": 7, "password": ["staple, battery"]})
        ask("POST", f"{API}/accounts", content=b'{"password": "staple, battery", ')
        ask("POST", f"{API}/sessions", json={"name": name, "password": "a wrong guess"})
        phone = ask("POST", f"{API}/sessions", json={"name": name, "password": PASSWORD})
        used = phone["refresh_token"]
        for _ in range(2):
            used = ask("POST", f"{API}/sessions/refresh", json={"refresh_token": used})["refresh_token"]
        ask("POST", f"{API}/sessions/refresh", json={"refresh_token": phone["refresh_token"]})  # used twice
        for token in (ann["token"], guest["token"], ann["refresh_token"], phone["token"]):
            for method, path in (
                ("GET", "/me"),
                ("GET", "/nothing"),
                ("POST", "/rooms"),
                ("PUT", "/rooms/x"),
            ):
                ask(method, f"{API}{path}", token)
            ask("GET", f"{API}/me", token, params={"token": token})
            ask("GET", f"{API}/rooms/{token}", ann["token"])
            ask("POST", "/messages", token, json={"user": "x", "room": "lobby", "text": "x" * 20_000})
            bearer = {"authorization": f"Bearer {token}"}
            for line in (
                json.dumps({"op": "hello", "ref": 1, "token": token}),
                json.dumps({"op": "hello", "ref": 1, "token": [token]}),
                json.dumps({"op": token, "ref": 1}),
                f'{{"op": "hello", "token": "{token}"',
            ):
                async with connect(
                    f"{server.ws}?token={token}", additional_headers=bearer, proxy=None
                ) as connection:
                    with contextlib.suppress(ConnectionClosed):
                        await connection.send(line)
                        await connection.recv()
                        await connection.send(b"\xff")
                    await connection.wait_closed()
        change = {"password": "a wrong guess", "new_password": "battery staple"}
        ask("PUT", f"{API}/me/password", ann["token"], json=change)
        ask("PUT", f"{API}/me/password", ann["token"], json=change | {"password": PASSWORD})
        ask("DELETE", f"{API}/sessions", ann["token"])
        heard.http.close()
    log = server.log.read_text()
    assert "parley is ready" in log
    assert "used twice" in log
    assert len(heard.secrets) > 10
    assert [secret for secret in heard.secrets if secret in log] == []
    assert [secret for secret in heard.secrets if secret in heard.refusals] == []
