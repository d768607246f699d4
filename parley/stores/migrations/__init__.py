"""How the schema of the SQL store came to be: one revision per file, run by Alembic."""

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def has(revision: str) -> bool:
    """Whether there is such a revision."""
    known = ScriptDirectory.from_config(config()).walk_revisions()
    return revision in {script.revision for script in known}


def upgrade(connection: Connection, revision: str) -> None:
    """Go up to a revision, step by step, in the caller's transaction."""
    command.upgrade(config(connection), revision)


def downgrade(connection: Connection, revision: str) -> None:
    """Go back to a revision or to `base`, before the first, in the caller's transaction."""
    command.downgrade(config(connection), revision)


def config(connection: Connection | None = None) -> Config:
    """Alembic's configuration, which needs no file. `env.py` uses the connection that is in it."""
    config = Config()
    config.set_main_option("script_location", "parley.stores:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
