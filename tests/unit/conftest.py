from collections.abc import AsyncIterator

import pytest

from unit.world import Chat, Process, World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def process(world: World) -> AsyncIterator[Process]:
    async with world.process() as process:
        yield process


@pytest.fixture
async def chat(process: Process) -> Chat:
    return await process.chat()
