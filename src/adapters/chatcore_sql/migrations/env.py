"""Run by Alembic, on the connection that `chatcore_sql.schema` gives it, or into a script without any."""

from alembic import context

given = context.config.attributes
names = given["names"]

if context.is_offline_mode():
    context.configure(**given["script"], **names, literal_binds=True)
    with context.begin_transaction():
        for statement in given["first"]:
            context.execute(statement)
        context.run_migrations()
else:
    context.configure(connection=given["connection"], **names)
    context.run_migrations()
