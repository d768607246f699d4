"""Secrets: making them, and keeping only what is needed to recognise them."""

import base64
import hashlib
import hmac
import re
import secrets

import jwt

from parley.errors import TokenExpired, TokenInvalid

ALGORITHM = "HS256"
AUDIENCE = "parley"
TYPE = "at+jwt"
OPAQUE = "parley_"
REFRESH = "parley_refresh_"


def new_token(session_id: str) -> str:
    """An opaque token of 256 random bits, which names its session. The prefix lets scanners of leaked secrets
    find it."""
    return f"{OPAQUE}{session_id}.{secrets.token_urlsafe(32)}"


def session_of_token(token: str) -> str:
    """The session that an opaque token names, truly or not."""
    return token.removeprefix(OPAQUE).partition(".")[0]


def is_token_of(token: str, hash_: bytes) -> bool:
    """Whether it is the token that was hashed so."""
    return hmac.compare_digest(token_hash(token), hash_)


def token_hash(token: str) -> bytes:
    """What the store keeps of a token. SHA-256 is enough: the token is random, not chosen."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def masked(value: str) -> str:
    """A setting as it may be shown: a URL without its password, also one that should have been escaped."""
    value = re.sub(r"(?<=[?&]password=)[^&]*", "***", value)
    return re.sub(r"(?<=://)([^:/@]*):.*@", r"\1:***@", value)


class Tokens:
    """What signs a person in: an access token, which every request carries for some minutes, and a refresh
    token, which is used once for a new pair.

    Both name a session and are signed with the server's key. An access token is a JWT (RFC 7519) as RFC 9068
    has it; only its one algorithm, type and audience are taken.
    """

    def __init__(self, secret: str) -> None:
        self._signing = hashlib.sha256(b"parley access " + secret.encode()).digest()
        self._refreshing = hashlib.sha256(b"parley refresh " + secret.encode()).digest()

    def access(self, user_id: str, session_id: str, at_ms: int, seconds: int) -> str:
        """A token that is good for so many seconds from that moment on."""
        claims = {
            "aud": AUDIENCE,
            "sub": user_id,
            "sid": session_id,
            "iat": at_ms // 1000,
            "exp": at_ms // 1000 + seconds,
        }
        return jwt.encode(claims, self._signing, ALGORITHM, {"typ": TYPE})

    def session_of_access(self, token: str, at_ms: int) -> tuple[str, str]:
        """The session and the user that a token names at that moment. Raises `TokenInvalid`,
        `TokenExpired`."""
        try:
            found = jwt.decode_complete(
                token,
                self._signing,
                [ALGORITHM],
                audience=AUDIENCE,
                options={
                    "require": ["aud", "sub", "sid", "iat", "exp"],
                    "verify_exp": False,
                    "verify_iat": False,
                },
            )
        except (jwt.PyJWTError, UnicodeError):
            raise TokenInvalid from None
        claims = found["payload"]
        session_id, user_id, end = claims["sid"], claims["sub"], claims["exp"]
        if found["header"].get("typ") != TYPE or not isinstance(session_id, str) or not isinstance(end, int):
            raise TokenInvalid
        if end * 1000 <= at_ms:
            raise TokenExpired
        return session_id, user_id

    def refresh(self, session_id: str, generation: int) -> str:
        """The refresh token of a session's generation; always the same one."""
        named = f"{session_id}.{generation}"
        return f"{REFRESH}{named}.{self._seal(named)}"

    def session_of_refresh(self, token: str) -> tuple[str, int]:
        """The session and the generation that a refresh token is for. Raises `TokenInvalid`."""
        named, _, seal = token.removeprefix(REFRESH).rpartition(".")
        session_id, _, generation = named.partition(".")
        genuine = hmac.compare_digest(seal.encode("utf-8", "replace"), self._seal(named).encode())
        if not token.startswith(REFRESH) or not genuine:
            raise TokenInvalid
        return session_id, int(generation)

    def _seal(self, named: str) -> str:
        digest = hmac.digest(self._refreshing, named.encode("utf-8", "replace"), "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
