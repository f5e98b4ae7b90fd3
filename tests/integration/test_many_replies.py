"""Five hundred replies at once, on a real database."""

import asyncio
from pathlib import Path

from chatcore import (
    ChatDefaults,
    CreateConversation,
    FollowReply,
    ModelEndpoint,
    Profile,
    Replies,
    ReplyEnded,
    Status,
    SystemClock,
    UseCases,
    Vouched,
)
from chatcore.ports import Cipher, Clock, UnitOfWorkFactory
from chatcore_memory import PlainCipher, ScriptedModel, Stall
from chatcore_sql import Database

LIVE = 500


async def test_no_connection_is_held_while_models_talk(tmp_path: Path) -> None:
    clock, stall = SystemClock(), Stall()
    model = ScriptedModel("Hel", stall, "lo")
    async with Database(f"sqlite:///{tmp_path / 'chat.db'}") as database:
        await database.migrate()
        unit_of_work = database.unit_of_work
        async with unit_of_work() as work:
            user = await work.users.add(
                username="ada", email=None, password_hash="", roles=frozenset(), profile=Profile(), now=clock.now()
            )
            await work.commit()
        create = CreateConversation(unit_of_work=unit_of_work, clock=clock)
        async with Replies(unit_of_work=unit_of_work, gateway=model, clock=clock) as replies:
            send = UseCases(
                {
                    UnitOfWorkFactory: unit_of_work,
                    Replies: replies,
                    Cipher: PlainCipher(),
                    Clock: clock,
                    ChatDefaults: ChatDefaults(model=ModelEndpoint(url="http://m/v1", model="m", api_key="")),
                }
            ).send_message
            conversations = [await create(by=Vouched(user.id)) for _ in range(LIVE)]
            sent = await asyncio.gather(
                *(send(by=Vouched(user.id), conversation_id=each.id, content="Hi") for each in conversations)
            )
            while len(model.calls) < LIVE or database.connections_in_use:
                await asyncio.sleep(0.01)
            assert replies.writing_now == LIVE
            assert database.connections_in_use == 0
            stall.release()
            follow = FollowReply(replies=replies)
            for one in sent:
                events = follow(owner=user.id, conversation_id=one.reply.conversation_id, reply_id=one.reply.id)
                (ended,) = [event async for event in events if isinstance(event, ReplyEnded)]
                assert (ended.message.content, ended.message.status) == ("Hello", Status.COMPLETE)
