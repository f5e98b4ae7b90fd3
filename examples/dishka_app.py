"""dishka: one `Chat` for the program, and `Mine` for each request."""

import asyncio
from collections.abc import AsyncIterable
from typing import NewType

from dishka import (
    Provider,
    Scope,
    from_context,
    make_async_container,
    provide,  # pyright: ignore[reportUnknownVariableType]
)

from chatcore import Chat, Mine
from chatcore_demo import DEMO_ENDPOINT, DemoModel
from chatcore_sql import Database

CurrentUser = NewType("CurrentUser", str)


class Talking(Provider):
    user = from_context(CurrentUser, scope=Scope.REQUEST)

    @provide(scope=Scope.APP)
    async def chat(self) -> AsyncIterable[Chat]:
        async with Chat(store=Database("sqlite:///chat.db"), gateway=DemoModel(), model=DEMO_ENDPOINT) as chat:
            yield chat

    @provide(scope=Scope.REQUEST)
    async def mine(self, chat: Chat, user: CurrentUser) -> Mine:
        return await chat.of(user)


async def main() -> None:
    container = make_async_container(Talking())
    async with container(context={CurrentUser: CurrentUser("alice")}) as request:
        me = await request.get(Mine)
        sent = await me.send("Why is the sky blue?")
        print((await (await me.reply(sent.conversation_id)).ended()).content)
    await container.close()


if __name__ == "__main__":
    asyncio.run(main())
