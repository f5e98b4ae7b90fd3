"""Run by Alembic, on the connection that `chatcore_sql.schema` gives it."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
