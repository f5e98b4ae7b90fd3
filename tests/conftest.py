"""For all tests."""

import logging
from collections.abc import Iterator

import pytest
import structlog

import raised
from chatcore_testing.normalising import lengths_normalised

raised.hear()


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A test may configure logging as the server does; the next one shall not notice."""
    root = logging.getLogger()
    handlers = list(root.handlers)
    structured = structlog.get_config()
    levels = {logger: logger.level for logger in (root, *map(logging.getLogger, root.manager.loggerDict))}
    yield
    structlog.configure(**structured)
    root.handlers = handlers
    for logger in (root, *map(logging.getLogger, root.manager.loggerDict)):
        logger.setLevel(levels.get(logger, logging.NOTSET))


@pytest.fixture
def normalised() -> Iterator[list[int]]:
    """The lengths of the texts that are normalised."""
    with lengths_normalised() as lengths:
        yield lengths
