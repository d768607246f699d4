"""`parley bench nodes` measures two nodes over a bus, and says in one line what it cannot do."""

import asyncio
import json
from array import array
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from parley.bench import bus_child, nodes
from parley.bench.latency import Run
from parley.bench.wire import Relay, Wire
from parley.cli import cli
from tests import backends
from tests.redis_servers import the_redis
from tests.servers import free_port, until
from tests.test_cli import parley

HUSH = "hush-hush"


@cache
def measured() -> dict[str, Any]:
    """A short run over two buses, which several tests look at."""
    postgres = backends.postgres()
    store = postgres.address(postgres.new())
    options = f"--bus {the_redis()} --rate 40 --rate 160 --seconds 0.5 --ticks 20 --json"
    done = parley(Path(), "bench", "nodes", "--store", store, *options.split(), seconds=90)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.servers
def test_every_rate_has_the_time_on_one_node_and_across_and_their_ratio() -> None:
    [bus] = measured()["buses"].values()
    low, high = bus["latency"]
    for at, rate in ((low, 40), (high, 160)):
        assert at["offered_per_second"] == rate
        assert at["messages"] == rate / 2
        assert 0 < at["achieved_per_second"] < 2 * rate
        for part in ("p50", "p99"):
            assert 0 < at["one_node_ms"][part] < 15_000
            assert at["ratio"][part] == pytest.approx(at["across_ms"][part] / at["one_node_ms"][part])


@pytest.mark.servers
def test_events_that_are_published_together_share_a_frame_and_cost_less() -> None:
    [bus] = measured()["buses"].values()
    events = bus["cost"]["events"]
    assert [each["together"] for each in events] == [1, 8, 32, 128]
    for each in events:
        for carrier in ("bus", "tcp"):
            assert each[carrier]["events_per_frame"] == each["together"]
    for end in ("published_cpu_us", "received_cpu_us"):
        assert events[0]["bus"][end] > 4 * events[-1]["bus"][end] > 0


@pytest.mark.servers
def test_the_tables_name_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    result = measured()
    assert backends.PASSWORD not in json.dumps(result)
    monkeypatch.setattr(nodes, "run", lambda *_: result)
    shown = CliRunner().invoke(cli, ["bench", "nodes"]).stdout
    assert "across" in shown
    assert sum(line.startswith("│ redis ") for line in shown.splitlines()) == 2 + 4


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--bus redis://localhost", "--store postgresql:// or redis://"),
        ("--bus redis://localhost --store memory://", "--store postgresql:// or redis://"),
        ("--bus redis://localhost --store sqlite:///parley.db", "--store postgresql:// or redis://"),
        ("--store redis://localhost", "name at least one bus"),
        ("--store redis://localhost --bus memory://", "memory:// connects no two processes"),
        (f"--store redis://localhost --bus smoke://ann:{HUSH}@hill", "PARLEY_BUS: must begin with amqp://"),
        (f"--store redis://localhost --bus redis://:{HUSH}@127.0.0.1:NOBODY", "nobody answers there"),
        (f"--store redis://localhost --bus amqp://ann:{HUSH}@127.0.0.1:NOBODY", "nobody answers there"),
        ("--store redis://localhost --bus kafka://127.0.0.1:NOBODY", "no broker answers there"),
        (f"--store redis://localhost --bus postgresql://a:{HUSH}@127.0.0.1:NOBODY/b", "nobody answers there"),
    ],
)
def test_what_cannot_be_measured_is_one_line(tmp_path: Path, options: str, reason: str) -> None:
    done = parley(tmp_path, "bench", "nodes", *options.replace("NOBODY", str(free_port())).split())
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert reason in line
    assert HUSH not in line


@pytest.mark.servers
def test_a_store_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    store = f"redis://:{HUSH}@127.0.0.1:{free_port()}"
    done = parley(tmp_path, "bench", "nodes", "--store", store, "--bus", the_redis())
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "did not start" in line
    assert HUSH not in line


def test_times_are_from_send_to_first_receipt_without_those_that_warm_up() -> None:
    run = Run()
    run.sent = array("d", [0.0, 1.0, 2.0])
    run.heard = {0: 0.9, 1: 1.001, 2: 2.003}, {0: 0.9, 1: 1.002, 2: 2.006}
    result = run.result(1)
    assert result["messages"] == 2
    assert result["one_node_ms"] == pytest.approx({"p50": 1, "p99": 3})
    assert result["across_ms"] == pytest.approx({"p50": 2, "p99": 6})
    assert result["ratio"] == pytest.approx({"p50": 2, "p99": 2})
    run.on_frame(1, b'{"event":"message.sent","message":{"text":"n1 x"}}\n{"text":"n7 x"}')
    assert run.heard[1][1] == 1.002
    assert 7 in run.heard[1]


async def test_a_wire_carries_events_to_the_other_end_and_back() -> None:
    relay = Relay()
    url = await relay.start()
    ends = [bus_child.End(Wire(url), "kitchen") for _ in range(2)]
    for end in ends:
        await end.start()
    await asyncio.sleep(0.05)
    await ends[0].publish(together=8, ticks=3)
    await until(lambda: [end.counters()["heard"] for end in ends] == [24, 24])
    assert ends[0].counters()["frames"] == 3
    for end in ends:
        await end.stop()
    await relay.stop()
