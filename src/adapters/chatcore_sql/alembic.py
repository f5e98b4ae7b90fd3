"""chatcore's tables in a project with an Alembic of its own. In its `env.py`:

    from chatcore_sql.alembic import include_object
    context.configure(..., include_object=include_object("chat_"))

and in a migration of its own:

    from chatcore_sql.alembic import downgrade_op, upgrade_op
    def upgrade(): upgrade_op("chatcore_0017", "chat_")
    def downgrade(): downgrade_op("base", "chat_")

Or leave the tables to `Chat(migrate=True)`: they have a version table of their own either way, `chat_chatcore_version`.
For `prefix` and `schema` see `Database`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from alembic import op
from alembic.util import CommandError
from sqlalchemy import MetaData

from chatcore_sql import schema as schemas
from chatcore_sql import tables
from chatcore_sql._internals import copied, migrating_inside
from chatcore_sql.migrations import revisions
from chatcore_sql.naming import Naming
from chatcore_sql.unreachable import located

VERSIONS = str(Path(__file__).parent / "migrations" / "versions")
"""A folder for `version_locations`, to have chatcore's revisions beside the project's own in its `alembic_version`:
`alembic upgrade heads` runs both, with `context.configure(..., prefix="chat_")`. Not with a schema."""


def metadata(prefix: str = "", schema: str | None = None) -> MetaData:
    """Return the tables with their columns and references, for references of the project's own to them. Indexes are
    left out: `include_object` keeps them from being proposed."""
    naming = Naming(prefix, schema)
    into = MetaData()
    for table in tables.metadata.sorted_tables:
        copied(table, into, lambda name: f"{naming.prefix}{name}", naming.schema)
    return into


def include_object(prefix: str = "", schema: str | None = None) -> Callable[[Any, str | None, str, bool, Any], bool]:
    """Return a filter for `context.configure(include_object=…)`: `alembic revision --autogenerate` and `alembic check`
    leave chatcore's tables alone."""
    ours = {f"{prefix}{name}" for name in (*tables.metadata.tables, revisions.VERSION_TABLE)}

    def include(thing: Any, name: str | None, kind: str, reflected: bool, compared: Any) -> bool:
        return not (kind == "table" and name in ours and thing.schema == schema)

    return include


def upgrade_op(revision: str = "head", prefix: str = "", schema: str | None = None, *, start: str = "base") -> None:
    """Bring chatcore's tables to a revision, in a migration of the project's. Name the revision of today: a migration
    does the same in a year. `start`: where the tables are before it, which is looked up but with `--sql`.

    Raise `NotMigrated` for a database that has another program's tables under the names of chatcore's, or cannot keep
    every text; nothing is changed then.
    """
    naming, there = Naming(prefix, schema), op.get_context()
    if there.as_sql:
        with migrating_inside():
            script = schemas.script_inside(there.dialect, naming, start, revision)
        there.impl.static_output(script)
        return
    connection = op.get_bind()
    with located("the database"):
        schemas.upgrade_inside(connection, naming, revision)


def downgrade_op(revision: str = "base", prefix: str = "", schema: str | None = None) -> None:
    """Take chatcore's tables, and what is in them, back to a revision. Not with `--sql`."""
    if op.get_context().as_sql:
        raise CommandError("chatcore's tables go back on a connection alone, not with --sql.")
    with located("the database"):
        schemas.downgrade_inside(op.get_bind(), Naming(prefix, schema), revision)
