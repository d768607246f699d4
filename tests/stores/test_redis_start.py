"""Opening a store in Redis: what is refused in one line, and what is warned of."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from parley.errors import StartError
from parley.stores.redis import RedisStore
from tests.redis_servers import a_redis_cluster, redis_server
from tests.servers import free_port
from tests.stores.test_redis import opened


async def refusal_to_open(url: str) -> str:
    with pytest.raises(StartError) as refusal:
        await RedisStore(url).open()
    text = str(refusal.value)
    assert "\n" not in text
    assert "secret" not in text
    return text


async def test_a_wrong_password_is_told_without_the_password() -> None:
    with redis_server("--requirepass", "right") as server:
        for user in ("", "ann"):
            text = await refusal_to_open(f"redis://{user}:secret@127.0.0.1:{server.port}/0")
            assert f"redis://***@127.0.0.1:{server.port}/0" in text
            assert "check user and password" in text
        assert "check user and password" in await refusal_to_open(server.url)
        async with opened(f"redis://:right@127.0.0.1:{server.port}/0") as store:
            await store.ping()


async def test_a_server_that_is_not_there_is_told() -> None:
    port = free_port()
    assert str(port) in await refusal_to_open(f"redis://:secret@127.0.0.1:{port}")
    assert "nowhere.invalid" in await refusal_to_open("redis://:secret@nowhere.invalid")


@pytest.mark.parametrize("end", ["localhost:port", "localhost:6379/?socket_timeout=soon", "localhost/zero"])
async def test_a_url_that_makes_no_sense_is_told(end: str) -> None:
    assert end.partition(":")[0].partition("/")[0] in await refusal_to_open(f"redis://:secret@{end}")


@pytest.mark.parametrize("end", ["localhost/abc", "localhost/1/2", "localhost/?foo=bar", "", "/0"])
async def test_what_is_no_address_of_a_redis_is_refused(end: str) -> None:
    assert "that is no URL; write redis://" in await refusal_to_open(f"redis://{end}")


async def test_an_old_redis_is_told() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line.startswith(b"*"):
                words = []
                for _ in range(int(line[1:])):
                    await reader.readline()
                    words.append((await reader.readline()).strip())
                info = b"redis_version:6.0.16\r\n"
                writer.write(b"$%d\r\n%s\r\n" % (len(info), info) if words[0] == b"INFO" else b"+OK\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert "Redis 6.0.16 is too old" in await refusal_to_open(f"redis://127.0.0.1:{port}")


async def test_a_cluster_has_one_database(tmp_path: Path) -> None:
    url = a_redis_cluster(tmp_path)
    assert "take database 0" in await refusal_to_open(url.removesuffix("0") + "1")


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        (("--appendonly", "no"), "redis keeps no append-only file"),
        (("--appendfsync", "everysec"), "as durable as redis' appendfsync"),
        ((), None),
    ],
)
async def test_what_redis_does_not_keep_is_logged(options: tuple[str, ...], warning: str | None) -> None:
    with redis_server(*options) as server, capture_logs() as entries:
        async with opened(server.url):
            pass
    events = [entry["event"] for entry in entries]
    assert [warning in event for event in events] == [True] if warning else events == []
