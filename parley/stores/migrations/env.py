"""What Alembic runs: the migrations, on the connection and in the transaction of the caller."""

from alembic import context

from parley.stores.sql.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite changes most things about a table only by making it anew.
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
