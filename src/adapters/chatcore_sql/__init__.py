"""Storage in SQLite, MySQL (or MariaDB) and PostgreSQL: the storage ports of `chatcore.ports` on SQLAlchemy Core.

    async with Database("sqlite:///chatcore.db") as database:
        await database.migrate()
        async with database.unit_of_work() as work:
            ...
            await work.commit()

The forms of URL are those of `chatcore_sql.url`. Each statement is built once, beside the repository that uses it.
"""

from chatcore_sql.database import Database
from chatcore_sql.file_lock import DatabaseInUse

__all__ = ["Database", "DatabaseInUse"]
