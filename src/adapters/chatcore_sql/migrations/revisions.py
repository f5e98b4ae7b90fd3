"""The revision of a database's schema: one row of the table `chatcore_version`.

Earlier versions kept it in `alembic_version`, which other programs have too, under names that they may have as well.
A migration adopts their databases; a downgrade to a revision's former name gives them back.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, String, TableClause, TextClause, Update, column, inspect, select, table, text, update

from chatcore_sql.unreachable import UnfitError

VERSION_TABLE = "chatcore_version"
COMMON_TABLE = "alembic_version"
_NAMES = {
    former: f"chatcore_{former}"
    for former in ("0001", "0002", "0003", "0004", "0005", "0007", "0008", "0009", "0010", "0011", "0012")
}
_FIRST_TABLES = {
    *("users", "roles", "user_roles", "sessions", "refresh_tokens"),
    *("model_configs", "conversations", "messages", "reply_log"),
}


def name_of(revision: str) -> str:
    """Return the name of a revision that may be given by its former one."""
    return _NAMES.get(revision, revision)


def is_former(revision: str) -> bool:
    return revision in _NAMES


def adopt(connection: Connection) -> None:
    """Take over the revision of a database of an earlier version: one with our tables and a single id, one of ours.

    MySQL commits each step, so that any of them may be the last of a process that dies. The renamed table says whose
    it is, and the next process renames an id that still has its former name.
    """
    found = set(inspect(connection).get_table_names())
    if VERSION_TABLE not in found:
        if not found >= _FIRST_TABLES | {COMMON_TABLE} or not _are_ours(_ids(connection, COMMON_TABLE)):
            return
        _run(connection, _renamed(connection.dialect.name, COMMON_TABLE, VERSION_TABLE))
    for each in _ids(connection, VERSION_TABLE):
        if is_former(each):
            connection.execute(_set(VERSION_TABLE, name_of(each)))


def adoption_script(backend: str, revision: str) -> Sequence[Update | TextClause]:
    """The statements of `adopt` for a database at this revision; none if that is not a former name."""
    if not is_former(revision):
        return ()
    return (*_renamed(backend, COMMON_TABLE, VERSION_TABLE), _set(VERSION_TABLE, name_of(revision)))


def check_room(connection: Connection) -> None:
    """Raise `UnfitError` if there is no room for `give_back`."""
    if inspect(connection).has_table(COMMON_TABLE):
        raise UnfitError(f"has another program's {COMMON_TABLE}, where earlier versions look for their own")


def give_back(connection: Connection, revision: str) -> None:
    """Leave the database to an earlier version, at a revision given by its former name."""
    _run(connection, _renamed(connection.dialect.name, VERSION_TABLE, COMMON_TABLE))
    connection.execute(_set(COMMON_TABLE, revision))


def _are_ours(ids: Sequence[str]) -> bool:
    return len(ids) == 1 and name_of(ids[0]) in _NAMES.values()


def _ids(connection: Connection, name: str) -> Sequence[str]:
    return connection.scalars(select(_version(name).c.version_num)).all()


def _renamed(backend: str, old: str, new: str) -> Sequence[TextClause]:
    renamed = [text(f"ALTER TABLE {old} RENAME TO {new}")]
    if backend == "postgresql":  # where the names of keys belong to the schema
        renamed.append(text(f"ALTER TABLE {new} RENAME CONSTRAINT {old}_pkc TO {new}_pkc"))
    return renamed


def _set(name: str, revision: str) -> Update:
    return update(_version(name)).values(version_num=revision)


def _version(name: str) -> TableClause:
    return table(name, column("version_num", String))


def _run(connection: Connection, statements: Sequence[TextClause]) -> None:
    for statement in statements:
        connection.execute(statement)
