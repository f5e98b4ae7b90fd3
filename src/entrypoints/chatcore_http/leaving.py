"""Work that its client waits for, and that is of no use to anybody else."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from litestar.types import Receive

from chatcore.shielding import ended
from chatcore_http.errors import ClientLeft


@asynccontextmanager
async def while_connected(receive: Receive) -> AsyncGenerator[None, None]:
    """Cancel the block when the client leaves, and raise `ClientLeft`. The request's body must have been read."""
    lifetime = asyncio.timeout(None)

    def leave(_: object) -> None:
        lifetime.reschedule(0)

    try:
        async with lifetime:
            leaving = asyncio.create_task(left(receive))
            leaving.add_done_callback(leave)
            try:
                yield
            finally:
                leaving.remove_done_callback(leave)
                await ended(leaving)
    except TimeoutError:
        if not lifetime.expired():
            raise
        raise ClientLeft from None


async def left(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
