"""The schema's revisions: Alembic scripts in `migrations/`, run under a lock of the database."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Any, TextIO

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, func, inspect, select
from sqlalchemy import Dialect as EngineDialect

from chatcore_sql._internals import migrating_inside
from chatcore_sql.dialects import DIALECTS, dialect_named, dialect_of
from chatcore_sql.migrations import revisions
from chatcore_sql.migrations.progress import is_half_way
from chatcore_sql.naming import Naming
from chatcore_sql.tables import metadata
from chatcore_sql.unreachable import UnfitError
from chatcore_sql.url import engine_url, scheme_of

_SCRIPTS = "chatcore_sql:migrations"


def upgrade(connection: Connection, naming: Naming) -> None:
    """Raise `UnfitError` for a database that cannot keep every text, or has other tables under the names of ours."""
    with _alone(connection, naming):
        _upgrade(connection, naming, "head")


def upgrade_inside(connection: Connection, naming: Naming, revision: str) -> None:
    """As `upgrade`, in a migration of the embedding program's, and its transaction."""
    with _inside(connection, naming):
        _upgrade(connection, naming, revision)


def downgrade_inside(connection: Connection, naming: Naming, revision: str) -> None:
    with _inside(connection, naming):
        command.downgrade(_config(naming, connection=connection, way="down"), revision)


def _upgrade(connection: Connection, naming: Naming, revision: str) -> None:
    dialect_of(connection).check_fit(connection)
    if is_current(connection, naming):
        return
    if not naming.prefix:
        revisions.adopt(connection)
    _check_names(connection, naming)
    command.upgrade(_config(naming, connection=connection, way="up"), revision)


def downgrade(connection: Connection, naming: Naming, revision: str) -> None:
    """By a revision's former name, leave the database to an earlier version. Raise `UnfitError` if that could not go
    on with it."""
    with _alone(connection, naming):
        former = revisions.is_former(revision)
        if former and naming.prefix:
            raise UnfitError("has a prefix before its tables, which earlier versions do not know")
        if not naming.prefix:
            revisions.adopt(connection)
        if former:
            revisions.check_room(connection)
        command.downgrade(_config(naming, connection=connection, way="down"), revisions.name_of(revision))
        if former:
            revisions.give_back(connection, revision)


def migration_script(url: str, start: str = "base", *, prefix: str = "", schema: str | None = None) -> str:
    """The SQL that brings a database at the revision `start`, by default an empty one, to the newest. A revision's
    former name stands for a database of an earlier version. Nothing is connected to, so that the URL has to say whether
    it is `mysql://` or `mariadb://`. For `prefix` and `schema` see `Database`.

    Raise `ValueError` for a URL, a prefix or a schema that is none, `LookupError` for a revision that is none.
    """
    dialect = DIALECTS[engine_url(url).get_backend_name()]
    naming = Naming(prefix, schema)
    naming.check(dialect)
    options, transactional = dialect.unasked(scheme_of(url)), dialect.transactional_ddl
    script = {"dialect_name": dialect.name, "dialect_opts": options, "transactional_ddl": transactional}
    first = [*_entering(schema), *(() if prefix else revisions.adoption_script(dialect.name, start))]
    return _script(naming, script, first, f"{revisions.name_of(start)}:head")


def script_inside(dialect: EngineDialect, naming: Naming, start: str, revision: str) -> str:
    """As `migration_script`, for the script of a migration of the embedding program's, and its transaction."""
    ours = dialect_named(dialect.name)
    naming.check(ours)
    is_mariadb = getattr(dialect, "is_mariadb", False)
    options = ours.unasked("mariadb" if is_mariadb else dialect.name)
    script = {"dialect_name": ours.name, "dialect_opts": options, "transactional_ddl": False}
    written = _script(naming, script, _entering(naming.schema), f"{start}:{revision}")
    return f"{written}SET LOCAL search_path TO DEFAULT;\n\n" if naming.schema else written


def _script(naming: Naming, script: Mapping[str, Any], first: Sequence[Any], revisions_: str) -> str:
    written = StringIO()
    try:
        command.upgrade(_config(naming, script=script, first=first, written=written), revisions_, sql=True)
    except CommandError as error:
        raise LookupError(str(error)) from None
    return written.getvalue()


def is_current(connection: Connection, naming: Naming) -> bool:
    """By its own version table, or by that of a program that has our revisions among its own."""
    heads = ScriptDirectory.from_config(_config(naming)).get_heads()
    names = _names(naming)
    at_head = any(
        set(MigrationContext.configure(connection, opts={**names, "version_table": table}).get_current_heads())
        >= set(heads)
        for table in (names["version_table"], revisions.COMMON_TABLE)
    )
    return at_head and not is_half_way(connection, naming.prefix)


def _config(naming: Naming, *, written: TextIO | None = None, **attributes: object) -> Config:
    """`attributes`: for `migrations/env.py`. `written`: where a script goes."""
    config = Config(attributes={"names": _names(naming), **attributes}, output_buffer=written)
    config.set_main_option("script_location", _SCRIPTS)
    return config


def _names(naming: Naming) -> dict[str, Any]:
    return {
        "prefix": naming.prefix,
        "version_table": f"{naming.prefix}{revisions.VERSION_TABLE}",
        "version_table_schema": naming.schema,
    }


def _check_names(connection: Connection, naming: Naming) -> None:
    """Before the first revision there are none of our tables."""
    heads = MigrationContext.configure(connection, opts=_names(naming)).get_current_heads()
    if heads or is_half_way(connection, naming.prefix):
        return
    ours = {f"{naming.prefix}{name}" for name in metadata.tables}
    if met := ours & set(inspect(connection).get_table_names(schema=naming.schema)):
        raise UnfitError(
            f"has tables at no revision of chatcore: {', '.join(sorted(met))}. If they are another program's, have "
            "chatcore's begin with a prefix (DATABASE_TABLE_PREFIX, Database(prefix=…))"
        )


@contextmanager
def _alone(connection: Connection, naming: Naming) -> Generator[None, None, None]:
    """In a transaction, where the database can change a schema in one (not MySQL), and under the lock.

    A SQLite file has its lock already; what fails ends with its connection.
    """
    dialect = dialect_of(connection)
    try:
        connection.exec_driver_sql(dialect.begin)
        for statement in dialect.lock:
            connection.exec_driver_sql(statement)
        for statement in _entering(naming.schema, there=_is_there(connection, naming.schema)):
            connection.exec_driver_sql(statement)
        yield
        connection.exec_driver_sql("COMMIT")
        for statement in dialect.unlock:
            connection.exec_driver_sql(statement)
    except BaseException:
        connection.invalidate()
        raise


@contextmanager
def _inside(connection: Connection, naming: Naming) -> Generator[None, None, None]:
    """In a schema, if there is one, and with the program's own migration as it was."""
    naming.check(dialect_of(connection))
    before = connection.scalar(select(func.current_setting("search_path"))) if naming.schema else None
    for statement in _entering(naming.schema, there=_is_there(connection, naming.schema)):
        connection.exec_driver_sql(statement)
    with migrating_inside():
        yield
    if before is not None:
        connection.execute(select(func.set_config("search_path", before, True)))


def _is_there(connection: Connection, schema: str | None) -> bool:
    """Who may not make one must not try, though it is there."""
    return schema is not None and inspect(connection).has_schema(schema)


def _entering(schema: str | None, *, there: bool = False) -> Sequence[str]:
    """For the rest of the transaction; only PostgreSQL has schemas."""
    if schema is None:
        return ()
    enter = f'SET LOCAL search_path TO "{schema}"'
    return (enter,) if there else (f'CREATE SCHEMA IF NOT EXISTS "{schema}"', enter)
