"""The clients, which `make clients` installs. Where one is missing its tests are skipped; in CI they fail."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.running import mark_of
from integration.databases import migrated_database


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.once)


@pytest.fixture(autouse=True)
def installed(request: pytest.FixtureRequest) -> None:
    """A test names the environments that it needs: `@pytest.mark.needs("npm")`."""
    for mark in request.node.iter_markers("needs"):
        for environment in mark.args:
            if not mark_of(environment).exists():
                problem = f"The clients in {environment} are not installed. Run: make clients"
                pytest.fail(problem) if os.environ.get("CI") else pytest.skip(problem)


@pytest.fixture(scope="module")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A migrated database for several workers."""
    with migrated_database("mysql", tmp_path_factory.mktemp("databases")) as url:
        yield url
