"""A process of a program that bills replies: it sends so many at once, and says the id of each that is stored."""

import asyncio
import random
import sys

from billing import Billing  # examples/billing.py
from chatcore import Chat
from chatcore_demo import DEMO_ENDPOINT, DemoModel
from chatcore_sql import Database

AT_ONCE = 10


async def main(url: str, replies: int, pause: float) -> None:
    database, model = Database(url), DemoModel(pause=pause)
    async with Chat(store=database, gateway=model, model=DEMO_ENDPOINT, hooks=Billing(), lease=2) as chat:
        me, places = await chat.of("alice"), asyncio.Semaphore(AT_ONCE)

        async def answered() -> None:
            async with places:
                sent = await me.send(" ".join(["word"] * random.randint(1, 30)))
                print(sent.reply.id, flush=True)
                await (await me.reply(sent.conversation_id)).ended()

        await asyncio.gather(*(answered() for _ in range(replies)))
        print("all", flush=True)
        await asyncio.to_thread(sys.stdin.read)  # what dead processes have left is ended meanwhile


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
