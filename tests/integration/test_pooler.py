"""PostgreSQL behind a pooler in transaction mode, which has fewer connections of the server than we have of it, and
gives each transaction another one. The storage contracts run on it in test_sql_contracts.py."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest
from sqlalchemy import text

from chatcore.errors import Unavailable
from chatcore.ports import LLMGateway
from chatcore_memory import ScriptedModel, Stall
from chatcore_sql import Database
from chatcore_sql.dialects import postgresql
from chatcore_sql.statements import SingleReads, Transaction
from chatcore_testing.contracts.storage.base import stored_conversation, stored_user, the_conversation
from integration.databases import POOLER, behind_a_pooler, empty, execute, new_database
from integration.http_app import EVENTS, Api, api_of, provided, settings_for, text_of
from integration.processes import run

pooled = pytest.mark.parametrize("database_url", [behind_a_pooler], indirect=True)
on_postgresql = pytest.mark.parametrize(
    "database_url", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True
)

SETTINGS = {
    "idle_in_transaction_session_timeout": "5s",
    "lock_timeout": "5s",
    "plan_cache_mode": "force_generic_plan",
    "statement_timeout": "35s",
    "transaction_isolation": "read committed",
}
_SHOW = text("SELECT " + ", ".join(f"current_setting('{name}')" for name in SETTINGS))
_SERVER = text("SELECT pg_backend_pid()")
_PREPARED = text("SELECT COUNT(*) FROM pg_prepared_statements")


@pytest.fixture
def empty_url(tmp_path: Path) -> Iterator[str]:
    """Not migrated."""
    with new_database(POOLER, tmp_path) as url:
        yield url


# ---- migrations ------------------------------------------------------------------------------------------


@pytest.mark.postgresql
async def test_two_commands_that_migrate_at_once_through_it(empty_url: str, tmp_path: Path) -> None:
    ended = await asyncio.gather(*(run(tmp_path, "migrate", DATABASE_URL=empty_url) for _ in range(2)))
    assert [(each.code, each.stderr) for each in ended] == [(0, "")] * 2
    async with Database(empty_url) as database:
        assert await database.is_migrated()


@pytest.mark.postgresql
async def test_a_migration_that_fails_leaves_the_lock_to_others(empty_url: str) -> None:
    await execute(empty_url, "CREATE TABLE users (id INTEGER)")
    async with Database(empty_url) as database:
        with pytest.raises(Exception, match="users"):
            await database.migrate()
        assert not await database.is_migrated()
        await execute(empty_url, "DROP TABLE users")
        await asyncio.gather(database.migrate(), database.migrate())
        assert await database.is_migrated()


# ---- what is assumed of a connection ---------------------------------------------------------------------


@pooled
async def test_each_transaction_says_what_holds_for_it_and_leaves_nothing_behind(database: Database) -> None:
    await asyncio.gather(*(stored_user(database.unit_of_work, f"user{number}") for number in range(8)))
    transaction = Transaction(database._writing, "BEGIN")
    said = await transaction.first(_SHOW)
    assert said is not None
    assert dict(zip(SETTINGS, said, strict=True)) == SETTINGS
    await transaction.commit()
    reads = SingleReads(database._reading)
    found = [await reads.first(_SHOW) for _ in range(6)]
    assert all(each is not None and each[1] == "0" for each in found)
    assert [await reads.first(_PREPARED) for _ in range(6)] == [(0,)] * 6


@on_postgresql
async def test_without_one_a_session_has_them_and_statements_have_names(database: Database) -> None:
    await stored_user(database.unit_of_work, "ada")
    reads = SingleReads(database._reading)
    found = await reads.first(_SHOW)
    assert found is not None
    assert dict(zip(SETTINGS, found, strict=True)) == SETTINGS
    assert (await reads.first(_PREPARED)) != (0,)


@pooled
async def test_what_runs_at_once_runs_on_servers_that_others_have_used(database: Database) -> None:
    users = await asyncio.gather(*(stored_user(database.unit_of_work, f"user{number}") for number in range(12)))
    reads = SingleReads(database._reading)
    assert len({(await reads.first(_SERVER) or (0,))[0] for _ in range(9)}) > 1

    async def converse(number: int) -> None:
        conversation = await stored_conversation(database.unit_of_work, users[number % 12], str(number))
        assert await the_conversation(database.unit_of_work, conversation) == conversation

    await asyncio.gather(*(converse(number) for number in range(120)))


@pooled
async def test_a_statement_is_described_once_for_each_connection(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it takes one round trip, as it does without a pooler."""
    await empty(database_url)
    described = list[str]()
    prepare: Any = asyncpg.Connection._get_statement

    async def counted(connection: Any, query: str, *args: Any, **options: Any) -> Any:
        described.append(query)
        return await prepare(connection, query, *args, **options)

    async with Database(database_url, pool_size=1) as database:
        for name in ("ada", "grace", "joan"):
            user = await stored_user(database.unit_of_work, name)
            conversation = await stored_conversation(database.unit_of_work, user)
            assert await the_conversation(database.unit_of_work, conversation) == conversation
            assert name == "ada" or described == []
            monkeypatch.setattr(asyncpg.Connection, "_get_statement", counted)


@pooled
async def test_a_pooler_that_greets_as_the_server_does_is_noticed_when_it_loses_a_name(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = await asyncio.gather(*(stored_user(database.unit_of_work, f"user{number}") for number in range(8)))

    async def taken_for_the_server(*_: object) -> None:
        pass

    monkeypatch.setattr(postgresql._Connector, "_prepare_session", taken_for_the_server)
    async with Database(database_url, pool_size=1) as mistaken:

        async def store_all() -> None:
            for user in users:
                await stored_conversation(mistaken.unit_of_work, user)

        with pytest.raises(Unavailable):
            await store_all()
        await store_all()


# ---- over HTTP -------------------------------------------------------------------------------------------


@pytest.fixture
def stall() -> Iterator[Stall]:
    stall = Stall()
    yield stall
    stall.release()


@pytest.fixture
async def clients(database_url: str, tmp_path: Path, stall: Stall) -> AsyncIterator[tuple[Api, Api]]:
    """One user's, of two servers that share the database."""
    await empty(database_url)
    (tmp_path / "other").mkdir()
    settings = settings_for(tmp_path, DATABASE_URL=database_url, JWT_SECRET_KEY="x" * 32)
    other = settings_for(tmp_path / "other", DATABASE_URL=database_url, JWT_SECRET_KEY="x" * 32)
    model = ScriptedModel("Hel", stall, "lo")
    async with api_of(settings, provided(LLMGateway, model)) as one, api_of(other, provided(LLMGateway, model)) as two:
        tokens = await one.register("ada")
        yield one.with_token(tokens["access_token"]), two.with_token(tokens["access_token"])


@pooled
async def test_a_chat_is_streamed_and_read_again_on_another_server(clients: tuple[Api, Api], stall: Stall) -> None:
    here, there = clients
    path = f"/conversations/{await here.conversation()}"
    async with here.events(f"{path}/chat", {"content": "Hi"}, EVENTS) as events:
        await events.until("Hel")
        async with there.events(f"{path}/reply?after=1") as resumed:
            await resumed.until("el")
            stall.release()
            assert (await resumed.rest())[-1].data["message"]["content"] == "Hello"
        assert text_of(await events.rest()) == "lo"
    assert (await there.post(f"{path}/chat", {"content": "And?"})).ok()["reply"]["content"] == "Hello"


@pooled
async def test_a_reply_is_stopped_by_another_server(clients: tuple[Api, Api]) -> None:
    here, there = clients
    path = f"/conversations/{await here.conversation()}"
    async with here.events(f"{path}/chat", {"content": "Hi"}, EVENTS) as events:
        await events.until("Hel")
        stopped = (await there.post(f"{path}/stop")).ok()
        end = (await events.rest())[-1]
    assert (stopped["content"], stopped["status"]) == ("Hel", "stopped")
    assert end.type == "reply.stopped"
    assert (await here.messages(int(path.rpartition("/")[2])))[-1] == stopped
