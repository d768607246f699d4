"""What names and texts may look like: normalised Unicode, nothing invisible, nothing that reorders the
line."""

import re
import unicodedata

from parley.errors import EmptyMessage, InvalidField, MessageTooLong, RoomNotFound
from parley.ids import Time, as_id, now, to_ms

_USER_NAME = re.compile(r"[^\W_](?:[^\W_]|[._-]){1,31}")
MAX_NAME = 64
MAX_EMOJI_BYTES = 64
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks that look like nothing."""
_JOINER, _SELECTOR = "\u200d", "\ufe0f"
_TAGS = {chr(each) for each in range(0xE0020, 0xE0080)}
"""Invisible, and parts of many an emoji: after a flag, tags say whose it is."""
_BLACK_FLAG = "\U0001f3f4"
MAX_MARKS = 4
"""Combining marks on one letter."""


def folded(text: str) -> str:
    """A name as names are compared: without regard to case."""
    return unicodedata.normalize("NFC", text).casefold()


def user_name(text: str) -> str:
    """A login name: letters, digits and `.`, `_`, `-`, 2 to 32 of them. Raises `InvalidField`."""
    name = folded(text)
    if not _USER_NAME.fullmatch(name) or name == "me" or name.startswith("guest-") or as_id(name):
        raise InvalidField("name: 2 to 32 letters, digits, `.`, `_` or `-`; not `me`, nothing like an id.")
    return name


def is_user_name(text: str) -> bool:
    """Whether an account could have that name."""
    return _USER_NAME.fullmatch(text) is not None


def room_name(text: str) -> str:
    """A room's unique name: no spaces, no slash, and not shaped like an id. Raises `InvalidField`."""
    name = display_name(text, "name").casefold()
    if len(name) > MAX_NAME or name in (".", ".."):
        raise InvalidField(f"name: 1 to {MAX_NAME} characters are needed, not only dots.")
    if any(character.isspace() or character in "/?#\\" for character in name):
        raise InvalidField("name: a room's name has no spaces, slashes, `?` or `#`.")
    if as_id(name) is not None:
        raise InvalidField("name: a room's name must not look like an id.")
    return name


def room_key(text: str) -> str:
    """What a room is looked up by: its id, or its name however it was typed. Raises `RoomNotFound`."""
    if "\x00" in text:
        raise RoomNotFound  # some stores could not even look for it
    return as_id(text) or folded(text)


def display_name(text: str, field: str = "display_name") -> str:
    """A name for people to read, up to 64 characters. Raises `InvalidField`."""
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if not name or len(name) > MAX_NAME:
        raise InvalidField(f"{field}: 1 to {MAX_NAME} characters are needed.")
    if not _is_plain_to_see(name):
        raise InvalidField(f"{field}: control, invisible and bidirectional characters are not allowed.")
    return name


def _is_plain_to_see(name: str) -> bool:
    """Whether everything in a name shows, but for what holds an emoji together."""
    before, marks, shows = "", 0, False
    for each in name:
        kind = unicodedata.category(each)
        if each == _JOINER:
            fine = before == _SELECTOR or (before != "" and unicodedata.category(before) in ("So", "Sk"))
        elif each in _TAGS:
            fine = before == _BLACK_FLAG or before in _TAGS
        else:
            fine = kind not in _INVISIBLE and each not in _BLANK
        marks = marks + 1 if kind in ("Mn", "Me") else 0
        if not fine or marks > MAX_MARKS:
            return False
        shows = shows or kind[0] in "LNPS"
        before = each
    return shows and before != _JOINER


def message_text(text: str, max_bytes: int) -> str:
    """The words of a message as they came. Raises `EmptyMessage`, `MessageTooLong`, `InvalidField`."""
    if not text or text.isspace():
        raise EmptyMessage
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidField("text: lone surrogates are not text.") from None
    if size > max_bytes:
        raise MessageTooLong(f"A message takes at most {max_bytes} bytes of UTF-8; this one has {size}.")
    if "\x00" in text:
        raise InvalidField("text: the character U+0000 is not allowed.")
    return text


def message_id(text: str) -> str:
    """A UUID in its canonical form. Raises `InvalidField`."""
    found = as_id(text)
    if found is None:
        raise InvalidField("id: a UUID is needed.")
    return found


def emoji(text: str) -> str:
    """A reaction: one emoji or a short word. Raises `InvalidField`."""
    name = display_name(text, "emoji")
    if len(name.encode()) > MAX_EMOJI_BYTES or " " in name:
        raise InvalidField(f"emoji: at most {MAX_EMOJI_BYTES} bytes of UTF-8, without spaces.")
    return name


def cursor(text: str | None) -> str | None:
    """Where a list goes on; made by us, opaque to clients. Raises `InvalidField`."""
    if text is not None and as_id(text) is None:
        raise InvalidField("cursor: use the `next` of the page before.")
    return text


def export_cursor(text: str | None) -> tuple[str, int]:
    """Where an export goes on: in which room, after which message. Raises `InvalidField`."""
    room_id, _, seq = (text or "_0").partition("_")
    if (room_id and as_id(room_id) != room_id) or not seq.isascii() or not seq.isdigit() or len(seq) > 15:
        raise InvalidField("cursor: use the `next` of the page before.")
    return room_id, int(seq)


def search_cursor(text: str | None) -> tuple[Time, str, int] | None:
    """Where a search goes on: after which message. Raises `InvalidField`."""
    if text is None:
        return None
    at, _, rest = text.partition("_")
    room_id, _, seq = rest.partition("_")
    try:
        to_ms(Time(at))
        number = int(seq)
    except ValueError:
        number = -1
    if len(at) != len(now()) or as_id(room_id) != room_id or not 0 < number < 2**53:
        raise InvalidField("cursor: use the `next` of the page before.")
    return Time(at), room_id, number
