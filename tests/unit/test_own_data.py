"""Everything that one owns, and conversations brought back from it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from chatcore import (
    Conversation,
    ConversationId,
    ExportOwnData,
    ImportConversations,
    Imported,
    Message,
    MessageId,
    ModelConfig,
    OwnConversation,
    OwnerId,
    OwnImage,
    OwnThing,
    Rate,
    RateLimits,
    Role,
    Session,
    Status,
    Usage,
    User,
    UserId,
    Vouched,
)
from chatcore.entities import Failure, Image
from chatcore.errors import RateLimited, Unavailable
from chatcore.use_cases import own_data, own_export, read_import
from chatcore.use_cases.own_data import EndOfExport, Line, Unreadable
from chatcore_memory import MemoryLimiter
from unit.world import World

THEN = datetime(2025, 5, 4, 3, 2, 1, tzinfo=UTC)
NOBODY = UserId(OwnerId(0))


async def everything(world: World, name: str = "ada") -> list[OwnThing]:
    caller = await world.caller(await world.sign_in_again(name))
    return [thing async for thing in ExportOwnData(unit_of_work=world.storage)(by=caller)]


def kinds(things: Sequence[OwnThing]) -> list[str]:
    return [type(thing).__name__ for thing in things]


def owner_of(thing: OwnThing) -> OwnerId:
    assert not isinstance(thing, OwnImage)
    match thing:
        case User():
            return thing.id
        case OwnConversation():
            return thing.conversation.user_id
        case _:
            return thing.user_id


def own(number: int = 1, current: int | None = None, **more: Any) -> OwnConversation:
    values: dict[str, Any] = {"title": "Plans", "created_at": THEN, "updated_at": THEN, **more}
    conversation = Conversation(id=ConversationId(number), user_id=NOBODY, **values)
    return OwnConversation(conversation, None if current is None else MessageId(current))


def said(number: int, parent: int | None = None, *, of: int = 1, **more: Any) -> Message:
    values: dict[str, Any] = {"role": Role.ASSISTANT, "content": f"text {number}", "created_at": THEN, **more}
    return Message(
        id=MessageId(number),
        user_id=NOBODY,
        conversation_id=ConversationId(of),
        parent_id=None if parent is None else MessageId(parent),
        **values,
    )


async def brought(world: World, owner: UserId, *things: Any, end: bool = True) -> Imported:
    """As the lines 2, 3 …"""

    async def lines() -> AsyncIterator[Line]:
        for number, thing in enumerate([*things, *[EndOfExport()] * end], start=2):
            yield Line(number, thing)

    return await ImportConversations(unit_of_work=world.storage, clock=world.clock)(by=Vouched(owner), lines=lines())


def refused(imported: Imported) -> list[tuple[int | None, str]]:
    return [(refusal.line, refusal.reason.partition(":")[0]) for refusal in imported.refused]


@pytest.fixture
async def ada(world: World) -> UserId:
    return await world.owner("ada")


# ---- export ----------------------------------------------------------------------------------------------


async def test_all_that_one_owns_and_nothing_of_others_is_exported(world: World, ada: UserId) -> None:
    bob = await world.owner("bob")
    for owner in (ada, bob):
        await world.config(owner)
        conversation = await world.create_conversation(by=Vouched(owner), title="Plans")
        async with world.storage() as work:
            await work.messages.restore(replace(said(1), user_id=owner, conversation_id=conversation.id), active=True)
            await work.commit()
    things = await everything(world)
    assert set(kinds(things)) == {"User", "Session", "ModelConfig", "OwnConversation", "Message"}
    assert kinds(things)[0] == "User"
    assert {owner_of(thing) for thing in things} == {ada}


@pytest.mark.parametrize("count", [1, 99, 100, 101, 250])
async def test_pages_are_complete_and_each_thing_comes_once(world: World, ada: UserId, count: int) -> None:
    conversation = await world.create_conversation(by=Vouched(ada), title="Plans")
    for _ in range(count):
        await world.config(ada)
        await world.create_conversation(by=Vouched(ada), title="Empty")
    async with world.storage() as work:
        for number in range(count):
            message = replace(said(number), user_id=ada, conversation_id=conversation.id)
            await work.messages.restore(message, active=True)
        await work.commit()
    things = await everything(world)
    for kind, expected in {"ModelConfig": count, "OwnConversation": count + 1, "Message": count}.items():
        assert kinds(things).count(kind) == expected
    assert [thing.content for thing in things if isinstance(thing, Message)] == [f"text {n}" for n in range(count)]


async def test_what_begins_while_pages_are_read_comes_not_twice(
    world: World, ada: UserId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_export, "_PAGE", 2)
    for _ in range(6):
        world.clock.advance(1)
        await world.sign_in_again("ada")
        await world.config(ada)
    caller = await world.caller(await world.sign_in_again("ada"))
    found = list[Any]()
    async for thing in ExportOwnData(unit_of_work=world.storage)(by=caller):
        if isinstance(thing, Session | ModelConfig):
            found.append(thing.id)
            world.clock.advance(1)
            await world.sign_in_again("ada")
            await world.config(ada)
    assert len(found) == len(set(found)) >= 12


async def test_what_is_deleted_while_pages_are_read_makes_nothing_else_be_left_out(
    world: World, ada: UserId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_export, "_PAGE", 3)
    configs = [await world.config(ada) for _ in range(12)]
    caller = await world.caller(await world.sign_in_again("ada"))
    found = list[ModelConfig]()
    async for thing in ExportOwnData(unit_of_work=world.storage)(by=caller):
        if isinstance(thing, ModelConfig):
            found.append(thing)
            if len(found) in (3, 4, 7):  # a page's last one, one after it, and some that were shown before
                for gone in found[-2:]:
                    async with world.storage() as work:
                        await work.model_configs.delete(ada, gone.id)
                        await work.commit()
    assert [config.id for config in found] == [config.id for config in reversed(configs)]


# ---- there and back --------------------------------------------------------------------------------------


@pytest.mark.parametrize("current", [1, 2, 3, 4, 5, None, 77])
async def test_the_tree_and_the_branch_that_is_shown_are_kept(world: World, ada: UserId, current: int | None) -> None:
    usage = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    error = Failure(code="model_timeout", detail="Too slow.")
    was = [
        said(1, role=Role.USER),
        said(2, role=Role.SYSTEM),
        said(3, 1, status=Status.FAILED, error=error, model="model"),
        said(4, 1, status=Status.STOPPED, reasoning="because", usage=usage),
        said(5, 4, role=Role.USER),
    ]
    imported = await brought(world, ada, own(1, current, titled_by_user=True), *was)
    assert (imported.conversations, imported.messages, imported.refusals) == (1, 5, 0)
    things = await everything(world)
    (kept,) = [thing for thing in things if isinstance(thing, OwnConversation)]
    messages = [thing for thing in things if isinstance(thing, Message)]
    numbers = {message.id: number for number, message in enumerate(messages, start=1)}
    assert (kept.conversation.title, kept.conversation.titled_by_user) == ("Plans", True)
    assert (kept.conversation.created_at, kept.conversation.updated_at) == (THEN, THEN)
    assert numbers[kept.current or MessageId(0)] == (current if current in range(1, 6) else 5)
    for message, before in zip(messages, was, strict=True):
        parent = None if message.parent_id is None else numbers[message.parent_id]
        assert parent == before.parent_id
        assert replace(message, id=before.id, parent_id=before.parent_id) == replace(
            before, user_id=ada, conversation_id=kept.conversation.id
        )
    history = await world.read_history(owner=ada, conversation_id=kept.conversation.id)
    shown = {1: [1], 2: [2], 3: [1, 3], 4: [1, 4]}.get(current or 0, [1, 4, 5])
    assert [numbers[message.id] for message in history.messages] == shown


async def test_what_was_being_written_is_interrupted(world: World, ada: UserId) -> None:
    await brought(world, ada, own(), said(1, status=Status.WRITING))
    (message,) = [thing for thing in await everything(world) if isinstance(thing, Message)]
    assert (message.status, message.content) == (Status.INTERRUPTED, "text 1")


async def test_the_same_export_twice_makes_copies(world: World, ada: UserId) -> None:
    for _ in range(2):
        await brought(world, ada, own(), said(1))
    assert kinds(await everything(world)).count("OwnConversation") == 2


# ---- what is refused -------------------------------------------------------------------------------------

BROKEN = {
    "no such parent": (said(2, 7), "parent_id"),
    "itself as its parent": (said(2, 2), "parent_id"),
    "an id that was there": (said(1), "id"),
    "another conversation": (said(2, of=8), "conversation_id"),
    "NUL": (said(2, content="\0"), "content"),
    "a lone surrogate": (said(2, reasoning="\ud800"), "reasoning"),
    "too long a text": (said(2, content="🦄" * (read_import.MAX_MESSAGE_BYTES // 4 + 1)), "content"),
    "too long a model": (said(2, model="x" * 201), "model"),
    "a failure without an error": (said(2, status=Status.FAILED), "error"),
    "an error without a failure": (said(2, error=Failure(code="x", detail="y")), "error"),
    "an error that is too long": (
        said(2, status=Status.FAILED, error=Failure(code="x" * 65, detail="y")),
        "error.code",
    ),
    "a user's that was stopped": (said(2, role=Role.USER, status=Status.STOPPED), "status"),
    "a user's that is being written": (said(2, role=Role.USER, status=Status.WRITING), "status"),
    "too many tokens": (
        said(2, usage=Usage(prompt_tokens=2**31, completion_tokens=0, total_tokens=0)),
        "usage.prompt_tokens",
    ),
    "a time before all": (said(2, created_at=datetime(1, 1, 1, tzinfo=UTC)), "created_at"),
    "nonsense": (Unreadable("is no JSON"), "is no JSON"),
}


@pytest.mark.parametrize(("broken", "why"), BROKEN.values(), ids=BROKEN)
async def test_a_line_that_is_refused_takes_its_conversation_with_it_and_no_other(
    world: World, ada: UserId, broken: Message | Unreadable, why: str
) -> None:
    before, after = own(8, title="Before"), own(9, title="After")
    imported = await brought(
        world, ada, before, said(80, of=8), own(), said(1), broken, said(3, 1), said(3), after, said(90, of=9)
    )
    assert refused(imported) == [(6, why)]
    assert (imported.conversations, imported.messages, imported.refusals) == (2, 2, 1)
    titles = [it.conversation.title for it in await everything(world) if isinstance(it, OwnConversation)]
    assert titles == ["Before", "After"]


@pytest.mark.parametrize("title", ["x" * 201, "\0"])
async def test_a_conversation_that_breaks_a_rule_is_refused(world: World, ada: UserId, title: str) -> None:
    imported = await brought(world, ada, own(title=title), said(1), own(2), said(2, of=2))
    assert refused(imported) == [(2, "title")]
    assert imported.conversations == 1


async def test_messages_without_a_conversation_are_refused_once(world: World, ada: UserId) -> None:
    imported = await brought(world, ada, said(1), said(2), own())
    assert refused(imported) == [(2, "conversation_id")]
    assert imported.conversations == 1


async def test_the_last_one_of_a_file_without_an_end_may_be_cut_off(world: World, ada: UserId) -> None:
    imported = await brought(world, ada, own(), said(1), own(2), said(2, of=2), end=False)
    assert refused(imported) == [(4, "may be cut off")]
    assert imported.conversations == 1


async def test_a_file_that_is_cut_off_before_its_first_conversation_is_no_empty_one(world: World, ada: UserId) -> None:
    cut, empty = await brought(world, ada, end=False), await brought(world, ada)
    assert [refusal.line for refusal in cut.refused] == [1]
    assert "cut off" in cut.refused[0].reason
    assert (cut.conversations, empty.conversations, empty.refusals) == (0, 0, 0)


async def test_a_conversation_has_a_bounded_number_of_messages_and_bytes(
    world: World, ada: UserId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_import, "MAX_MESSAGES", 3)
    monkeypatch.setattr(read_import, "MAX_BYTES", 30)
    many = [own(1), *(said(number) for number in range(1, 5))]
    long = [own(2), said(11, of=2, content="x" * 20), said(12, of=2, reasoning="é" * 3, content="x")]
    fits = [own(3), said(21, of=3, content="x" * 25), said(22, of=3, content=""), said(23, of=3, content="")]
    failure = Failure(code="x", detail="é" * 8)  # of which nobody says how little memory it takes
    failed = [own(4), said(31, of=4, content="", status=Status.FAILED, error=failure)]
    imported = await brought(world, ada, *many, *long, *fits, *failed)
    assert [refusal.line for refusal in imported.refused] == [6, 9, 15]
    assert {refusal.reason for refusal in imported.refused} == {"a conversation has at most 3 messages with 30 bytes"}
    assert (imported.conversations, imported.messages) == (1, 3)


async def test_images_come_back(world: World, ada: UserId) -> None:
    """Also from an export of a version that had no more than their number."""
    cat, dog = Image("image/png", b"a cat", "low"), Image("image/webp", b"a dog")
    one = [own(1, 1), said(1, images=2), OwnImage(MessageId(1), 0, cat), OwnImage(MessageId(1), 1, dog), said(2, 1)]
    two = [own(2, 3), said(3, of=2, images=3), OwnImage(MessageId(3), 0, cat), said(4, 3, of=2, images=1)]
    imported = await brought(world, ada, *one, *two)
    assert [dict(taken.left_out) for taken in imported.taken] == [{}, {"image": 3}]
    things = [thing for thing in await everything(world) if isinstance(thing, Message | OwnImage)]
    assert [thing.image if isinstance(thing, OwnImage) else thing.images for thing in things] == [
        *(2, cat, dog, 0),
        *(1, cat, 0),
    ]
    assert [thing.message_id for thing in things if isinstance(thing, OwnImage)] == [
        *[things[0].id] * 2,  # type: ignore[union-attr]
        things[4].id,  # type: ignore[union-attr]
    ]


async def test_the_images_of_a_conversation_are_bounded(
    world: World, ada: UserId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_import, "MAX_IMAGE_BYTES", 10)
    sizes = [6, 5, 4]
    images = [OwnImage(MessageId(1), number, Image("image/png", b"x" * size)) for number, size in enumerate(sizes)]
    imported = await brought(world, ada, own(1), said(1, images=3), *images)
    assert (imported.conversations, dict(imported.taken[0].left_out)) == (1, {"image": 1})
    found = [len(thing.image.data) for thing in await everything(world) if isinstance(thing, OwnImage)]
    assert found == [6, 4]


@pytest.mark.parametrize(
    ("images", "field"),
    [
        ([OwnImage(MessageId(2), 0, Image("image/png", b"x"))], "message_id"),
        ([OwnImage(MessageId(1), 0, Image("image/png", b"x"))] * 11, "message_id"),
        ([OwnImage(MessageId(1), 0, Image("image/tiff", b"x"))], "image"),
        ([OwnImage(MessageId(1), 0, Image("image/png", b""))], "image"),
        ([OwnImage(MessageId(1), 0, Image("image/png", b"x", "sharp"))], "image"),
    ],
)
async def test_an_image_that_breaks_a_rule_takes_its_conversation_with_it(
    world: World, ada: UserId, images: list[OwnImage], field: str
) -> None:
    imported = await brought(world, ada, own(1), said(1), *images)
    assert refused(imported) == [(3 + len(images), field)]
    assert imported.conversations == 0


async def test_a_file_of_nonsense_is_not_read_to_its_end(world: World, ada: UserId) -> None:
    read = 0

    async def lines() -> AsyncIterator[Line]:
        nonlocal read
        yield Line(2, own())
        yield Line(3, own(2))
        for number in range(4, 10**6):
            read += 1
            yield Line(number, Unreadable("is no JSON"))

    imported = await ImportConversations(unit_of_work=world.storage, clock=world.clock)(by=Vouched(ada), lines=lines())
    assert read == own_data.MAX_UNREADABLE + 1
    assert (imported.conversations, imported.refusals) == (1, 2)
    assert refused(imported) == [(4, "is no JSON"), (10_004, "is the last that was read")]


async def test_an_import_ends_in_time_and_keeps_what_was_whole(
    world: World, ada: UserId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImportConversations, "within", 0.05)

    async def lines() -> AsyncIterator[Line]:
        yield Line(2, own())
        yield Line(3, own(2))
        await asyncio.Event().wait()

    imported = await ImportConversations(unit_of_work=world.storage, clock=world.clock)(by=Vouched(ada), lines=lines())
    assert (imported.conversations, refused(imported)) == (1, [(3, "is the last that was read")])
    assert kinds(await everything(world)).count("OwnConversation") == 1


async def test_one_import_at_once_and_not_many_in_all(world: World, ada: UserId) -> None:
    import_own, go_on = ImportConversations(unit_of_work=world.storage, clock=world.clock), asyncio.Event()

    async def lines() -> AsyncIterator[Line]:
        yield Line(2, own())
        await go_on.wait()
        yield Line(3, EndOfExport())

    others = [await world.owner(f"user{number}") for number in range(8)]
    importing = [asyncio.create_task(import_own(by=Vouched(owner), lines=lines())) for owner in (ada, *others[:7])]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited):
        await import_own(by=Vouched(ada), lines=lines())
    with pytest.raises(Unavailable):
        await import_own(by=Vouched(others[7]), lines=lines())
    go_on.set()
    assert [imported.conversations for imported in await asyncio.gather(*importing)] == [1] * 8
    assert (await import_own(by=Vouched(others[7]), lines=lines())).conversations == 1


async def test_imports_are_counted_as_messages_are(world: World, ada: UserId) -> None:
    limits = RateLimits(limiter=MemoryLimiter(world.clock), send=Rate(1, 60))
    import_own = ImportConversations(unit_of_work=world.storage, clock=world.clock, limits=limits)

    async def lines() -> AsyncIterator[Line]:
        yield Line(2, EndOfExport())

    await import_own(by=Vouched(ada), lines=lines())
    with pytest.raises(RateLimited):
        await import_own(by=Vouched(ada), lines=lines())


async def test_the_first_hundred_refusals_are_told(world: World, ada: UserId) -> None:
    imported = await brought(world, ada, *(own(number, title="\0") for number in range(1, 151)))
    assert (imported.refusals, len(imported.refused)) == (150, 100)


async def test_a_deadlock_is_tried_again(world: World, ada: UserId) -> None:
    world.database.contend(2, after=2)
    imported = await brought(world, ada, own(), said(1), said(2, 1))
    assert (imported.conversations, imported.messages) == (1, 2)
    assert kinds(await everything(world)).count("Message") == 2
