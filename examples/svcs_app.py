"""svcs: a registry that opens one `Chat`, and gives each request its user's part of it."""

# pyright: reportUnknownMemberType=false

import asyncio
from collections.abc import AsyncGenerator

import svcs

from chatcore import Chat, Mine
from chatcore_demo import DEMO_ENDPOINT, DemoModel
from chatcore_sql import Database


class CurrentUser(str):
    """The program's own id of the one who asks."""

    __slots__ = ()


async def mine(services: svcs.Container) -> Mine:
    return await (await services.aget(Chat)).of(await services.aget(CurrentUser))


async def opened() -> AsyncGenerator[svcs.Registry, None]:
    async with (
        Chat(store=Database("sqlite:///chat.db"), gateway=DemoModel(), model=DEMO_ENDPOINT) as chat,
        svcs.Registry() as registry,
    ):
        registry.register_value(Chat, chat)
        registry.register_factory(Mine, mine)
        yield registry


async def main() -> None:
    async for registry in opened():
        async with svcs.Container(registry) as request:
            request.register_local_value(CurrentUser, CurrentUser("alice"))
            me = await request.aget(Mine)
            sent = await me.send("Why is the sky blue?")
            print((await (await me.reply(sent.conversation_id)).ended()).content)


if __name__ == "__main__":
    asyncio.run(main())
