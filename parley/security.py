"""Secrets: making them, and keeping only what is needed to recognise them."""

import hashlib
import re
import secrets


def new_token() -> str:
    """An opaque token of 256 random bits. The prefix lets scanners of leaked secrets find it."""
    return "parley_" + secrets.token_urlsafe(32)


def token_hash(token: str) -> bytes:
    """What the store keeps of a token. SHA-256 is enough: the token is random, not chosen."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def masked(value: str) -> str:
    """A setting as it may be shown: a URL without its password, also one that should have been escaped."""
    value = re.sub(r"(?<=[?&]password=)[^&]*", "***", value)
    return re.sub(r"(?<=://)([^:/@]*):.*@", r"\1:***@", value)
