"""Watches the system calls of a server: what it writes, syncs and sends, in the order of the events."""

import re
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

WRITES = ("write", "writev", "pwrite64", "pwritev", "pwritev2")
SENDS = ("sendto", "sendmsg", "sendmmsg", "write", "writev")
SYNCS = ("fsync", "fdatasync")

_BEGAN = re.compile(r"^(\d+) +(\w+)\(\d+<([^>]*)>(.*)$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")
_UNFINISHED = "<unfinished ...>"


@dataclass(frozen=True)
class Step:
    """The beginning or the end of a call; most calls give both at once. `data` is what the call was given."""

    call: str
    file: str
    data: str
    ended: bool


def tracer(trace: Path) -> tuple[str, ...]:
    """The command that runs another one, as the same process, and writes its system calls to a file."""
    if shutil.which("strace") is None:
        raise AssertionError("strace is missing: install the package strace (`make test` does so as root)")
    calls = ",".join(sorted({*WRITES, *SENDS, *SYNCS}))
    # -D: the tracer is the one that goes to the background, so that signals reach the server itself.
    # -y: with the names of files. -s: with all of what a page or an answer holds.
    options = f"-D -f -y -s 70000 --quiet=all --seccomp-bpf -e trace={calls} -e signal=none -o {trace}"
    return ("strace", *options.split())


def steps(trace: Path) -> Iterator[Step]:
    """What happened, in its order, of a server that has ended."""
    deadline = time.monotonic() + 10
    # The tracer ends a moment after what it traces.
    while not (lines := trace.read_text(errors="replace")).endswith("\n") or _is_growing(trace):
        if time.monotonic() > deadline:
            raise AssertionError("the tracer did not end")
    return _parsed(lines.splitlines())


def _is_growing(trace: Path) -> bool:
    before = trace.stat().st_size
    time.sleep(0.3)
    return trace.stat().st_size != before


def _parsed(lines: Iterable[str]) -> Iterator[Step]:
    begun: dict[str, tuple[str, str]] = {}
    for line in lines:
        if match := _BEGAN.match(line):
            thread, call, file, rest = match.groups()
            yield Step(call, file, rest, ended=False)
            if rest.endswith(_UNFINISHED):
                begun[thread] = call, file
            elif _worked(rest):
                yield Step(call, file, rest, ended=True)
        elif match := _RESUMED.match(line):
            thread, call, rest = match.groups()
            name, file = begun.pop(thread, (call, ""))
            if _worked(rest):
                yield Step(name, file, "", ended=True)


def _worked(rest: str) -> bool:
    return re.search(r"\) += \d+$", rest) is not None


def sent_too_early(found: Iterable[Step], ids: Iterable[str]) -> tuple[set[str], set[str]]:
    """Which of these message ids were sent to a client at all, and which of them before a sync of the log,
    begun after they were written to it, had come to its end."""
    waiting = set(ids)
    written: set[str] = set()
    syncing: set[str] = set()
    safe: set[str] = set()
    sent: set[str] = set()
    early: set[str] = set()
    for step in found:
        if step.file.endswith("-wal"):
            if step.call in SYNCS and not step.ended:
                syncing = set(written)
            elif step.call in SYNCS:
                safe |= syncing
            elif step.call in WRITES:
                written |= _named(step.data, waiting - written)
        elif step.file.startswith("socket:") and step.call in SENDS and not step.ended:
            named = _named(step.data, waiting - sent)
            sent |= named
            early |= named - safe
    return sent, early


def _named(data: str, ids: set[str]) -> set[str]:
    return {id_ for id_ in ids if id_ in data}
