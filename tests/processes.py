"""What the system says of processes and of the connections that they have."""

from contextlib import suppress
from pathlib import Path


def processes() -> dict[int, tuple[str, int]]:
    """The state and the parent of each process."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            found[int(stat.parent.name)] = state, int(parent)
    return found


def alive(pids: set[int]) -> set[int]:
    return {pid for pid, (state, _) in processes().items() if pid in pids and state != "Z"}


def sockets_at(port: int) -> set[str]:
    """The inodes of the connections that came in there."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"}


def sockets_of(pid: int) -> set[str]:
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    return found
