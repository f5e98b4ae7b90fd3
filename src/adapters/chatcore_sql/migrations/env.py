"""Run by Alembic, on the connection that `chatcore_sql.schema` gives it, or into a script without any."""

from collections.abc import Mapping
from typing import Any

from alembic import context

given: Mapping[str, Any] = context.config.attributes
names = given["names"]

if context.is_offline_mode():
    context.configure(**given["script"], **names, literal_binds=True)
    with context.begin_transaction():
        for _statement in given["first"]:
            context.execute(_statement)
        context.run_migrations()
else:
    context.configure(connection=given["connection"], **names)
    context.run_migrations()
