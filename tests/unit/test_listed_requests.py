"""Replies that clients of other protocols asked for, by model and metadata."""

from collections.abc import Sequence
from typing import Any

import pytest

from chatcore import Asked, MessageId, Sent, Vouched
from chatcore.entities import Page, Request
from chatcore.use_cases.requests import Requested
from unit.world import Chat, Process, World

pytestmark = pytest.mark.asyncio
LONG = "x" * 150_000


async def ask(process: Process, chat: Chat, content: str = "Hello?", **body: Any) -> Sent:
    sent = await process.send_message(
        by=Vouched(chat.owner), conversation_id=None, content=content, asked=Asked("completion", body)
    )
    await Chat(process, chat.owner, sent.conversation_id).end()
    return sent


def ids_of(page: Page[Requested]) -> Sequence[MessageId]:
    return [each.reply.id for each in page.items]


async def test_a_page_has_what_was_wanted(world: World, process: Process, chat: Chat) -> None:
    first = await ask(process, chat, model="a", metadata={"x": "1", "y": "2"})
    second = await ask(process, chat, model="b", metadata={"x": "1"})
    third = await ask(process, chat, model="b")
    names = [sent.reply.id for sent in (first, second, third)]

    async def listed(**wanted: Any) -> Sequence[MessageId]:
        return ids_of(await world.list_requests(owner=chat.owner, kind="completion", **wanted))

    assert await listed() == names
    assert await listed(newest_first=True) == names[::-1]
    assert await listed(model="b") == names[1:]
    assert await listed(metadata={"x": "1"}) == names[:2]
    assert await listed(metadata={"x": "1", "y": "2"}, model="b") == []
    assert await listed(model="b", after=names[1]) == names[2:]


async def test_it_looks_at_a_thousand(world: World, process: Process, chat: Chat) -> None:
    first = (await ask(process, chat, model="rare")).reply
    async with world.database.unit_of_work() as work:
        for number in range(1, 1200):
            await work.requests.add(
                Request(
                    user_id=chat.owner,
                    conversation_id=first.conversation_id,
                    reply_id=MessageId(first.id + number),
                    kind="completion",
                    body={"model": "common"},
                    created_at=first.created_at,
                )
            )
        await work.commit()
    found = await world.list_requests(owner=chat.owner, kind="completion", model="rare")
    assert (ids_of(found), found.has_more) == ([first.id], True)
    after = MessageId(first.id + 999)
    found = await world.list_requests(owner=chat.owner, kind="completion", model="rare", after=after)
    assert (ids_of(found), found.has_more) == ([], False)


async def test_a_page_is_bounded_in_bytes(world: World, process: Process, chat: Chat) -> None:
    for _ in range(30):
        await ask(process, chat, content=LONG)
    page = await world.list_requests(owner=chat.owner, kind="completion", limit=100)
    assert len(page.items) == 4 * 1024 * 1024 // 150_011
    assert page.has_more
