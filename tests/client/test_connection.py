"""Connecting, coming back and ending, against a server that does as the test says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from parley.client import Chat, ChatEnded, ConnectionLost, NotParley, chat, lifeline
from tests.client.fake_server import SECONDS, fake_server, kitchen, message
from tests.servers import free_port, until

pytestmark = pytest.mark.usefixtures("quickly")


@pytest.mark.parametrize("code", [4500, 4501, 4502, 4503, 4999, 1003, 1007, 1009])
async def test_a_close_that_is_final_ends_the_chat_for_everybody_who_waits(code: int) -> None:
    async with fake_server() as fake, Chat(fake.url, token="t") as ann:
        listening = ann.events()
        peer = await fake.peer()
        await ann.ready()
        sending = asyncio.create_task(ann.send("kitchen", "hi"))
        asking = asyncio.create_task(ann.request("session.end"))
        await peer.heard("message.send")
        await peer.close(code, "because")
        async with asyncio.timeout(SECONDS):
            for waiting in (sending, asking):
                with pytest.raises(ChatEnded if waiting is sending else ConnectionLost):
                    await waiting
            with pytest.raises(ChatEnded, match="because") as ended:
                async for _ in listening:
                    pass
            with pytest.raises(ChatEnded):
                await ann.request("profile.see")
            with pytest.raises(ChatEnded):
                await ann.send("kitchen", "hi again")
        assert ended.value.code == code
        assert fake.count == 1


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 4000, 4001, 4002, 4499])
async def test_any_other_close_brings_the_client_back_with_what_it_knows(code: int) -> None:
    told: list[str] = []
    async with (
        fake_server() as fake,
        Chat(fake.url, token="t", on_status=lambda status, reason: told.append(status)) as ann,
    ):
        peer = await fake.peer(kitchen(41, 30))
        assert peer.hello["since"] == {}
        assert peer.hello["token"] == "t"
        await peer.close(code)
        peer = await fake.peer(kitchen(41, 30))
        assert (peer.hello["since"], peer.hello["epoch"]) == ({"kitchen-id": 41}, "e1")
        await until(lambda: told == ["connected", "away", "back"])
        assert ann.is_connected


async def test_a_connection_that_breaks_off_comes_back() -> None:
    async with fake_server() as fake, Chat(fake.url, token="t"):
        (await fake.peer()).break_off()
        await fake.peer()


async def test_a_server_that_does_not_answer_hello_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "WELCOME_SECONDS", 0.05)
    async with fake_server() as fake, Chat(fake.url, token="t") as ann:
        await fake.silent()
        await fake.peer()
        await ann.ready()


async def test_a_server_that_is_not_there_yet_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    url = f"http://127.0.0.1:{free_port()}"
    async with Chat(url, token="t", on_status=lambda status, reason: told.append(status)):
        await until(lambda: told == ["away"])


@asynccontextmanager
async def web_server(status: str) -> AsyncIterator[str]:
    """Something that speaks HTTP and always says the same."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as serving:
        yield f"http://127.0.0.1:{serving.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("who", [{"name": "ann"}, {"token": "t"}])
async def test_a_web_server_that_is_not_parley_is_called_that(who: Any) -> None:
    async with web_server("404 Not Found") as url, Chat(url, **who) as ann:
        with pytest.raises(ChatEnded) as ended:
            await asyncio.wait_for(ann.ready(), SECONDS)
        assert isinstance(ended.value.__cause__, NotParley)


@pytest.mark.parametrize("who", [{"name": "ann"}, {"token": "t"}])
async def test_a_proxy_whose_server_is_away_is_asked_again(who: Any) -> None:
    told: list[str] = []
    async with (
        web_server("502 Bad Gateway") as url,
        Chat(url, on_status=lambda status, reason: told.append(reason), **who),
    ):
        await until(lambda: told == ["HTTP 502"])


async def test_a_refused_hello_ends_a_session_and_a_busy_server_does_not() -> None:
    async with fake_server() as fake, Chat(fake.url, token="t") as ann:
        peer = await fake.silent()
        await peer.refuse(peer.hello, "store_unavailable", "unavailable", retry_after=0.01)
        peer = await fake.silent()
        await peer.refuse(peer.hello, "token_expired", "unauthenticated")
        with pytest.raises(ChatEnded, match="token_expired"):
            await asyncio.wait_for(ann.ready(), SECONDS)


async def test_a_guest_whose_session_ends_signs_in_again_and_sends_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names: list[str] = []
    told: list[str] = []

    async def sign_in(server: str, name: str) -> str:
        names.append(name)
        return f"token {len(names)}"

    monkeypatch.setattr(lifeline, "sign_in", sign_in)
    async with (
        fake_server() as fake,
        Chat(fake.url, name="ann", on_status=lambda status, reason: told.append(status)) as ann,
    ):
        peer = await fake.peer()
        sending = await ann.post("kitchen", "stored under the old session")
        other = await ann.post("kitchen", "not stored")
        first = await peer.heard("message.send")
        await peer.close(4502, "expired")

        anew = {"id": "ann-2", "name": "ann-2", "display_name": "Ann", "kind": "guest"}
        peer = await fake.peer(user=anew)
        assert peer.hello["token"] == "token 2"
        again, second = await peer.heard("message.send"), await peer.heard("message.send")
        assert again["id"] == first["id"]
        await peer.refuse(again, "id_taken", "conflict")
        await peer.store(second, 2, "ann-2")
        page = await peer.heard("message.page")
        await peer.refuse(page, "store_unavailable", "unavailable", retry_after=0.01)
        await peer.refuse(await peer.heard("message.send"), "id_taken", "conflict")
        page = await peer.heard("message.page")
        await peer.answer(page, items=[message(1, first["text"], "ann", first["id"])], next=None)
        found = await asyncio.wait_for(sending, SECONDS)
        assert found.seq == 1
        assert ann.is_mine(found), "although it was an earlier guest who wrote it"
        assert (await asyncio.wait_for(other, SECONDS)).seq == 2
        assert names == ["ann", "ann"]
        assert told == ["connected", "renewed"]
