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
ASK = _script("ask", "standing")
CHANGE = _script("change", "standing", "trim")
CHANGES = _script("changes")
CLAIM = _script("claim")
CLOSE = _script("close", "standing")
COUNT = _script("count")
CREATE = _script("create")
DELIST = _script("delist")
DISOWN = _script("disown")
ENLIST = _script("enlist")
ENROL = _script("enrol")
ENTER = _script("enter")
EXTEND = _script("extend")
FORGET = _script("forget")
HEADS = _script("heads")
JOIN = _script("join", "standing")
LEAVE = _script("leave", "standing")
MARK = _script("mark")
MEMBERS = _script("members")
NOTE = _script("note")
OVERDUE = _script("overdue")
PAGE = _script("page")
RELEASE = _script("release")
RENAME = _script("rename")
RENAME_MEMBER = _script("rename_member")
ROTATE = _script("rotate")
REMEMBER = _script("remember")
REMOVE = _script("remove")
REPORT = _script("report")
RETIRE = _script("retire")
ROLE = _script("role", "standing")
ROOM = _script("room")
SAW = _script("saw")
SEEK = _script("seek")
SIZES = _script("sizes")
UNNAME = _script("unname")
