"""The storage contracts on SQLite in tables with a prefix, on MySQL (or MariaDB), on PostgreSQL, and on that behind a
pooler in a schema of its own."""

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import pytest
from sqlalchemy import Insert, event

from chatcore.storage import MAX_STORAGE_BYTES
from chatcore_sql import Database
from chatcore_sql.tables import messages
from chatcore_testing import StoreContract
from integration.databases import POOLER, behind_a_pooler, empty, migrated_database, on_each

NAMES: dict[str, dict[str, str]] = {"sqlite": {"prefix": "chat_"}, POOLER: {"prefix": "chat_", "schema": "talk"}}
"""Where the tables are not called what they are called in the rest of the tests."""
PLACES = [
    pytest.param((each.values[0], NAMES.get(str(each.values[0]), {})), id=str(each.values[0]), marks=each.marks)
    for each in (*on_each, behind_a_pooler)
]
pytestmark = [pytest.mark.contract, pytest.mark.parametrize("place", PLACES, indirect=True, scope="module")]

Place = tuple[str, dict[str, Any]]
"""A URL, and what `Database` is told of the tables' names."""


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    kind, names = request.param
    with migrated_database(kind, tmp_path_factory.mktemp("databases"), **names) as url:
        yield url, names


class TestStore(StoreContract):
    @pytest.fixture(autouse=True)
    def at(self, place: Place) -> None:
        self.url, self.names = place

    async def store(self, max_storage: int = MAX_STORAGE_BYTES) -> AsyncIterator[Database]:
        await empty(self.url, **self.names)
        async with Database(self.url, max_storage=max_storage, **self.names) as database:
            yield database

    def limited_store(self, most: int) -> AsyncIterator[Database]:
        return self.store(most)

    async def numbered_store(self, ids: Iterable[int]) -> AsyncIterator[Database]:
        following = iter(ids)

        def numbered(_: object, statement: object, several: Any, values: dict[str, Any], options: object) -> Any:
            if isinstance(statement, Insert) and statement.table is messages:
                values = {**values, "id": next(following)}
            return statement, several, values

        await empty(self.url, **self.names)
        async with Database(self.url, **self.names) as database:
            event.listen(database._writing.engine, "before_execute", numbered, retval=True)
            yield database
