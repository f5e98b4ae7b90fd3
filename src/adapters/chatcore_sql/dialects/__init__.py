"""The kinds of databases: what differs between them is in their modules, and nowhere else."""

from collections.abc import Mapping

from sqlalchemy import Connection, Engine

from chatcore_sql.dialects.base import Dialect as Dialect
from chatcore_sql.dialects.mysql import MYSQL
from chatcore_sql.dialects.postgresql import POSTGRESQL
from chatcore_sql.dialects.sqlite import SQLITE

DIALECTS: Mapping[str, Dialect] = {each.name: each for each in (SQLITE, MYSQL, POSTGRESQL)}


_ALSO = {"mariadb": MYSQL.name}
"""SQLAlchemy's other names for one of these."""


def dialect_named(name: str) -> Dialect:
    """`name`: SQLAlchemy's."""
    return DIALECTS[_ALSO.get(name, name)]


def dialect_of(place: Connection | Engine) -> Dialect:
    return DIALECTS[place.dialect.name]
