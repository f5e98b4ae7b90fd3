"""Run by Alembic, on the connection that `chatcore_sql.schema` gives it, or into a script without any."""

from collections.abc import Mapping
from typing import Any

from alembic import context

from chatcore_sql.dialects import dialect_of
from chatcore_sql.migrations.progress import Progress

given: Mapping[str, Any] = context.config.attributes
names = given["names"]

if context.is_offline_mode():
    context.configure(**given["script"], **names, literal_binds=True)
    with context.begin_transaction():
        for _statement in given["first"]:
            context.execute(_statement)
        context.run_migrations()
elif dialect_of(given["connection"]).transactional_ddl:
    context.configure(connection=given["connection"], **names)
    context.run_migrations()
else:
    _progress = Progress(given["connection"], names["prefix"], given["way"])
    context.configure(connection=given["connection"], **names, progress=_progress, on_version_apply=_progress.applied)
    _progress.begin(context.get_context().get_current_heads())
    context.run_migrations()
    _progress.end()
