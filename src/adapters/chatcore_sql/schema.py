"""The schema's revisions: Alembic scripts in `migrations/`, run under a lock of the database."""

from collections.abc import Generator
from contextlib import contextmanager
from io import StringIO
from typing import TextIO

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from chatcore_sql import revisions
from chatcore_sql.revisions import VERSION_TABLE
from chatcore_sql.unreachable import UnfitError
from chatcore_sql.url import engine_url, names_mariadb

_SCRIPTS = "chatcore_sql:migrations"
_LOCK_KEY = 0x63686174636F7265  # "chatcore"
_LIMIT = "/*!80000 max_execution_time */ /*M! max_statement_time */"  # each reads the comment that is meant for it
_LOCK = {
    "mysql": (
        "SET @chatcore_limit = /*!80000 @@max_execution_time */ /*M! @@max_statement_time */",
        f"SET {_LIMIT} = 0",
        "SELECT GET_LOCK(LEFT(CONCAT('chatcore ', DATABASE()), 64), 86400)",
    ),
    "postgresql": (
        "SET LOCAL lock_timeout = 0",
        "SET LOCAL statement_timeout = 0",
        f"SELECT pg_advisory_xact_lock({_LOCK_KEY})",
    ),
}
"""A change of the schema may take as long as it takes, and wait for another. In PostgreSQL all this ends with the
transaction: behind a pooler the session is not ours."""

_UNLOCK = {
    "mysql": (
        "SELECT RELEASE_LOCK(LEFT(CONCAT('chatcore ', DATABASE()), 64))",
        f"SET {_LIMIT} = @chatcore_limit",
    ),
}


def upgrade(connection: Connection, begin: str) -> None:
    """Raises `UnfitError` for a database that cannot keep every text."""
    _check_encoding(connection)
    with _alone(connection, begin):
        revisions.adopt(connection)
        command.upgrade(_config(connection=connection), "head")


def downgrade(connection: Connection, begin: str, revision: str) -> None:
    """By a revision's former name, leave the database to an earlier version. Raises `UnfitError` if that could not go
    on with it."""
    with _alone(connection, begin):
        revisions.adopt(connection)
        former = revisions.is_former(revision)
        if former:
            revisions.check_room(connection)
        command.downgrade(_config(connection=connection), revisions.name_of(revision))
        if former:
            revisions.give_back(connection, revision)


def migration_script(url: str, start: str = "base") -> str:
    """The SQL that brings a database at the revision `start`, by default an empty one, to the newest. A revision's
    former name stands for a database of an earlier version. Nothing is connected to, so that the URL has to say whether
    it is `mysql://` or `mariadb://`.

    Raises `ValueError` for a URL that is none, `LookupError` for a revision that is none.
    """
    backend = engine_url(url).get_backend_name()
    options = {"is_mariadb": names_mariadb(url)} if backend == "mysql" else {}
    script = {"dialect_name": backend, "dialect_opts": options, "transactional_ddl": backend != "mysql"}
    written = StringIO()
    config = _config(script=script, first=revisions.adoption_script(backend, start), written=written)
    try:
        command.upgrade(config, f"{revisions.name_of(start)}:head", sql=True)
    except CommandError as error:
        raise LookupError(str(error)) from None
    return written.getvalue()


def _check_encoding(connection: Connection) -> None:
    """PostgreSQL's is the database's, for all tables. Of MySQL's, each table says its own, and the collations of
    PostgreSQL make no difference: no statement goes by the order or the case of a text."""
    if connection.dialect.name != "postgresql":
        return
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        raise UnfitError(
            f"has the encoding {encoding}, which cannot keep every text. Make one that can, with CREATE DATABASE name "
            "ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0, and name it in the URL; pg_dump and pg_restore take "
            "along what is there."
        )


def is_current(connection: Connection) -> bool:
    heads = ScriptDirectory.from_config(_config()).get_heads()
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return set(context.get_current_heads()) == set(heads)


def _config(*, written: TextIO | None = None, **attributes: object) -> Config:
    """`attributes`: for `migrations/env.py`. `written`: where a script goes."""
    config = Config(attributes={"version_table": VERSION_TABLE, **attributes}, output_buffer=written)
    config.set_main_option("script_location", _SCRIPTS)
    return config


@contextmanager
def _alone(connection: Connection, begin: str) -> Generator[None, None, None]:
    """In a transaction, where the database can change a schema in one (not MySQL), and under the lock.

    A SQLite file has its lock already; what fails ends with its connection.
    """
    dialect = connection.dialect.name
    try:
        connection.exec_driver_sql(begin)
        for statement in _LOCK.get(dialect, ()):
            connection.exec_driver_sql(statement)
        yield
        connection.exec_driver_sql("COMMIT")
        for statement in _UNLOCK.get(dialect, ()):
            connection.exec_driver_sql(statement)
    except BaseException:
        connection.invalidate()
        raise
