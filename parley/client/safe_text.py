"""What others wrote, made safe to show: no escape sequences, nothing that is invisible or reorders a line."""

import unicodedata

_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn"}
_JOINERS = {"\u200c", "\u200d"}
"""Invisible, and part of many an emoji and of the writing of some languages."""
_LINE_ENDS = str.maketrans(dict.fromkeys("\r\v\f\x85\u2028\u2029", "\n"))


def lines(text: str) -> list[str]:
    """The lines of a text. What could move the cursor or turn the writing around becomes a `\ufffd`."""
    text = text.replace("\r\n", "\n").translate(_LINE_ENDS).expandtabs(4).strip("\n")
    return ["".join(_safe(each) for each in line) for line in text.split("\n")]


def line(text: str) -> str:
    """A text on one line; `⏎` stands where it had line breaks."""
    return " ⏎ ".join(lines(text))


def _safe(character: str) -> str:
    if character.isprintable() or character in _JOINERS:
        return character
    return "\ufffd" if unicodedata.category(character) in _UNSAFE else character
