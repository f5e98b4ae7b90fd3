"""A text that the database refuses, for whatever reason of its own, fails its own reply and no other."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from chatcore.ports import LLMGateway, UnitOfWorkFactory
from chatcore_memory import ScriptedModel, Stall
from chatcore_sql import Database
from integration.databases import execute
from integration.http_app import EVENTS, api_of, provided, settings_for

TABLES = ("reply_log", "text"), ("messages", "content")


@pytest.fixture
def refusing(database_url: str) -> Iterator[None]:
    """The database takes no text with this word in it."""
    sqlite = make_url(database_url).get_backend_name() == "sqlite"
    for table, column in TABLES:
        asyncio.run(execute(database_url, _trigger(table, column) if sqlite else _check(table, column)))
    yield
    for table, _ in TABLES:
        drop = f"DROP TRIGGER refuse_{table}" if sqlite else f"ALTER TABLE {table} DROP CONSTRAINT refuse_{table}"
        asyncio.run(execute(database_url, drop))


def _trigger(table: str, column: str) -> str:
    return (
        f"CREATE TRIGGER refuse_{table} BEFORE {'INSERT' if table == 'reply_log' else 'UPDATE'} ON {table} "
        f"WHEN NEW.{column} LIKE '%unspeakable%' BEGIN SELECT RAISE(ABORT, 'refused'); END"
    )


def _check(table: str, column: str) -> str:
    return f"ALTER TABLE {table} ADD CONSTRAINT refuse_{table} CHECK ({column} NOT LIKE '%%unspeakable%%')"


@pytest.mark.usefixtures("refusing")
@pytest.mark.parametrize("goes_on", [True, False], ids=["in the log", "at its end"])
async def test_a_refused_text_fails_its_reply_alone(database_url: str, tmp_path: Path, goes_on: bool) -> None:
    model = ScriptedModel()
    async with Database(database_url) as database:
        given = provided(LLMGateway, model), provided(UnitOfWorkFactory, database.unit_of_work)
        async with api_of(settings_for(tmp_path), *given) as stranger:
            ada, bob = await stranger.user(), await stranger.user()
            theirs, ours = await bob.conversation(), await ada.conversation()
            stall = Stall()
            model.then("Hel", stall, "lo")
            model.then("unspeakable", *([Stall()] if goes_on else []))
            async with bob.events(f"/conversations/{theirs}/chat", {"content": "Hi"}, EVENTS) as events:
                await events.until("Hel")
                chat = ada.events(f"/conversations/{ours}/chat", {"content": "Hi"}, EVENTS)
                async with asyncio.timeout(20), chat as failing:
                    end = (await failing.rest())[-1]
                assert (end.type, end.data["code"]) == ("reply.failed", "internal")
                assert (await ada.messages(ours))[-1] == end.data["message"]
                assert end.data["message"]["content"] == ""
                stall.release()
                assert (await events.rest())[-1].type == "reply.completed"
            model.then("Hello")
            answer = (await ada.post(f"/conversations/{ours}/chat", {"content": "Hi"})).ok()
            assert answer["reply"]["content"] == "Hello"
            model.then("unspeakable")
            (await ada.post(f"/conversations/{ours}/chat", {"content": "Hi"})).problem(
                500, "internal", more=frozenset({"reply_id"})
            )
