"""PostgreSQL, the server itself or a pooler before it.

A pooler in transaction mode (PgBouncer, Supavisor, RDS Proxy and others) has each transaction run on whichever of the
server's connections is free. A setting of the session, or a named prepared statement, does not reach the client's next
transaction, but perhaps another client's. Behind a pooler each transaction says for itself what it needs, together
with its BEGIN, and statements have no name: each goes out with its text and its values at once, as many round trips as
without a pooler, and is planned anew.
"""

from collections.abc import Mapping, Sequence
from ssl import SSLContext
from typing import Any

from sqlalchemy import Connection, Engine, Insert, Table, event, literal_column, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect as SQLAlchemyDialect
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from chatcore_sql._internals import STALE, PostgresConnection, await_only
from chatcore_sql.dialects import base
from chatcore_sql.dialects.base import Dialect, Meaning, Row, on_conflict_replaced, sqlstate_of
from chatcore_sql.functions import HighestFirst, InTurn, InTurnShared, LowestFirst, Now
from chatcore_sql.unreachable import UnfitError

_SESSION = {"timezone": "UTC"}
_LOCK_KEY = 0x63686174636F7265  # "chatcore"
_QUEUES = 0x63686174  # "chat"
_LOST_NAMES = ("26000", "42P05")  # SQLSTATEs: no prepared statement of this name, one already
_FULL = "53300"
_MISSING_REFERENCE = "23503"
_TARGETS = ("any", "read-write", "primary")
_STARTUP = {"application": "application_name", "options": "options"}

# By SQLSTATE, by its first three characters or by its class (PostgreSQL's manual, appendix A).
_MEANINGS: Mapping[str, Meaning] = {
    "08": Meaning.GONE,  # connection; of a pooler all that it says itself
    "25006": Meaning.READ_ONLY,  # read-only transaction: a standby, or set so
    "25P": Meaning.GONE,  # ended after being idle or open for too long
    "25P02": Meaning.MISTAKE,  # in a transaction that has failed
    "26000": Meaning.GONE,  # a prepared statement is missing, or there already: the session is shared
    "42P05": Meaning.GONE,
    "40": Meaning.LATER,  # rolled back
    "40001": Meaning.LOST,  # serialization failure
    "40P01": Meaning.LOST,  # deadlock
    "42": Meaning.MISTAKE,
    "3F000": Meaning.MISSING,  # no such schema, column, table
    "42703": Meaning.MISSING,
    "42P01": Meaning.MISSING,
    "53": Meaning.LATER,  # disk full, out of memory, too many connections
    "55": Meaning.LATER,  # object in use, not in the state for it
    "55P03": Meaning.LOST,  # lock time-out
    "57": Meaning.LATER,  # cancelled, which is how a statement's time ends
    "57P": Meaning.GONE,  # shut down, crashed, starting up, database dropped, idle for too long
    "58": Meaning.GONE,  # the system's error, such as I/O
    "72": Meaning.LATER,  # snapshot too old
    "XX": Meaning.GONE,  # the server's own mistake, or a cloud's proxy
}

_TLS = {
    "ssl": "ssl",
    "mode": "sslmode",
    "ca": "sslrootcert",
    "cert": "sslcert",
    "key": "sslkey",
    "accept": "sslaccept",
    "binding": "channel_binding",
}
_PARAMETERS = {
    **_TLS,
    "host": "host",
    "port": "port",
    "username": "user",
    "password": "password",
    "database": "dbname",
    "application": "application_name",
    "options": "options",
    "schema": "schema",
    "target": "target_session_attrs",
    "negotiation": "sslnegotiation",
    "timeout": "connect_timeout",
    "connections": "connection_limit",
}
_ALIASES = {"currentschema": "schema", "searchpath": "schema", "poolmaxconns": "connections"}
_NEUTRAL = {
    "clientencoding": "utf-?8|unicode",
    "fallbackapplicationname": ".*",
    "gssencmode": "disable|prefer",
    "loadbalancehosts": "disable",
    "loadbalance": ".*",
    "keepalives": ".*",
    "keepalivesidle": ".*",
    "keepalivesinterval": ".*",
    "keepalivescount": ".*",
    "tcpkeepalive": ".*",
    "tcpusertimeout": ".*",
    "asyncfallback": ".*",
    "pgbouncer": ".*",
    "pool": ".*",
    "pooltimeout": ".*",
    "sockettimeout": ".*",
    "sslcompression": "0|false",
    "sslminprotocolversion": r"tlsv1(\.[012])?",
    "sslsni": ".*",
    "statementcachesize": ".*",
    "preparedstatementcachesize": ".*",
    "preparethreshold": ".*",
    "binaryparameters": ".*",
    "defaultqueryexecmode": ".*",
    "uselibpqcompat": ".*",
    "supa": ".*",
    "workaround": ".*",
}
_NO_TLS = {"ssl": False}


class _PostgreSQL(Dialect):
    name = "postgresql"
    driver = "postgresql+asyncpg"
    schemes = ("postgresql", "postgres", "pgsql")
    other_drivers = "asyncpg|psycopg.*|pg8000"

    tls = _TLS
    tls_modes = "disable, prefer, require, verify-ca or verify-full"
    tls_may_be_preferred = True
    no_tls = _NO_TLS
    parameters = _PARAMETERS
    aliases = _ALIASES
    neutral = _NEUTRAL
    port = 5432
    socket = "host"
    several_hosts = True

    takes_changes = select(literal_column("current_setting('transaction_read_only') = 'off'"))

    has_schemas = True
    # All this ends with the transaction: behind a pooler the session is not ours.
    lock = (
        "SET LOCAL lock_timeout = 0",
        "SET LOCAL statement_timeout = 0",
        f"SELECT pg_advisory_xact_lock({_LOCK_KEY})",
    )

    def arguments(self) -> dict[str, Any]:
        return {"timeout": base.CONNECT_TIMEOUT}

    def asked(self, given: Mapping[str, str], connect: Mapping[str, Any]) -> dict[str, Any]:
        settings = {_STARTUP[part]: given[part] for part in _STARTUP if part in given}
        if (schema := given.get("schema", "public")) != "public":
            settings["search_path"] = '"' + schema.replace('"', '""') + '"'
        asked: dict[str, Any] = {"server_settings": settings} if settings else {}
        target = given.get("target") or ("read-write" if len(connect.get("host", ())) > 1 else "any")
        if target not in _TARGETS:
            raise ValueError(f"the URL's target_session_attrs must be {_one_of(_TARGETS)}: chatcore writes")
        if target != "any":
            asked["target_session_attrs"] = target
        negotiation = given.get("negotiation", "postgres")
        if negotiation not in ("postgres", "direct"):
            raise ValueError("the URL's sslnegotiation must be postgres or direct")
        if negotiation == "direct":
            if not isinstance(connect.get("ssl"), SSLContext):
                raise ValueError("the URL's sslnegotiation=direct goes with sslmode=require or a stricter one")
            asked["direct_tls"] = True
        return asked

    def set_up(self, engine: Engine) -> None:
        connector = _Connector(_SESSION, _transaction())
        event.listen(engine, "do_connect", connector)
        event.listen(engine, "handle_error", connector.notice)

    async def fetch(self, connection: Any, text: str, arguments: Sequence[object]) -> Sequence[Row]:
        rows: Sequence[Row] = await connection.dbapi_connection.fetch(text, arguments)
        return rows

    def upsert(self, table: Table) -> Insert:
        return on_conflict_replaced(postgresql.insert(table), table)

    def meaning(self, error: BaseException | None) -> Meaning | None:
        if isinstance(error, STALE):
            return Meaning.LOST
        state = sqlstate_of(error)
        return next((_MEANINGS[part] for part in (state, state[:3], state[:2]) if part in _MEANINGS), None)

    def is_full(self, error: BaseException | None) -> bool:
        return sqlstate_of(error) == _FULL

    def dangles(self, error: BaseException | None) -> bool:
        return sqlstate_of(error) == _MISSING_REFERENCE

    def check_fit(self, connection: Connection) -> None:
        """The encoding is the database's, for all tables. Of MySQL's, each table says its own, and the collations of
        PostgreSQL make no difference: no statement goes by the order or the case of a text."""
        encoding = connection.scalar(select(literal_column("current_setting('server_encoding')")))
        if encoding != "UTF8":
            raise UnfitError(
                f"has the encoding {encoding}, which cannot keep every text. Make one that can, with CREATE DATABASE "
                "name ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0, and name it in the URL; pg_dump and pg_restore "
                "take along what is there."
            )


POSTGRESQL: Dialect = _PostgreSQL()


class _BehindPoolerError(Exception):
    """The server that answers is not the one that greeted."""


class _Connector:
    """Opens connections. Once it has met a pooler it goes on taking what is there for one."""

    def __init__(self, session: Mapping[str, str], transaction: Mapping[str, str]) -> None:
        self._session = "; ".join(f"SET {name} = '{value}'" for name, value in {**session, **transaction}.items())
        self._local = "".join(f"; SET LOCAL {name} = '{value}'" for name, value in transaction.items())
        self._pooled = False

    def __call__(
        self, dialect: SQLAlchemyDialect, _record: object, arguments: Sequence[Any], options: dict[str, Any]
    ) -> Any:
        return await_only(self._open(dialect.loaded_dbapi, options))

    def notice(self, context: ExceptionContext) -> None:
        """A pooler may greet as the server does; but it loses names, or has them from others."""
        if getattr(context.original_exception, "sqlstate", None) in _LOST_NAMES:
            self._pooled = True

    async def _open(self, dbapi: Any, options: Mapping[str, Any]) -> PostgresConnection:
        if not self._pooled:
            try:
                return await PostgresConnection.create(dbapi, self._directly(dbapi, options))
            except _BehindPoolerError:
                self._pooled = True
        pooled = dbapi.asyncpg.connect(**options, statement_cache_size=0)  # which means: no names
        return await PostgresConnection.create(dbapi, pooled, local=self._local)

    async def _directly(self, dbapi: Any, options: Mapping[str, Any]) -> Any:
        connection = await dbapi.asyncpg.connect(**options)
        try:
            await self._prepare_session(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _prepare_session(self, connection: Any) -> None:
        """Raise `_BehindPoolerError`.

        The greeting has the number of a process, by which a statement can be cancelled. A pooler has numbers of its
        own, since the server's change. Neither question is a prepared statement, which a pooler would keep.
        """
        number = connection.get_server_pid()
        if await connection.execute(f"SELECT 1 WHERE pg_backend_pid() = {number}") != "SELECT 1":
            raise _BehindPoolerError
        await connection.execute(self._session)


def _transaction() -> Mapping[str, str]:
    """Settings that hold in every transaction."""
    return {
        "idle_in_transaction_session_timeout": f"{base.IDLE_TIMEOUT}s",
        "lock_timeout": f"{base.LOCK_TIMEOUT}s",
        "statement_timeout": f"{base.STATEMENT_TIMEOUT}s",
        # One plan whatever the values. Where one owner has nearly everything, the plan for that owner walks the primary
        # key in search of their rows.
        "plan_cache_mode": "force_generic_plan",
    }


def _one_of(words: Sequence[str]) -> str:
    return " or ".join((", ".join(words[:-1]), words[-1]))


@compiles(Now, "postgresql")
def _now(*_: Any, **__: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"


@compiles(InTurn, "postgresql")
def _queued(element: InTurn, compiler: SQLCompiler, **options: Any) -> str:
    """In a query of its own, so that it is asked once, before any row is looked at."""
    owner = compiler.process(element.clauses, **options)
    shared = "_shared" if isinstance(element, InTurnShared) else ""
    return f"(SELECT pg_advisory_xact_lock{shared}({_QUEUES}, mod({owner}, 2147483648)::int) IS NOT NULL)"


@compiles(HighestFirst, "postgresql")
def _nulls_last(element: HighestFirst, compiler: SQLCompiler, **options: Any) -> str:
    return f"{compiler.process(element.clauses, **options)} DESC NULLS LAST"


@compiles(LowestFirst, "postgresql")
def _nulls_first(element: LowestFirst, compiler: SQLCompiler, **options: Any) -> str:
    return f"{compiler.process(element.clauses, **options)} NULLS FIRST"
