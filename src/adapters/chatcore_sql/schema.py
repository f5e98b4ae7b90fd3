"""The schema's revisions: Alembic scripts in `migrations/`, run under a lock of the database."""

from collections.abc import Generator
from contextlib import contextmanager

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

_LOCK_KEY = 0x63686174636F7265  # "chatcore"
_LOCK = {
    "mysql": "SELECT GET_LOCK(LEFT(CONCAT('chatcore ', DATABASE()), 64), 86400)",
    "postgresql": f"SELECT pg_advisory_lock({_LOCK_KEY})",
}
_UNLOCK = {
    "mysql": "SELECT RELEASE_LOCK(LEFT(CONCAT('chatcore ', DATABASE()), 64))",
    "postgresql": f"SELECT pg_advisory_unlock({_LOCK_KEY})",
}


def upgrade(connection: Connection, begin: str) -> None:
    with _alone(connection, begin):
        command.upgrade(_config(connection), "head")


def downgrade(connection: Connection, begin: str, revision: str) -> None:
    with _alone(connection, begin):
        command.downgrade(_config(connection), revision)


def is_current(connection: Connection) -> bool:
    heads = ScriptDirectory.from_config(_config(connection)).get_heads()
    return set(MigrationContext.configure(connection).get_current_heads()) == set(heads)


def _config(connection: Connection) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "chatcore_sql:migrations")
    return config


@contextmanager
def _alone(connection: Connection, begin: str) -> Generator[None, None, None]:
    """In a transaction, where the database can change a schema in one (not MySQL), and under the lock.

    A SQLite file has its lock already; what fails ends with its connection.
    """
    dialect = connection.dialect.name
    try:
        if dialect in _LOCK:
            connection.exec_driver_sql(_LOCK[dialect])
        connection.exec_driver_sql(begin)
        yield
        connection.exec_driver_sql("COMMIT")
        if dialect in _UNLOCK:
            connection.exec_driver_sql(_UNLOCK[dialect])
    except BaseException:
        connection.invalidate()
        raise
