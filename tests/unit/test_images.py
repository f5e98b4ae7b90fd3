"""Images of messages: what is stored, what a model is sent, and what is refused."""

from base64 import b64encode
from typing import Any

import pytest

from chatcore import ChatDefaults, Earlier, MessageId, PromptLimits, Role
from chatcore.bounds import IMAGES, MAX_IMAGE
from chatcore.entities import Image
from chatcore.errors import (
    IdempotencyKeyReused,
    ModelRefused,
    ModelRefusesImages,
    NotFound,
    StorageFull,
    ValidationFailed,
)
from chatcore.ports import ImagePart, Prompt, PromptMessage, TextPart
from chatcore.prompt import LEFT_OUT
from chatcore_openai.failures import Refusal
from unit.world import SERVER_MODEL, Chat, World

CAT = Image("image/png", b"a cat", "low")
DOG = Image("image/jpeg", b"a dog")


def part(image: Image) -> ImagePart:
    return ImagePart(f"data:{image.media_type};base64,{b64encode(image.data).decode()}", image.detail)


def asked(world: World) -> list[PromptMessage]:
    """What the model was sent last."""
    return [*world.model.calls[-1].prompt.messages]


async def send(chat: Chat, content: str, *images: Image, key: str | None = None) -> MessageId:
    sent = await chat.process.send_message(
        by=chat.by, conversation_id=chat.id, content=content, images=images, idempotency_key=key
    )
    await chat.end()
    assert sent.message.images == len(images)
    return sent.message.id


async def test_a_model_sees_the_images_of_the_whole_history(world: World, chat: Chat) -> None:
    first = await send(chat, "Which animal?", CAT)
    await send(chat, "", DOG)
    assert [each.content for each in asked(world)] == [
        [TextPart("Which animal?"), part(CAT)],
        "Hello world",
        [part(DOG)],
    ]
    await chat.regenerate(first)
    await chat.end()
    assert [each.content for each in asked(world)] == [[TextPart("Which animal?"), part(CAT)]]


async def test_an_edited_message_has_the_images_that_it_is_sent_with(world: World, chat: Chat) -> None:
    first = await send(chat, "Which animal?", CAT)
    await chat.process.edit_message(
        by=chat.by, conversation_id=chat.id, message_id=first, content="And this one?", images=[DOG]
    )
    await chat.end()
    assert [each.content for each in asked(world)] == [[TextPart("And this one?"), part(DOG)]]


async def test_images_without_room_are_mentioned(world: World) -> None:
    limits = PromptLimits(max_image_bytes=len(CAT.data) + len(DOG.data))
    async with world.process(defaults=ChatDefaults(model=SERVER_MODEL, limits=limits)) as process:
        chat = await process.chat()
        await send(chat, "One", CAT)
        await send(chat, "Two", DOG)
        await send(chat, "Three", CAT)
        assert [each.content for each in asked(world)] == [
            f"One\n{LEFT_OUT}",
            "Hello world",
            [TextPart("Two"), part(DOG)],
            "Hello world",
            [TextPart("Three"), part(CAT)],
        ]


async def test_a_model_sees_the_images_of_messages_that_are_sent_with_another(world: World, chat: Chat) -> None:
    earlier = [Earlier(Role.USER, "Which?", [CAT]), Earlier(Role.ASSISTANT, "A cat."), Earlier(Role.USER, "", [DOG])]
    await chat.process.send_message(
        by=chat.by, conversation_id=chat.id, content="And these?", images=[CAT], earlier=earlier
    )
    await chat.end()
    shown = [[TextPart("Which?"), part(CAT)], "A cat.", [part(DOG), TextPart("And these?"), part(CAT)]]
    assert [each.content for each in asked(world)] == shown
    await send(chat, "Sure?")
    assert [each.content for each in asked(world)][:3] == shown


async def test_images_before_a_message_count_as_stored(world: World, chat: Chat) -> None:
    world.database._store.max_storage = 1024 * 1024  # pyright: ignore[reportPrivateUsage]
    earlier = [Earlier(Role.USER, "x", [Image("image/png", bytes(1024 * 1024))])]
    with pytest.raises(StorageFull):
        await chat.process.send_message(by=chat.by, conversation_id=chat.id, content="Hi", earlier=earlier)
    assert await chat.messages() == []


async def test_of_messages_that_are_sent_with_another_the_newest_have_the_room(world: World) -> None:
    limits = PromptLimits(max_image_bytes=len(CAT.data) + len(DOG.data))
    async with world.process(defaults=ChatDefaults(model=SERVER_MODEL, limits=limits)) as process:
        chat = await process.chat()
        await send(chat, "One", CAT)
        earlier = [Earlier(Role.USER, "Two", [CAT]), Earlier(Role.ASSISTANT, "Yes"), Earlier(Role.USER, "Three", [DOG])]
        await process.send_message(by=chat.by, conversation_id=chat.id, content="Four", images=[CAT], earlier=earlier)
        await chat.end()
        assert [each.content for each in asked(world)] == [
            f"One\n{LEFT_OUT}",
            "Hello world",
            f"Two\n{LEFT_OUT}",
            "Yes",
            [TextPart("Three"), part(DOG), TextPart("Four"), part(CAT)],
        ]


@pytest.mark.parametrize(
    ("earlier", "images", "field"),
    [
        ([Earlier(Role.USER, "x", [CAT] * 11)], (), "earlier"),
        ([Earlier(Role.ASSISTANT, "x", [CAT])], (), "earlier"),
        ([Earlier(Role.USER, "x", [Image("image/png", bytes(MAX_IMAGE + 1))])], (), "earlier"),
        ([Earlier(Role.USER, "x", [Image("image/png", bytes(MAX_IMAGE))] * 4)], [CAT], "images"),
        ([Earlier(Role.USER, "")], (), "earlier"),
    ],
)
async def test_images_before_a_message_are_within_bounds(
    chat: Chat, earlier: list[Earlier], images: list[Image], field: str
) -> None:
    with pytest.raises(ValidationFailed) as refused:
        await chat.process.send_message(
            by=chat.by, conversation_id=chat.id, content="Hi", images=images, earlier=earlier
        )
    assert [each.field for each in refused.value.errors] == [field]


async def test_the_same_key_is_for_the_same_images_before(chat: Chat) -> None:
    async def again(*images: Image) -> MessageId:
        sent = await chat.process.send_message(
            by=chat.by,
            conversation_id=chat.id,
            content="Hi",
            earlier=[Earlier(Role.USER, "x", images)],
            idempotency_key="key",
        )
        await chat.end()
        return sent.message.id

    assert await again(CAT) == await again(CAT)
    with pytest.raises(IdempotencyKeyReused):
        await again(DOG)


async def test_an_image_is_read_by_its_owner(world: World, chat: Chat) -> None:
    message = await send(chat, "Which animals?", CAT, DOG)
    this: dict[str, Any] = {"owner": chat.owner, "conversation_id": chat.id}
    assert await world.read_image(**this, message_id=message, number=1) == DOG
    with pytest.raises(NotFound):
        await world.read_image(**this, message_id=message, number=2)


async def test_the_same_key_is_for_the_same_images(chat: Chat) -> None:
    assert await send(chat, "Which?", CAT, key="key") == await send(chat, "Which?", CAT, key="key")
    with pytest.raises(IdempotencyKeyReused):
        await send(chat, "Which?", DOG, key="key")
    with pytest.raises(IdempotencyKeyReused):
        await send(chat, "Which?", key="key")


@pytest.mark.parametrize(
    "images",
    [
        [CAT] * 11,
        [Image("image/svg+xml", b"<svg/>")],
        [Image("image/png", b"")],
        [Image("image/png", bytes(MAX_IMAGE + 1))],
        [Image("image/png", bytes(MAX_IMAGE))] * 5,
    ],
    ids=["many", "kind", "empty", "large", "large together"],
)
async def test_images_that_break_the_rule_are_refused(chat: Chat, images: list[Image]) -> None:
    assert IMAGES.most == 10
    with pytest.raises(ValidationFailed) as refused:
        await send(chat, "Which?", *images)
    assert [error.field for error in refused.value.errors] == ["images"]


@pytest.mark.parametrize("content", ["", "x" * 200_001, "\0"])
async def test_only_images_make_up_for_a_text(chat: Chat, content: str) -> None:
    with pytest.raises(ValidationFailed):
        await send(chat, content, *([CAT] if content else []))


SEEING = Prompt(messages=[PromptMessage("user", [TextPart("Which?"), part(CAT)])])
BLIND = Prompt(messages=[PromptMessage("user", "Describe an image.")])


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "Invalid content type. image_url is only supported by certain models."),  # OpenAI
        (400, "some/model is not a multimodal model"),  # vLLM
        (500, "image input is not supported - hint: you may need to provide the mmproj"),  # llama.cpp
        (400, "this model does not support image input"),  # Ollama
        (400, "Image input is not enabled for this model"),  # Mistral
        (400, "messages[1]: unknown variant `image_url`, expected `text` at line 1 column 62797"),  # DeepSeek
        (400, "'messages.0' : for 'role:user' the following must be satisfied: 'content must be a string'"),  # Groq
        (404, "No endpoints found that support image input"),  # OpenRouter
        (422, "body.messages.0.content: Input should be a valid string"),  # FastAPI
    ],
)
def test_a_model_that_takes_no_images_says_so_in_many_ways(status: int, message: str) -> None:
    refusal = Refusal(status, b'{"error": {"message": "%b"}}' % message.encode())
    assert type(refusal.failure_for(SEEING)) is ModelRefusesImages
    assert type(refusal.failure_for(BLIND)) is not ModelRefusesImages


def test_other_refusals_of_images_stay_what_they_are() -> None:
    too_long = Refusal(
        400, b'{"error": {"message": "images: context_length_exceeded", "code": "context_length_exceeded"}}'
    )
    assert too_long.failure_for(SEEING).code == "model_context_length"
    assert type(Refusal(400, b'{"error": {"message": "no"}}').failure_for(SEEING)) is ModelRefused
