"""What goes over a broker: payloads of one topic, one per line, under a line that says who sent them."""

import secrets
from collections.abc import Sequence
from typing import NamedTuple

_KIND = b"parley/1 "
_ID_BYTES = 6
HEAD_BYTES = len(_KIND) + 2 * _ID_BYTES + 1


class Frame(NamedTuple):
    """What is sent to a topic as one message."""

    topic: str
    body: bytes
    payloads: int


def new_head() -> bytes:
    """The first line of all that one node sends."""
    return _KIND + secrets.token_hex(_ID_BYTES).encode() + b"\n"


def packed(head: bytes, topic: str, payloads: Sequence[bytes]) -> Frame:
    """One frame with these payloads in their order."""
    return Frame(topic, head + b"\n".join(payloads), len(payloads))


def payloads_of(body: bytes) -> list[bytes]:
    """What a frame holds. Raises `ValueError` for what no node can have sent."""
    if not body.startswith(_KIND) or body[HEAD_BYTES - 1 : HEAD_BYTES] != b"\n":
        raise ValueError("no frame of ours")
    return body[HEAD_BYTES:].split(b"\n")
