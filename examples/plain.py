"""A plain program: send a message, and print the reply as it is written."""

import asyncio

from chatcore import Chat
from chatcore_demo import DEMO_ENDPOINT, DemoModel
from chatcore_sql import Database


async def main() -> None:
    async with Chat(store=Database("sqlite:///chat.db"), gateway=DemoModel(), model=DEMO_ENDPOINT) as chat:
        me = await chat.of("alice")
        sent = await me.send("Why is the sky blue?")
        async for text in (await me.reply(sent.conversation_id)).text():
            print(text, end="", flush=True)


asyncio.run(main())
