"""The databases that tests run on, and the application on each of them with its first users."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from chatcore.ports import LLMGateway
from chatcore_memory import ScriptedModel
from chatcore_sql import Database
from integration.databases import empty, migrated_database, on_each
from integration.http_app import Api, CurrentModel, api_of, provided, settings_for

_CURRENT = CurrentModel()


@pytest.fixture(scope="module", params=on_each)
def database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A migrated database of each kind, which the tests of a module share: each has users of its own, or empties it."""
    with migrated_database(request.param, tmp_path_factory.mktemp("databases")) as url:
        yield url


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open one, and empty."""
    await empty(database_url)
    async with Database(database_url, pool_size=4) as database:
        yield database


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stranger(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """A client of the application, which serves all tests of the module."""
    settings = settings_for(tmp_path_factory.mktemp("data"), DATABASE_URL=database_url, SHUTDOWN_GRACE="1")
    async with api_of(settings, provided(LLMGateway, _CURRENT)) as api:
        yield api


@pytest.fixture
def model() -> ScriptedModel:
    """The application's, for this test."""
    return ScriptedModel("Hello")


@pytest_asyncio.fixture(loop_scope="module")
async def ada(stranger: Api, model: ScriptedModel) -> Api:
    """A new user, who talks with the model."""
    _CURRENT.model = model
    return await stranger.user()


@pytest_asyncio.fixture(loop_scope="module")
async def conversation(ada: Api) -> int:
    """A new one of hers."""
    return await ada.conversation()
