"""Databases that were made with another encoding, or another order of texts, than those of the other tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chatcore_sql import Database
from chatcore_testing.contracts.storage.base import NOW, add_message, add_user
from integration.databases import execute, new_database
from integration.processes import run
from integration.test_http_command import check_sentence


def of(kind: str, options: str) -> object:
    return pytest.param((kind, options), marks=getattr(pytest.mark, kind), id=options or kind)


HANDLED = [
    of("mysql", "CHARACTER SET latin1"),
    of("mysql", "CHARACTER SET utf8 COLLATE utf8_general_ci"),
    of("postgresql", "ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"),
    of("postgresql", "ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'de-DE' LOCALE 'C' TEMPLATE template0"),
]
REFUSED = [
    of("postgresql", f"ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    for encoding in ("SQL_ASCII", "LATIN1")
]
OTHER_CHARACTER_SETS = (
    "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = DATABASE() "
    "AND table_name <> 'chatcore_version' AND character_set_name <> 'utf8mb4'"
)
NAMES = ["Zoë", "Ärger", "ada", "Ada.B", "ÉMILE", "ΟΔΟΣ", "🦄"]


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    kind, options = request.param
    with new_database(kind, tmp_path, options) as url:
        yield url


@pytest.mark.parametrize("url", HANDLED, indirect=True)
async def test_what_a_database_was_made_with_makes_no_difference(url: str) -> None:
    async with Database(url) as database:
        await database.migrate()
        await texts_are_kept_and_found(database)
    if url.startswith("mysql"):
        assert await execute(url, OTHER_CHARACTER_SETS) == []


async def texts_are_kept_and_found(database: Database) -> None:
    async with database.unit_of_work() as work:
        for name in NAMES:
            user = await add_user(work, name)
            conversation = await work.conversations.add(user.id, title=f"{name} 🦄", config_id=None, now=NOW)
            await add_message(work, conversation, content=f"{name}: 日本語 🦄" * 64)
        await work.commit()
    async with database.unit_of_work(read_only=True) as work:
        for text, names in (("ada", {"ada", "Ada.B"}), ("äR", {"Ärger"}), ("é", {"ÉMILE"}), ("οδος", {"ΟΔΟΣ"})):
            assert {each.username for each in await work.administration.users(containing=text, limit=9)} == names
        for name in NAMES:
            found = await work.users.find(name.swapcase())
            assert found is not None
            assert found.username == name
            titled = await work.conversations.titled(found.id, name.swapcase(), before=None, limit=9, within=9)
            assert [each.title for each in titled.items] == [f"{name} 🦄"]
            history = await work.messages.history(found.id, titled.items[0].id, limit=9)
            assert history is not None
            assert [each.content for each in history[1]] == [f"{name}: 日本語 🦄" * 64]


@pytest.mark.parametrize("url", REFUSED, indirect=True)
async def test_a_database_that_cannot_keep_every_text_is_refused_when_it_is_migrated(url: str, tmp_path: Path) -> None:
    ended = await run(tmp_path, "migrate", DATABASE_URL=url)
    check_sentence(ended, "DATABASE_URL: the database ", "has the encoding ", "CREATE DATABASE name ENCODING 'UTF8'")
    assert await execute(url, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []


@pytest.mark.parametrize("url", [of("postgresql", "")], indirect=True)
async def test_what_a_database_refuses_to_change_is_said_in_a_sentence(url: str, tmp_path: Path) -> None:
    ended = await run(tmp_path, "migrate", DATABASE_URL=f"{url}?schema=nowhere")
    check_sentence(ended, "DATABASE_URL: the database ", "no schema has been selected to create in")
