"""The steps that run inside Redis, each whole or not at all."""

import hashlib
from pathlib import Path

_FOLDER = Path(__file__).parent / "lua"

SOURCES: dict[str, str] = {}
"""Every script by its SHA-1, for servers that do not know it yet, or have forgotten it in a restart."""


def _script(name: str, *parts: str) -> str:
    source = "".join((_FOLDER / f"{part}.lua").read_text() for part in ("many", *parts, name))
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    SOURCES[sha] = source
    return sha


APPLY = _script("apply", "trim")
CHANGES = _script("changes")
CLAIM = _script("claim")
CREATE = _script("create")
EXTEND = _script("extend")
FORGET = _script("forget")
HEADS = _script("heads")
JOIN = _script("join")
LEAVE = _script("leave")
LIMIT = _script("limit", "trim")
MARK = _script("mark")
MEMBERS = _script("members")
PAGE = _script("page")
RELEASE = _script("release")
REMEMBER = _script("remember")
ROOM = _script("room")
