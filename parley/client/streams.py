"""Standard output and standard error, which may end before we do."""

import contextlib
import os
import sys

from parley.client import safe_text


def complain(text: str) -> None:
    """Say something that is not part of the output, on one line of standard error."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"parley: {safe_text.line(text)}\n")
        sys.stderr.flush()


def give_up_stdout() -> None:
    """Whoever read the output has gone: nothing may try to write there again, not even Python at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
