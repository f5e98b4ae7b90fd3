"""An outbox of bills: a row for each reply, in the transaction that stores its end, whichever process that is."""

import asyncio
import os

from sqlalchemy import text

from chatcore import Chat, Hooks, HookWork, Message, Turn
from chatcore_demo import DEMO_ENDPOINT, DemoModel
from chatcore_sql import Database

COLUMNS = "reply BIGINT NOT NULL, payer VARCHAR(255) NOT NULL, letters INTEGER NOT NULL"
TABLE = f"CREATE TABLE IF NOT EXISTS bills ({COLUMNS})"
BILL = text("INSERT INTO bills (reply, payer, letters) VALUES (:reply, :payer, :letters)")


class Billing(Hooks):
    async def ended(self, work: HookWork, turn: Turn, reply: Message) -> None:
        await work.execute(BILL, {"reply": reply.id, "payer": turn.user, "letters": len(reply.content)})


async def main() -> None:
    database = Database(os.environ["DATABASE_URL"])
    async with Chat(store=database, gateway=DemoModel(), model=DEMO_ENDPOINT, hooks=Billing()) as chat:
        async with database.unit_of_work() as work:
            await work.execute(text(TABLE))
            await work.commit()
        me = await chat.of("alice")
        sent = await me.send("What does this cost?")
        reply = await (await me.reply(sent.conversation_id)).ended()
        async with database.unit_of_work() as work:
            print(await work.execute(text("SELECT payer, letters FROM bills WHERE reply = :id"), {"id": reply.id}))


if __name__ == "__main__":
    asyncio.run(main())
