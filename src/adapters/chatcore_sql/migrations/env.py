"""Run by Alembic, on the connection that `chatcore_sql.schema` gives it, or into a script without any."""

from alembic import context

if context.is_offline_mode():
    context.configure(**context.config.attributes["script"], literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    context.configure(connection=context.config.attributes["connection"])
    context.run_migrations()
