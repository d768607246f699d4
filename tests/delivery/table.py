"""The table of the matrix, as Markdown, made of the cells that were run and of those that cannot be."""

from dataclasses import dataclass

STORES = ("memory", "sqlite", "postgresql", "redis")
BUSES = ("memory", "redis", "rabbitmq", "kafka", "postgresql")

SHOWN = {
    "memory": "memory",
    "sqlite": "SQLite",
    "postgresql": "PostgreSQL",
    "redis": "Redis",
    "rabbitmq": "RabbitMQ",
    "kafka": "Kafka",
}
REFUSED = {
    "memory": "not possible: each process has a memory store of its own",
    "sqlite": "not possible: a second node on the same file is refused at the start",
}
FAULTS = {
    "F": "hints are lost (5 %), told twice (5 %) and held back (20 %, by up to 0.1 s), both on their way out "
    "and on their way in",
    "S": "the broker is slow: 50 ms more on each way, or for Kafka silent for 0.1 s again and again",
    "R": "all connections to the broker are reset",
    "K": "the broker is killed with -9, and started again",
    "P": "the broker hangs (SIGSTOP), and goes on",
    "C": "all nodes are cut off inside themselves, because there is no broker to kill",
    "H": "one node's way to the broker hangs, as if a cable were pulled, but not its way to the store",
    "I": "one node is cut off from the bus inside itself, but not from the store",
    "N": "one node is killed with -9; those on it go on on another one, and come back to it later",
    "N N": "the only node is killed with -9, and again",
    "L": "the last hints of all are lost, so that no later one shows the hole, and nobody can see it",
}
HEAD = (
    "store",
    "bus",
    "nodes",
    "faults",
    "acknowledged",
    "deliveries",
    "repairs",
    "identical after",
    "latest while the bus is away",
    "latest while a node is cut off",
    "latest else",
    "result",
)


@dataclass
class Row:
    """What one cell came to. Seconds where nothing else is said; None where it had no such fault."""

    store: str
    bus: str
    nodes: str
    faults: str
    """Letters of `FAULTS`."""
    acknowledged: int = 0
    deliveries: int = 0
    repairs: int = 0
    identical_after: float | None = None
    latest: tuple[float | None, float | None, float | None] = (None, None, None)
    result: str = "failed"

    def shown(self) -> list[str]:
        return [
            SHOWN[self.store],
            SHOWN[self.bus],
            self.nodes,
            self.faults,
            f"{self.acknowledged:,}",
            f"{self.deliveries:,}",
            f"{self.repairs:,}",
            _seconds(self.identical_after),
            *map(_seconds, self.latest),
            self.result,
        ]


def _seconds(number: float | None) -> str:
    return "–" if number is None else f"{number:.1f} s"


def table(rows: list[Row]) -> str:
    """All cells of the matrix, in its order."""
    made = {(row.store, row.bus): row for row in rows}
    lines = [_line(HEAD), _line(["---"] * len(HEAD))]
    for store in STORES:
        for bus in BUSES:
            row = made.get((store, bus))
            if row is not None:
                lines.append(_line(row.shown()))
            elif store in REFUSED and bus != "memory":
                lines.append(_line([SHOWN[store], SHOWN[bus], REFUSED[store], *[""] * (len(HEAD) - 3)]))
    return "\n".join(lines)


def legend() -> str:
    """What the letters of the faults mean."""
    return "\n".join(f"- {letter}: {meaning}" for letter, meaning in FAULTS.items())


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
