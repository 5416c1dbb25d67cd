"""Alembic's entry point: runs the revisions on the connection, and in the transaction, of ``jobs.database.schema``."""

from alembic import context

from jobs.database.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    # SQLite changes a column by copying the table.
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
