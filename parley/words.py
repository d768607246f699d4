"""What a word is when messages are searched: the same for every store."""

import re
import unicodedata

MAX_WORD = 64
"""Characters of a word that count."""

# Scripts that are written without spaces; there each character is found like a word.
_DENSE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u31a0-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_DENSE}]|[^\W_{_DENSE}]+")


def words_of(text: str) -> tuple[str, ...]:
    """The different words of a text, in the order of their first place, without regard to case."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return tuple(dict.fromkeys(word[:MAX_WORD] for word in _WORD.findall(plain)))


def holds(text: str, words: tuple[str, ...]) -> bool:
    """Whether for each of the words a word of the text begins with it."""
    there = words_of(text)
    return all(any(each.startswith(word) for each in there) for word in words)
