"""A ticket and its first message, stored by one commit; the reply begins after it."""

import asyncio
import os

from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from chatcore import Chat
from chatcore_demo import DEMO_ENDPOINT, DemoModel
from chatcore_sql import Database


class Base(DeclarativeBase):
    pass


class Ticket(Base):
    __tablename__ = "tickets"
    id: Mapped[int] = mapped_column(primary_key=True)
    conversation: Mapped[int]


async def main() -> None:
    engine = create_async_engine(os.environ["DATABASE_URL"])
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    database = Database(engine, prefix="chat_")
    async with Chat(store=database, gateway=DemoModel(), model=DEMO_ENDPOINT) as chat:
        me = await chat.of("alice")
        async with AsyncSession(engine, expire_on_commit=False) as session:
            sent = await me.within(database.within(session)).send("My printer is on fire.")
            ticket = Ticket(conversation=sent.conversation_id)
            session.add(ticket)
            await session.commit()
            print((await (await me.reply(ticket.conversation)).ended()).content)
        async with AsyncSession(engine) as session:
            await me.within(database.within(session)).send("It has gone out.")
            await session.rollback()
        print(len((await me.conversations()).items), "conversation")
    await engine.dispose()


asyncio.run(main())
