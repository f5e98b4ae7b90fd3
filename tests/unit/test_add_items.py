"""Several messages that no model is asked about, added at once."""

from dataclasses import replace

import pytest

from chatcore import Earlier, Rate, RateLimits, Role
from chatcore.authority import Vouched
from chatcore.entities import Image
from chatcore.errors import NotFound, RateLimited, StorageFull, ValidationFailed
from chatcore.storage import CONVERSATION_BYTES, size_of
from chatcore_memory import MemoryLimiter
from unit.world import Chat, Process, World

PNG = Image("image/png", b"\x89PNG", "low")
TALK = [
    Earlier(Role.SYSTEM, "Be kind."),
    Earlier(Role.USER, "", [PNG]),
    Earlier(Role.ASSISTANT, "A unicorn."),
    Earlier(Role.USER, "What colour\nis it?"),
]


async def test_they_follow_one_another_with_their_images(process: Process, chat: Chat) -> None:
    added = await process.add_items(by=chat.by, conversation_id=chat.id, items=TALK)
    assert list(await chat.messages()) == list(added)
    assert [(each.role, each.content, each.images) for each in added] == [
        (item.role, item.content, len(item.images)) for item in TALK
    ]
    assert [each.parent_id for each in added] == [None, *(each.id for each in added[:-1])]
    assert (await chat.stored()).title == "What colour is it?"
    image = await process.read_image(owner=chat.owner, conversation_id=chat.id, message_id=added[1].id, number=0)
    assert image == PNG


async def test_a_conversation_is_created_with_them(process: Process, chat: Chat) -> None:
    made = await process.upload_conversation(by=chat.by, items=TALK, metadata={"from": "elsewhere"})
    found = await process.read_history(owner=chat.owner, conversation_id=made.id)
    assert [each.content for each in found.messages] == [item.content for item in TALK]
    assert found.conversation.metadata == {"from": "elsewhere"}
    assert found.conversation.title == "What colour is it?"


async def test_their_bytes_count(world: World, process: Process, chat: Chat) -> None:
    def stored() -> int:
        return world.database._store.committed.stored[chat.owner]  # pyright: ignore[reportPrivateUsage]

    before = stored()
    added = await process.add_items(by=chat.by, conversation_id=chat.id, items=TALK)
    size = sum(map(size_of, added)) + len(PNG.data)
    assert stored() - before == size
    await process.upload_conversation(by=chat.by, items=TALK)
    assert stored() - before == 2 * size + CONVERSATION_BYTES


@pytest.mark.parametrize("room", [0, 2500])
async def test_all_or_none(world: World, process: Process, chat: Chat, room: int) -> None:
    """The room is enough for some of them."""
    world.database._store.max_storage = room  # pyright: ignore[reportPrivateUsage]
    items = [Earlier(Role.USER, "x" * 500)] * 5
    with pytest.raises(StorageFull):
        await process.add_items(by=chat.by, conversation_id=chat.id, items=items)
    with pytest.raises(StorageFull):
        await process.upload_conversation(by=chat.by, items=items)
    assert await chat.messages() == []
    assert len((await process.list_conversations(owner=chat.owner)).items) == 1


async def test_they_count_as_one_message(process: Process, chat: Chat, world: World) -> None:
    limits = RateLimits(limiter=MemoryLimiter(world.clock), send=Rate(2, 60))
    add, upload = replace(process.add_items, limits=limits), replace(process.upload_conversation, limits=limits)
    await add(by=chat.by, conversation_id=chat.id, items=TALK)
    await upload(by=chat.by, items=[])
    await upload(by=chat.by, items=TALK)
    with pytest.raises(RateLimited):
        await add(by=chat.by, conversation_id=chat.id, items=TALK)
    with pytest.raises(RateLimited):
        await upload(by=chat.by, items=TALK)


async def test_not_in_another_owners_conversation(world: World, process: Process, chat: Chat) -> None:
    other = Vouched(await world.owner("bob"))
    with pytest.raises(NotFound):
        await process.add_items(by=other, conversation_id=chat.id, items=TALK)
    assert await chat.messages() == []


@pytest.mark.parametrize(
    ("item", "field"),
    [
        (Earlier(Role.USER, ""), "items[1].content"),
        (Earlier(Role.ASSISTANT, "x" * 200_001), "items[1].content"),
        (Earlier(Role.USER, "x", [Image("image/tiff", b"x")]), "items[1].images"),
        (Earlier(Role.USER, "x", [PNG] * 11), "items[1].images"),
        (Earlier(Role.ASSISTANT, "x", [PNG]), "items[1].images"),
        (Earlier(Role.USER, "x", [replace(PNG, data=bytes(5 * 1024 * 1024))] * 4), "items"),
    ],
)
async def test_what_is_wrong_has_a_name(process: Process, chat: Chat, item: Earlier, field: str) -> None:
    items = [Earlier(Role.USER, "x", [PNG]), item]
    for adding in (
        process.add_items(by=chat.by, conversation_id=chat.id, items=items),
        process.upload_conversation(by=chat.by, items=items),
    ):
        with pytest.raises(ValidationFailed) as refused:
            await adding
        assert [error.field for error in refused.value.errors] == [field]
    assert await chat.messages() == []
