"""How a command runs the use cases: in a container of its own, as the server has one."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from dishka import AsyncContainer

from chatcore_app import Settings, make_container

T = TypeVar("T")


def run(work: Callable[[AsyncContainer], Awaitable[T]]) -> T:
    async def run() -> T:
        container = make_container(Settings.load())
        try:
            return await work(container)
        finally:
            await container.close()

    return asyncio.run(run())
