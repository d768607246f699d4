"""Ids and times: UUIDv7 strings, and UTC instants as the strings that JSON carries."""

import re
import time
import uuid
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, NewType

import msgspec
import uuid_utils

UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Time = NewType("Time", Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})])
"""A UTC instant, RFC 3339 with milliseconds, always 24 characters: `2026-11-20T13:15:53.123Z`.

Times are compared as strings (the fixed width makes that right) and made from epoch milliseconds, which is
what the stores keep. A string rather than a datetime, because every message is encoded more often than its
time is looked at.
"""


def new_id() -> str:
    """A UUIDv7 (RFC 9562): unique, and later ids sort after earlier ones."""
    return str(uuid_utils.uuid7())


def made_ms(id_: str) -> int:
    """When a UUIDv7 was made, in milliseconds since the epoch."""
    return int(id_[:8] + id_[9:13], 16)


def as_id(text: str) -> str | None:
    """The canonical form (lower case, with hyphens) of a UUID of any version, or None if `text` is none."""
    text = text.lower()
    return text if UUID.fullmatch(text) else None


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def now() -> Time:
    """This moment."""
    return from_ms(now_ms())


@lru_cache(maxsize=1024)
def from_ms(ms: int) -> Time:
    """The instant `ms` milliseconds after the epoch."""
    seconds, rest = divmod(ms, 1000)
    return Time(f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}.{rest:03d}Z")


def to_ms(instant: Time) -> int:
    """Milliseconds since the epoch."""
    return round(datetime.fromisoformat(instant).timestamp() * 1000)


def uuid7_of(ms: int, randomness: bytes) -> str:
    """The UUIDv7 of a moment (milliseconds since the epoch) with the first 10 of these bytes for its random
    bits."""
    bits = int.from_bytes(randomness[:10])
    value = (ms << 80) | (7 << 76) | ((bits >> 62) & 0xFFF) << 64 | (2 << 62) | (bits & (2**62 - 1))
    return str(uuid.UUID(int=value))
