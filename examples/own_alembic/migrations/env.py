import asyncio
import os

from alembic import context
from models import Base
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from chatcore_sql.alembic import include_object


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection, target_metadata=Base.metadata, include_object=include_object(prefix="chat_")
    )
    with context.begin_transaction():
        context.run_migrations()


async def connect() -> None:
    engine = create_async_engine(os.environ["DATABASE_URL"])
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
        await connection.commit()
    await engine.dispose()


asyncio.run(connect())
