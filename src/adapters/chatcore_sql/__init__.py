"""Storage in SQLite, MySQL (or MariaDB) and PostgreSQL: the storage ports of `chatcore.ports` on SQLAlchemy Core.

    async with Database("sqlite:///chatcore.db") as database:
        await database.migrate()
        async with database.unit_of_work() as work:
            ...
            await work.commit()

Needs the extra of the database that it opens, `chatcore[sqlite]`, `chatcore[mysql]` (MariaDB too) or
`chatcore[postgresql]`; `chatcore[sql]` is all three. The forms of URL are those of `chatcore_sql.url`, with the
parameters of `chatcore_sql.tls`. Each statement is built once, beside the repository that uses it.
"""

try:
    from chatcore_sql.database import Database
    from chatcore_sql.file_lock import DatabaseInUse
    from chatcore_sql.naming import Naming
    from chatcore_sql.schema import migration_script
    from chatcore_sql.unreachable import DatabaseUnreachable
except ModuleNotFoundError as _missing:
    if _missing.name not in ("alembic", "sqlalchemy"):
        raise
    extras = "chatcore[sqlite], chatcore[mysql] or chatcore[postgresql]"
    raise ModuleNotFoundError(f"chatcore_sql needs {_missing.name}: install {extras}", name=_missing.name) from None

__all__ = ["Database", "DatabaseInUse", "DatabaseUnreachable", "Naming", "migration_script"]
