"""The pytest plugin: fixtures for tests of a program that embeds chatcore.

pytest loads it whenever it starts. It imports chatcore when a test asks for one of its fixtures.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from chatcore import Chat, Mine
    from chatcore.ports import Store
    from chatcore_memory import HandClock, ScriptedModel
    from chatcore_sql import Database

_OF_ASYNCIO, _OF_ANYIO = "_chat_of_asyncio", "_chat_of_anyio"

pytest.register_assert_rewrite("chatcore_testing.contracts")


def pytest_addoption(parser: pytest.Parser) -> None:
    told = "URL of the database of the fixture chat_database, which is migrated and kept; a SQLite file by default"
    parser.getgroup("chatcore").addoption("--chat-database-url", help=told)
    parser.addini("chat_database_url", told)


def pytest_configure(config: pytest.Config) -> None:
    """Give each plugin that runs async tests an open `Chat` on its loop."""
    fixtures = ModuleType("chatcore_testing.opened")
    setattr(fixtures, _OF_ANYIO, pytest.fixture(_opened))
    if config.pluginmanager.hasplugin("asyncio"):
        import pytest_asyncio

        setattr(fixtures, _OF_ASYNCIO, pytest_asyncio.fixture(_opened))
    config.pluginmanager.register(fixtures, fixtures.__name__)


async def _opened(
    chat_store: "Store", chat_model: "ScriptedModel", chat_clock: "HandClock"
) -> AsyncGenerator[tuple["Chat", "Mine"], None]:
    from chatcore import Chat, ModelEndpoint

    model = ModelEndpoint(url="http://model.test/v1", model="scripted", api_key="sk-test", trusted=True)
    async with Chat(store=chat_store, gateway=chat_model, model=model, clock=chat_clock, grace=0) as chat:
        yield chat, await chat.of("me")


@pytest.fixture
def _chat(request: pytest.FixtureRequest) -> Any:
    if "anyio_backend" in request.fixturenames:
        return request.getfixturevalue(_OF_ANYIO)
    if request.config.pluginmanager.hasplugin("asyncio"):
        return request.getfixturevalue(_OF_ASYNCIO)
    raise pytest.UsageError("The fixtures chat and me need an async test, with pytest-asyncio or with anyio's plugin.")


@pytest.fixture
def chat_clock() -> "HandClock":
    """A clock that stands still: `chat_clock.advance(60)`."""
    from chatcore_memory import HandClock

    return HandClock()


@pytest.fixture
def chat_model() -> "ScriptedModel":
    """A model that says "Hello": `chat_model.then("Hel", ModelTimeout())` is its next answer."""
    from chatcore_memory import ScriptedModel

    return ScriptedModel("Hello")


@pytest.fixture
def chat_store(chat_clock: "HandClock") -> "Store":
    """A store in memory. Override it with one of your own, such as `chat_database`."""
    from chatcore_memory import MemoryDatabase

    return MemoryDatabase(chat_clock)


@pytest.fixture
def chat(_chat: tuple["Chat", "Mine"]) -> "Chat":
    """An open `Chat` on `chat_store`, with `chat_model` and `chat_clock`."""
    return _chat[0]


@pytest.fixture
def me(_chat: tuple["Chat", "Mine"]) -> "Mine":
    """What the user `me` of `chat` has."""
    return _chat[1]


@pytest.fixture
def chat_outage(chat_store: Any) -> Callable[[], AbstractContextManager[None]]:
    """`with chat_outage():` the store is gone, and each use of it raises `Unavailable`."""
    outage: Callable[[], AbstractContextManager[None]] = chat_store.outage
    return outage


@pytest.fixture(scope="session")
def _chat_migrated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str | Path:
    """The URL of a migrated database, or a SQLite file to copy."""
    import asyncio

    from chatcore_sql import Database

    config = request.config
    given = config.getoption("--chat-database-url") or config.getini("chat_database_url")
    file = tmp_path_factory.mktemp("chatcore") / "chat.db"

    async def migrate() -> None:
        async with Database(given or f"sqlite:///{file}") as database:
            await database.migrate()

    asyncio.run(migrate())
    return given or file


@pytest.fixture
def chat_database(_chat_migrated: str | Path, tmp_path: Path) -> "Database":
    """A migrated database, which `Chat` opens: an empty SQLite file, or what `--chat-database-url` names, in which the
    rows of other tests stay."""
    from shutil import copyfile

    from chatcore_sql import Database

    if isinstance(_chat_migrated, str):
        return Database(_chat_migrated)
    copyfile(_chat_migrated, tmp_path / "chat.db")
    return Database(f"sqlite:///{tmp_path}/chat.db")
