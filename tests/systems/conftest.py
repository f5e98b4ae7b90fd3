"""What the tests of the systems share: databases, and a model that says what it is told to."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from integration.databases import KINDS, migrated_database
from integration.model_server import ModelServer


@pytest.fixture(scope="module", params=KINDS)
def database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A migrated database of each kind, one for the tests of a module."""
    with migrated_database(request.param, tmp_path_factory.mktemp("databases")) as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


@pytest.fixture
def jq() -> None:
    """The program. Where it is missing the test is skipped; in CI it fails."""
    if not shutil.which("jq"):
        problem = "no jq here: the package of this name has it"
        pytest.fail(problem) if os.environ.get("CI") else pytest.skip(problem)
