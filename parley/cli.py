"""The `parley` command."""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

import parley
from parley.bench.command import bench
from parley.errors import ParleyError, StartError

cli = typer.Typer(
    name="parley",
    help="A self-hosted real-time chat server.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

cli.add_typer(bench, name="bench")

SERVER = "http://127.0.0.1:8000"
Name = Annotated[str | None, typer.Option(help="your name; the login name unless given")]
StoreUrl = Annotated[str | None, typer.Option("--store", help="where the chat lives, a URL")]
File = Annotated[Path, typer.Argument(help="the file; with .gz at its end it is packed")]
Server = Annotated[str, typer.Option(envvar="PARLEY_SERVER", help="where the server is")]


@cli.callback(invoke_without_command=True)
def about(
    version: Annotated[bool, typer.Option("--version", help="print the version", is_eager=True)] = False,
) -> None:
    """A self-hosted real-time chat server."""
    if version:
        print(f"parley {parley.__version__}")
        raise typer.Exit


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="address to listen on")] = None,
    port: Annotated[int | None, typer.Option(help="port to listen on")] = None,
    store: StoreUrl = None,
    workers: Annotated[int | None, typer.Option(help="processes that share the port")] = None,
) -> None:
    """Start the server. Ctrl-C ends it and loses nothing."""
    from parley import config, telemetry

    settings = config.read(host=host, port=port, store=store, workers=workers)
    config.check(settings)
    telemetry.configure(settings.log_format)
    if settings.workers == 1:
        from parley import server

        raise typer.Exit(server.serve(settings))
    from parley import workers as several

    raise typer.Exit(several.serve(settings))


@cli.command()
def migrate(store: StoreUrl = None) -> None:
    """Bring the store's schema up to date. Make a backup and stop all nodes first."""
    from parley import config

    url = config.read(store=store).store
    if not url.startswith(("sqlite:", "postgresql:")):
        print(f"{url.partition(':')[0]} has no tables, so there is nothing to migrate")
        return
    from parley.stores.sql import SqlStore

    before, now = asyncio.run(SqlStore(url).migrate())
    if before is None:
        done = f"was empty; its tables are made, schema {now}"
    elif before == now:
        done = f"is up to date, schema {now}"
    else:
        done = f"was brought from schema {before} to {now}"
    print(f"{config.masked(url)} {done}")


@cli.command("export")
def export_chat(file: File, store: StoreUrl = None) -> None:
    """Write the whole chat into a file. Stop all nodes first."""
    from parley import config, transfer

    settings = config.read(store=store)
    counted = _transfer(settings, transfer.export, file)
    print(f"exported {_summary(counted)} to {file}")


@cli.command("import")
def import_chat(file: File, store: StoreUrl = None) -> None:
    """Fill an empty store with a chat that was exported, from this or any other kind of store."""
    from parley import config, transfer

    settings = config.read(store=store)
    counted = _transfer(settings, transfer.fill, file)
    print(f"imported {_summary(counted)} into {config.masked(settings.store)}")


def _transfer(settings: Any, work: Any, file: Path) -> Counter[str]:
    # So that being told to stop tidies up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return asyncio.run(_transferred(settings, work, file))
    except KeyboardInterrupt:
        print("parley: stopped before it was done", file=sys.stderr)
        raise typer.Exit(130) from None


async def _transferred(settings: Any, work: Any, file: Path) -> Counter[str]:
    """Export or import, with a progress bar where somebody is watching."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from parley.app import store_from

    if settings.store.startswith("memory://"):
        raise StartError("memory:// keeps nothing; name the store with --store or PARLEY_STORE")
    store = store_from(settings)
    await store.open()
    screen = Console(stderr=True)
    columns = (TextColumn(file.name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=screen, disable=not screen.is_terminal) as progress:
            bar = progress.add_task("", total=None)
            counted: Counter[str] = await work(
                store, file, lambda done, total: progress.update(bar, completed=done, total=total)
            )
            return counted
    except ParleyError as error:
        raise StartError(f"the store failed, look at what it logs: {error.detail}") from error
    finally:
        await store.close()


def _summary(counted: Counter[str]) -> str:
    return ", ".join(f"{counted[kind]:,} {kind}s" for kind in ("user", "room", "message"))


@cli.command("config")
def show_config() -> None:
    """Print the settings in force, secrets masked."""
    from parley import config

    for name, value in config.shown(config.read()).items():
        print(f"{name}={value}")


@cli.command()
def chat(
    name: Annotated[str, typer.Argument(help="your name")],
    room: Annotated[str, typer.Argument(help="the room; made if there is none of that name")],
    server: Server = SERVER,
    plain: Annotated[bool, typer.Option("--plain", help="one line in is one message out")] = False,
) -> None:
    """Talk in a room."""
    from parley.client import console

    _run(console.chat(name, room, server, plain))


@cli.command()
def send(
    room: Annotated[str, typer.Argument(help="the room; made if there is none of that name")],
    text: Annotated[str, typer.Argument(help="what to say")],
    name: Name = None,
    server: Server = SERVER,
) -> None:
    """Write one message."""
    from parley.client import scripts

    _run(scripts.send(room, text, server, name))


@cli.command()
def tail(
    room: Annotated[str, typer.Argument(help="the room")],
    count: Annotated[int, typer.Option("-n", min=1, max=200, help="how many messages")] = 20,
    name: Name = None,
    server: Server = SERVER,
) -> None:
    """Print a room's last messages."""
    from parley.client import scripts

    _run(scripts.tail(room, server, name, count))


@cli.command()
def rooms(name: Name = None, server: Server = SERVER) -> None:
    """Print the public rooms: name, members, messages, title."""
    from parley.client import scripts

    _run(scripts.rooms(server, name))


def _run(work: Coroutine[Any, Any, int]) -> None:
    try:
        code = asyncio.run(work)
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)


def main() -> None:
    """Run the command; what cannot be done is one line and exit code 1."""
    try:
        cli()
    except StartError as error:
        print(f"parley: {error}", file=sys.stderr)
        sys.exit(1)
