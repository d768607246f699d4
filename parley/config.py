"""Settings, read once at the start: flag over environment over `.env` over default.

Every setting is a `PARLEY_…` variable; `PARLEY_…_FILE` names a file that holds it, for secrets. Nothing else
in Parley reads the environment.
"""

import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from parley.errors import StartError
from parley.security import masked as masked

PREFIX = "PARLEY_"

_SHARED_STORE = "set PARLEY_STORE to postgresql:// or redis://"


class Settings(BaseSettings):
    """Everything that an operator can choose. The defaults run with nothing set."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port for HTTP and WebSocket (0: any free one)")
    workers: int = Field(1, ge=1, le=64, description="processes of `parley serve` that share the port")
    store: str = Field(
        "sqlite:///parley.db",
        description="where the chat lives: sqlite:///FILE, postgresql://USER:PASSWORD@HOST/DATABASE, "
        "redis://HOST, rediss://HOST or memory://",
    )
    bus: str = Field(
        "memory://",
        description="how nodes talk to each other: memory:// (there is only one), redis://HOST, "
        "rediss://HOST, amqp://USER:PASSWORD@HOST/VHOST, amqps://…, kafka://HOST:PORT or "
        "postgresql://USER:PASSWORD@HOST/DATABASE",
    )
    secret: SecretStr | None = Field(None, description="key for signing; made and kept on the first start")
    guests: bool = Field(True, description="whether people may come in with only a name")
    registration: bool = Field(True, description="whether people may make an account")
    session_ttl: int = Field(
        3600, ge=10, le=31_536_000, description="seconds a guest stays after the last message"
    )
    # More would not fit into a frame or a body once JSON has escaped it.
    max_message_bytes: int = Field(16_384, ge=1, le=65_536, description="longest text, in UTF-8")
    lobby_history: int = Field(50, ge=1, le=100_000, description="messages that the lobby keeps")
    max_users: int | None = Field(None, ge=1, description="most users, guests too; empty: no limit")
    max_rooms: int | None = Field(None, ge=1, description="most open rooms, direct ones too")
    max_room_members: int | None = Field(None, ge=1, description="most members of a room but the lobby")
    max_history: int | None = Field(None, ge=1, description="most messages kept in a room but the lobby")
    rate_limit: float = Field(
        50, ge=0, le=1_000_000, description="requests a second of one user in the long run; 0: no limit"
    )
    origins: str = Field(
        "", description="other web sites whose pages may connect, separated by commas; * for all"
    )
    drain_seconds: float = Field(10, ge=0, le=600, description="how long a stop may take")
    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="auto: text at a terminal, else json"
    )
    journal_batch: int = Field(
        512, ge=1, le=10_000, description="most changes in one commit; 1 switches grouping off"
    )
    sqlite_synchronous: Literal["FULL", "NORMAL", "OFF"] = Field(
        "FULL", description="FULL: survives power loss; NORMAL may lose the last commits then"
    )

    @field_validator("store")
    @classmethod
    def _known_store(cls, url: str) -> str:
        if url.startswith("memory://") and url != "memory://":
            raise ValueError("must be memory:// and nothing more, or another store")
        return _with_scheme(url, {"memory", "postgresql", "redis", "rediss", "sqlite"})

    @field_validator("bus")
    @classmethod
    def _known_bus(cls, url: str) -> str:
        if url.startswith("memory://") and url != "memory://":
            raise ValueError("must be memory:// and nothing more, or another bus")
        return _with_scheme(url, {"amqp", "amqps", "kafka", "memory", "postgresql", "redis", "rediss"})


def _with_scheme(url: str, known: set[str]) -> str:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in known:
        raise ValueError(f"must begin with {' or '.join(f'{each}://' for each in sorted(known))}")
    return url


def read(**flags: Any) -> Settings:
    """The settings in force; flags that are None count as not given. Raises `StartError` naming every bad
    one."""
    given = _from_files() | {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except UnicodeDecodeError:
        raise StartError("the file .env is not text in UTF-8") from None
    except ValidationError as error:
        bad = (
            f"{PREFIX}{str(each['loc'][0]).upper()}: {each['msg'].removeprefix('Value error, ')}"
            for each in error.errors()
        )
        raise StartError("bad settings: " + "; ".join(bad)) from None


def check(settings: Settings) -> None:
    """Raises `StartError` if a server cannot work with these together; it names all that is in its way."""
    store, bus = (url.partition(":")[0] for url in (settings.store, settings.bus))
    reasons = []
    if settings.workers > 1 and store == "sqlite":
        reasons.append(f"an SQLite file belongs to one process, so {_SHARED_STORE}")
    if settings.workers > 1 and store == "memory":
        reasons.append(f"each would have a chat of its own, so {_SHARED_STORE}")
    if settings.workers > 1 and bus == "memory":
        reasons.append(
            "the bus memory:// stays within one process, so set PARLEY_BUS to redis://, amqp://, kafka:// or "
            "postgresql://"
        )
    if reasons:
        raise StartError(f"{settings.workers} workers are impossible here: {'; '.join(reasons)}")
    # RabbitMQ and Kafka are also for other services, which one node may have.
    if store in ("memory", "sqlite") and bus in ("redis", "rediss", "postgresql"):
        raise StartError(
            f"the bus {bus}:// is for several nodes, which cannot share the store {store}: {_SHARED_STORE}, "
            "or PARLEY_BUS to memory://"
        )


def _from_files() -> dict[str, str]:
    """What `PARLEY_…_FILE` variables point to, where the setting itself is not given."""
    found = {}
    for name in Settings.model_fields:
        variable = f"{PREFIX}{name.upper()}"
        path = os.environ.get(f"{variable}_FILE")
        if path and variable not in os.environ:
            try:
                found[name] = Path(path).read_text().strip()
            except OSError as error:
                raise StartError(f"{variable}_FILE: {error.strerror}: {path}") from None
    return found


def packed(settings: Settings) -> str:
    """All of it in one line, secrets too, for another process; see `unpacked`."""
    return json.dumps(
        {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value
            for name, value in settings
        }
    )


def unpacked(line: str) -> Settings:
    """The very same settings, whatever the environment and `.env` say by now."""
    return Settings(_env_file=None, **json.loads(line))


def shown(settings: Settings) -> dict[str, str]:
    """Every variable with its value, secrets and passwords masked."""
    values = {f"{PREFIX}{name.upper()}": getattr(settings, name) for name in Settings.model_fields}
    secret = {name for name, value in values.items() if isinstance(value, SecretStr)}
    return {
        name: "***" if name in secret else masked(str("" if value is None else value))
        for name, value in values.items()
    }
