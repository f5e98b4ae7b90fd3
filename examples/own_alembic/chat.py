"""The project's tables and chatcore's, which its own Alembic has made."""

import asyncio
import os

from chatcore import Chat
from chatcore_demo import DEMO_ENDPOINT, DemoModel
from chatcore_sql import Database


async def main() -> None:
    database = Database(os.environ["DATABASE_URL"], prefix="chat_")
    async with Chat(store=database, gateway=DemoModel(), model=DEMO_ENDPOINT, migrate=False) as chat:
        me = await chat.of("alice")
        sent = await me.send("Hello from a project with migrations of its own")
        print((await (await me.reply(sent.conversation_id)).ended()).content)


asyncio.run(main())
