"""The code in the documents is what lies in `examples/`, and it works."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.kafka_server import KafkaServer
from tests.rabbitmq_server import RabbitServer
from tests.servers import ServerProcess, until

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


@pytest.mark.parametrize("document", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_all_python_in_the_documents_lies_in_the_examples(document: Path) -> None:
    known = {each.read_text().rstrip() for each in EXAMPLES.glob("*.py")}
    for block in re.findall(r"```python\n(.*?)\n```", document.read_text(), re.DOTALL):
        assert block in known


@asynccontextmanager
async def example(name: str, broker: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """An example that runs, and is ended."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        EXAMPLES / f"{name}.py",
        *arguments,
        env=os.environ | {"BROKER": broker.removeprefix("kafka://")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.servers
@pytest.mark.parametrize("kind", ["rabbitmq", "kafka"])
async def test_the_examples_post_and_hear(kind: str, tmp_path: Path) -> None:
    broker: RabbitServer | KafkaServer = KafkaServer() if kind == "kafka" else RabbitServer(tmp_path)
    await asyncio.to_thread(broker.start)
    try:
        with ServerProcess(tmp_path, store="memory://", bus=broker.url):
            async with example(f"hear_{kind}", broker.url) as hearing:
                assert hearing.stdout is not None
                heard: list[str] = []
                numbers = iter(range(100))

                async def post() -> None:
                    async with example(f"post_{kind}", broker.url, f"rain {next(numbers)}") as posting:
                        said, _ = await posting.communicate()
                        assert posting.returncode == 0
                        if kind == "rabbitmq":
                            assert json.loads(said)["ok"]["message"]["author_name"] == "weather"

                async def hear() -> None:
                    assert hearing.stdout is not None
                    async for line in hearing.stdout:
                        if line.startswith((b"weather", b"hole")):  # the rest is FastStream's log
                            heard.append(line.decode().strip())  # noqa: PERF401

                listening = asyncio.create_task(hear())
                while not heard:  # it may have to make its queue first
                    await post()
                    await asyncio.sleep(0.2)
                await post()
                await until(lambda: len(heard) >= 2, 15, "hearing")
            await listening
            assert all(re.fullmatch(r"weather rain \d+", line) for line in heard)
    finally:
        await asyncio.to_thread(broker.stop)
