"""MySQL and MariaDB.

Each reads only the comments that are meant for it, `/*!80000 … */` and `/*M! … */`. Which of the two a server is, it
says itself.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from sqlalchemy import Engine, Insert, Select, Table, literal_column, select
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles

from chatcore_sql.dialects import base
from chatcore_sql.dialects.base import UTF8, Dialect, Meaning, Query, Row, message_of, number_of, replaced
from chatcore_sql.functions import Now

# TRADITIONAL refuses what does not fit, where a lax server would cut it.
_SESSION = (
    "SET /*!80000 transaction_isolation = */ /*M! tx_isolation = */ 'READ-COMMITTED', "
    "/*M! idle_transaction_timeout = {idle}, */ innodb_lock_wait_timeout = {lock}, "
    "/*!80000 max_execution_time = {statement}000 */ /*M! max_statement_time = {statement} */, "
    "time_zone = '+00:00', sql_mode = 'TRADITIONAL', group_concat_max_len = 1048576"
)
_LIMIT = "/*!80000 max_execution_time */ /*M! max_statement_time */"
_LOCK_NAME = "LEFT(CONCAT('chatcore ', DATABASE()), 64)"

# By number. Others go by their SQLSTATE.
_MEANINGS: Mapping[object, Meaning] = {
    1020: Meaning.LOST,  # record changed since it was read
    1205: Meaning.LOST,  # lock time-out
    1213: Meaning.LOST,  # deadlock; in Galera a lost certification
    3101: Meaning.LOST,  # a group's certification lost at the commit
    1290: Meaning.READ_ONLY,  # --read-only, --super-read-only
    1792: Meaning.READ_ONLY,  # read-only transaction
    1836: Meaning.READ_ONLY,  # read-only mode
    1047: Meaning.GONE,  # a Galera node that has not joined, or has left
    1053: Meaning.GONE,  # shutting down
    1077: Meaning.GONE,
    1079: Meaning.GONE,
    1080: Meaning.GONE,  # forced to close
    1129: Meaning.GONE,  # host is blocked
    1152: Meaning.GONE,  # aborted connection
    1158: Meaning.GONE,  # reading, writing packets
    1159: Meaning.GONE,
    1160: Meaning.GONE,
    1161: Meaning.GONE,
    1184: Meaning.GONE,
    1927: Meaning.GONE,  # MariaDB: killed; its MaxScale: no server
    2002: Meaning.GONE,  # the drivers' own: cannot connect, gone away, lost
    2003: Meaning.GONE,
    2006: Meaning.GONE,
    2013: Meaning.GONE,
    2055: Meaning.GONE,
    3100: Meaning.GONE,  # a group's member cannot commit
    3168: Meaning.GONE,  # server is not available
    3169: Meaning.GONE,  # session was killed
    4031: Meaning.GONE,  # disconnected for idleness
    9001: Meaning.GONE,  # ProxySQL: no server in time
    1040: Meaning.LATER,  # too many connections: of all, of the user, of what the user may have otherwise
    1203: Meaning.LATER,
    1226: Meaning.LATER,
    1054: Meaning.MISSING,  # no such column, table
    1146: Meaning.MISSING,
    1153: Meaning.MISTAKE,  # packet too large
    1366: Meaning.MISTAKE,  # incorrect string value
    3819: Meaning.MISTAKE,  # check violated
    4025: Meaning.MISTAKE,
}
_FULL = (1040, 1203, 1226)
_FAILED_AT_COMMIT, _DEADLOCK = 1180, "Got error 149"  # from the storage engine (HA_ERR_LOCK_DEADLOCK)
_NO_REFERENCED_ROW = (1216, 1452)
_MADE = (1050, 1051, 1060, 1061, 1091, 1826)  # a table, a column or a key is there already, or is not there any more
_MADE_BY_MARIADB, _SAME_NAME = 1005, "errno: 121"  # a reference is there already

_TLS = {
    "ssl": "ssl",
    "mode": "ssl-mode",
    "ca": "ssl-ca",
    "cert": "ssl-cert",
    "key": "ssl-key",
    "accept": "sslaccept",
    "verify": "ssl_verify_cert",
    "identity": "ssl_verify_identity",
    "server": "ssl-verify-server-cert",
    "go": "tls",
    "use": "useSSL",
    "need": "requireSSL",
    "java": "verifyServerCertificate",
}
_PARAMETERS = {
    **_TLS,
    "socket": "unix_socket",
    "username": "user",
    "password": "password",
    "timeout": "connect_timeout",
    "connections": "connection_limit",
}
_ALIASES = {"socket": "socket"}
_NEUTRAL = {
    "charset": UTF8,
    "characterencoding": UTF8,
    "collation": "utf8mb4_.*",
    "useunicode": "true|yes|1",
    "parsetime": ".*",
    "servertimezone": ".*",
    "reconnect": ".*",
    "autoreconnect": ".*",
    "allowpublickeyretrieval": ".*",
    "pooltimeout": ".*",
    "sockettimeout": ".*",
    "statementcachesize": ".*",
    "autocommit": "true|1",
    "interpolateparams": ".*",
    "loc": ".*",
    "multistatements": ".*",
    "timezone": ".*",
}


class Hint(TypedDict):
    """For `with_hint`; other databases do not see it."""

    text: str
    dialect_name: str


def by_index(name: str) -> Hint:
    """Return the hint to find rows by this index, whose name has no prefix on MySQL."""
    return {"text": f"FORCE INDEX ({name})", "dialect_name": "mysql"}


BY_KEY = by_index("PRIMARY")


def was_made(error: BaseException | None) -> bool:
    """Return whether a change of the schema fails because it was made already."""
    number = number_of(error)
    return number in _MADE or (number == _MADE_BY_MARIADB and _SAME_NAME in message_of(error))


class _MySQL(Dialect):
    name = "mysql"
    driver = "mysql+asyncmy"
    schemes = ("mysql", "mariadb", "mysql2")
    other_drivers = "asyncmy|(aio|py)mysql|mysql(db|client)|(mysql|mariadb)connector"

    tls = _TLS
    tls_modes = "DISABLED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY"
    parameters = _PARAMETERS
    aliases = _ALIASES
    neutral = _NEUTRAL
    port = 3306
    socket = "unix_socket"
    timeout_argument = "connect_timeout"

    # From MariaDB 12 on, it may be a word.
    takes_changes = select(
        literal_column("CONCAT(@@global.read_only) IN ('0', 'OFF') AND NOT @@global.innodb_read_only")
    )

    transactional_ddl = False
    lock = (
        "SET @chatcore_limit = /*!80000 @@max_execution_time */ /*M! @@max_statement_time */",
        f"SET {_LIMIT} = 0",
        f"SELECT GET_LOCK({_LOCK_NAME}, 86400)",
    )
    unlock = (f"SELECT RELEASE_LOCK({_LOCK_NAME})", f"SET {_LIMIT} = @chatcore_limit")

    def unasked(self, scheme: str) -> dict[str, Any]:
        return {"is_mariadb": scheme == "mariadb"}

    def arguments(self) -> dict[str, Any]:
        session = _SESSION.format(idle=base.IDLE_TIMEOUT, lock=base.LOCK_TIMEOUT, statement=base.STATEMENT_TIMEOUT)
        return {"autocommit": True, "connect_timeout": base.CONNECT_TIMEOUT, "init_command": session}

    def set_up(self, engine: Engine) -> None:
        pass

    async def fetch(self, connection: Any, text: str, arguments: Sequence[object]) -> Sequence[Row]:
        async with connection.driver_connection.cursor() as cursor:
            await cursor.execute(text, arguments)
            rows: Sequence[Row] = await cursor.fetchall()
            return rows

    def upsert(self, table: Table) -> Insert:
        insert = mysql.insert(table)
        return insert.on_duplicate_key_update({name: insert.inserted[name] for name in replaced(table)})

    def meaning(self, error: BaseException | None) -> Meaning | None:
        number = number_of(error)
        if number == _FAILED_AT_COMMIT and message_of(error).startswith(_DEADLOCK):
            return Meaning.LOST
        return _MEANINGS.get(number)

    def current(self, query: Query) -> Query:
        """REPEATABLE READ, which is usual, reads what was committed when it first read, unless it locks."""
        return query.with_for_update(read=True) if isinstance(query, Select) else query

    def is_full(self, error: BaseException | None) -> bool:
        return number_of(error) in _FULL

    def dangles(self, error: BaseException | None) -> bool:
        """By number: the SQLSTATE, 23000, says less."""
        return number_of(error) in _NO_REFERENCED_ROW


MYSQL: Dialect = _MySQL()


@compiles(Now, "mysql")
def _now(*_: Any, **__: Any) -> str:
    return "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)"
