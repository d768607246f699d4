"""The `parley bench` commands. Each prints ratios from one run; single figures depend on the machine."""

import json
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

bench = typer.Typer(
    help="Measure this machine: ratios in one run, never absolute promises.", no_args_is_help=True
)
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


@bench.command("ingest")
def bench_ingest(
    stores: Annotated[
        list[str] | None,
        typer.Option("--store", help="a store to measure, a URL; may be given several times"),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.5, max=60, help="how long each server is measured")] = 5,
    as_json: AsJson = False,
) -> None:
    """Messages stored and acknowledged a second, in groups and one by one.

    Without --store: in memory, and in a new SQLite file with a sync before each acknowledgement. Rooms and
    messages stay in a store that is named: take one for the purpose.
    """
    from parley.bench import ingest

    _leave_a_core()
    result: Any = ingest.run(stores or ["memory://", ingest.SQLITE], seconds)
    if as_json:
        print(json.dumps(result))
        return
    table = _table(f"{result['senders']} senders, {result['in_flight']} messages in flight each")
    table.add_column("store")
    table.add_column("commits")
    table.add_column("acknowledged a second", justify="right")
    table.add_column("server CPU per message", justify="right")
    table.add_column("ratio", justify="right")
    for store, measured in result["stores"].items():
        for label, key in (("in groups", "grouped"), ("one per message", "one_commit_per_message")):
            here = measured[key]
            speed, cpu = here["acknowledged_per_second"], here["cpu_us_per_message"]
            ratio = f"{measured['ratio']:.1f}" if key == "grouped" else "1"
            table.add_row(store, label, f"{speed:,.0f}", f"{cpu:.1f} µs", ratio)
    _show(table, "CPU is that of Parley's process alone, which has one core for itself.")


@bench.command("fanout")
def bench_fanout(
    members: Annotated[int, typer.Option(min=1, max=5000, help="connections in the room")] = 1000,
    messages: Annotated[int, typer.Option(min=8, max=10_000, help="messages sent")] = 200,
    as_json: AsJson = False,
) -> None:
    """One room's events to many connections: cost of a delivery, and encodings of an event."""
    from parley.bench import fanout

    _leave_a_core()
    result = fanout.run(members, messages)
    if as_json:
        print(json.dumps(result))
        return
    table = _table(f"{members:,} connections in one room, {messages:,} messages")
    table.add_column("sent at a time")
    table.add_column("deliveries a second", justify="right")
    table.add_column("server CPU per delivery", justify="right")
    table.add_column("encodings per event", justify="right")
    for together in (1, 8):
        measured: Any = result[f"{together}_at_a_time"]
        table.add_row(
            str(together),
            f"{measured['deliveries_per_second']:,.0f}",
            f"{measured['cpu_us_per_delivery']:.2f} µs",
            f"{measured['encodings_per_event']:g}",
        )
    _show(table, "Through FastAPI's own WebSocket route.")


@bench.command("rooms")
def bench_rooms(
    rooms: Annotated[int, typer.Option(min=2, max=1000, help="rooms that somebody is in")] = 200,
    as_json: AsJson = False,
) -> None:
    """A list of somebody's rooms with unread counts, beside the smallest request that signs in."""
    from parley.bench import rooms as rooms_bench

    _leave_a_core()
    result = rooms_bench.run(rooms)
    if as_json:
        print(json.dumps(result))
        return
    table = _table(f"{result['rooms']} rooms in an SQLite file")
    table.add_column("request")
    table.add_column("server CPU", justify="right")
    table.add_column("ratio", justify="right")
    table.add_row("GET /me", f"{result['cpu_ms_per_me']:.2f} ms", "1")
    table.add_row("GET /rooms?scope=mine", f"{result['cpu_ms_per_list']:.2f} ms", f"{result['ratio']:.1f}")
    _show(table, "Through HTTP, with everything that a request passes.")


@bench.command("nodes")
def bench_nodes(
    store: Annotated[
        str | None, typer.Option(help="the store of both nodes, a postgresql:// or redis:// URL")
    ] = None,
    buses: Annotated[
        list[str] | None,
        typer.Option("--bus", help="a bus to measure, a URL; may be given several times"),
    ] = None,
    rates: Annotated[
        list[float] | None,
        typer.Option(
            "--rate", min=1, max=20_000, help="messages a second; may be given several times  [50, 1000]"
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.5, max=60, help="how long each rate is measured")] = 8,
    ticks: Annotated[
        int, typer.Option(min=20, max=10_000, help="turns in which the bus alone is used")
    ] = 500,
    as_json: AsJson = False,
) -> None:
    """A second node: time from sender to receiver across each bus and on one node, CPU of a bus for an event.

    Rooms and messages stay in the store: take one for the purpose.
    """
    from parley.bench import nodes

    result: Any = nodes.run(store, buses or [], rates or [50, 1000], seconds, ticks)
    if as_json:
        print(json.dumps(result))
        return
    names = _short(result["buses"])
    table = _table(f"From send to receipt, two nodes on {result['store']}: ms, p50 / p99")
    table.add_column("bus")
    for column in ("sent, arrived a second", "on one node", "across", "ratio"):
        table.add_column(column, justify="right")
    for bus, measured in result["buses"].items():
        for at in measured["latency"]:
            one, across, ratio = at["one_node_ms"], at["across_ms"], at["ratio"]
            table.add_row(
                names[bus],
                f"{at['offered_per_second']:,.0f}, {at['achieved_per_second']:,.0f}",
                f"{one['p50']:.1f} / {one['p99']:.1f}",
                f"{across['p50']:.1f} / {across['p99']:.1f}",
                f"{ratio['p50']:.2f} / {ratio['p99']:.2f}",
            )
    _print(table)
    table = _table("CPU of a bus for an event, in µs, and as a multiple of that of bare TCP")
    table.add_column("bus")
    for column in ("at a time", "in a frame", "published", "ratio", "received", "ratio"):
        table.add_column(column, justify="right")
    for bus, measured in result["buses"].items():
        for at in measured["cost"]["events"]:
            here, floor = at["bus"], at["tcp"]
            row = [names[bus], str(at["together"]), f"{here['events_per_frame']:.0f}"]
            for end in ("published_cpu_us", "received_cpu_us"):
                row += [f"{here[end]:.1f}", f"{here[end] / floor[end]:.1f}"]
            table.add_row(*row)
    idle = ", ".join(
        f"{names[bus]} {measured['cost']['idle_cpu_ms_per_second']:.1f}"
        for bus, measured in result["buses"].items()
    )
    repairs = ", ".join(f"{names[bus]} {each['repairs']:g}" for bus, each in result["buses"].items())
    _show(
        table,
        "Publishing includes hearing oneself, receiving does not include what the node then does with it.\n"
        f"CPU of an idle bus, ms a second: {idle}.\n"
        f"Rooms that a node brought up to date from the store because an event was late or lost: {repairs}.\n"
        "Nodes, brokers and store share the cores too: a p99 may be no more than waiting for one.",
    )


def _short(urls: Iterable[str]) -> dict[str, str]:
    """What to call buses in a table: by their schemes, where these differ."""
    schemes = {url: url.partition(":")[0] for url in urls}
    return schemes if len(set(schemes.values())) == len(schemes) else {url: url for url in schemes}


def _leave_a_core() -> None:
    """Keep the load generator off the server's core, where there is a second one."""
    from parley.bench.target import CORES

    if len(CORES) > 1:
        os.sched_setaffinity(0, CORES[1:])


def _table(title: str) -> "Table":
    from rich.table import Table

    return Table(title=title, title_justify="left")


def _print(table: "Table") -> None:
    from rich.console import Console

    Console().print(table)


def _show(table: "Table", conclusion: str) -> None:
    from rich.console import Console

    console = Console()
    console.print(table)
    console.print(conclusion)
    console.print(
        "Server and load generator share this machine; compare the rows, not machines.", style="dim"
    )
