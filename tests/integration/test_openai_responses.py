"""Responses and Conversations with OpenAI's own client, unchanged."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from integration.http_app import Api
from integration.model_server import Gate, ModelServer, chunk, plain, says, stream
from integration.processes import Server, several_serving

pytestmark = [pytest.mark.asyncio(loop_scope="module")]


@dataclass(frozen=True)
class World:
    model: ModelServer
    servers: Any


@dataclass(frozen=True)
class User:
    """The same user at two servers, with a key of their own."""

    model: ModelServer
    here: AsyncOpenAI
    there: AsyncOpenAI
    api: Api

    async def ask(self, text: Any = "Hello", **more: Any) -> Any:
        return await self.here.responses.create(input=text, **more)


def client_at(server: Server, key: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with ModelServer() as model:
        environ = {"DATABASE_URL": database_url, "OPENAI_BASE_URL": model.url, "OPENAI_MODEL": "scripted"}
        environ["SYSTEM_PROMPT"] = ""
        number = 1 if database_url.startswith("sqlite") else 2
        async with several_serving(number, tmp_path_factory.mktemp("data"), **environ) as servers:
            yield World(model, servers)


async def user_of(world: World) -> User:
    api = await world.servers[0].api.user()
    key = (await api.post("/auth/keys/create", {"name": "openai"})).ok(201)["key"]
    first, last = (client_at(server, key) for server in (world.servers[0], world.servers[-1]))
    return User(world.model, first, last, api)


@pytest_asyncio.fixture(loop_scope="module")
async def ada(world: World) -> AsyncIterator[User]:
    ada = await user_of(world)
    async with ada.here, ada.there:
        yield ada


async def test_a_response_and_its_continuation(ada: User) -> None:
    ada.model.script(says("He", "llo", usage=(5, 2)), says("Again"))
    first = await ada.ask("Hi", instructions="Be brief.", metadata={"a": "b"}, temperature=0.5)
    assert (first.status, first.output_text) == ("completed", "Hello")
    assert (first.instructions, first.metadata, first.temperature) == ("Be brief.", {"a": "b"}, 0.5)
    assert first.usage
    assert first.usage.total_tokens == 7
    assert first.completed_at is not None
    second = await ada.ask("And?", previous_response_id=first.id)
    assert second.output_text == "Again"
    assert second.previous_response_id == first.id
    said = [(message["role"], message["content"]) for message in ada.model.requests[-1].body["messages"]]
    assert said == [("user", "Hi"), ("assistant", "Hello"), ("user", "And?")]
    assert await ada.there.responses.retrieve(first.id) == first
    items = [item async for item in ada.there.responses.input_items.list(second.id, order="asc", limit=2)]
    assert [item.role for item in items] == ["user", "assistant", "user"]  # type: ignore[union-attr]


async def test_an_older_response_is_a_branch(ada: User) -> None:
    ada.model.script(says("one"), says("two"), says("other two"))
    first = await ada.ask("1")
    await ada.ask("2", previous_response_id=first.id)
    await ada.ask("2b", previous_response_id=first.id)
    said = [message["content"] for message in ada.model.requests[-1].body["messages"]]
    assert said == ["1", "one", "2b"]


@pytest.mark.parametrize("cut", range(11))
async def test_cut_at_any_event_and_resumed_in_both_ways(ada: User, cut: int) -> None:
    gate = Gate()
    ada.model.script(stream(chunk(reasoning="hm"), chunk("He"), gate, *says("l", "lo 🦄", usage=(1, 2)).steps))
    seen = list[Any]()
    events = await ada.ask(stream=True)
    async for event in events:
        seen.append(event)
        if len(seen) > cut:
            break
        if len(seen) == 9:
            gate.open()
    name = seen[0].response.id
    await events.close()
    gate.open()
    number = seen[-1].sequence_number
    rest = [event async for event in await ada.there.responses.retrieve(name, stream=True, starting_after=number)]
    whole = [event async for event in await ada.here.responses.retrieve(name, stream=True)]
    assert [event.model_dump_json() for event in (*seen, *rest)] == [event.model_dump_json() for event in whole]
    assert [event.sequence_number for event in whole] == list(range(len(whole)))
    async with ada.there.responses.stream(response_id=name, starting_after=number) as resumed:
        helper = [event.type async for event in resumed]
        final = await resumed.get_final_response()
    assert helper[-1] == "response.completed"
    assert final.output_text == "Hello 🦄"


async def test_a_background_response_is_cancelled_and_deleted(ada: User) -> None:
    gate = Gate()
    ada.model.script(stream(chunk("Hel"), gate, *says("lo").steps))
    begun = await ada.ask(background=True)
    assert (begun.status, begun.background) == ("in_progress", True)
    await gate.reached()
    stopped = await ada.there.responses.cancel(begun.id)
    assert (stopped.status, stopped.output_text) == ("cancelled", "Hel")
    assert await ada.here.responses.cancel(begun.id) == stopped
    await ada.here.responses.delete(begun.id)
    for client in (ada.here, ada.there):
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(begun.id)


async def test_conversations_hold_what_is_said_in_them(ada: User) -> None:
    ada.model.script(says("Hello"))
    items: Any = [{"type": "message", "role": "user", "content": "Earlier"}, {"role": "assistant", "content": "Yes"}]
    talk = await ada.here.conversations.create(items=items, metadata={"topic": "x"})
    answer = await ada.ask("Hi", conversation=talk.id)
    assert answer.conversation
    assert answer.conversation.id == talk.id
    for order, texts in (("asc", ["Earlier", "Yes", "Hi", "Hello"]), ("desc", ["Hello", "Hi", "Yes", "Earlier"])):
        listed: Any = ada.there.conversations.items.list(talk.id, order=order, limit=3)  # type: ignore[arg-type]
        found = [item async for item in listed]
        assert [item.content[0].text for item in found] == texts
        assert await ada.there.conversations.items.retrieve(found[0].id, conversation_id=talk.id) == found[0]
    changed = await ada.here.conversations.update(talk.id, metadata={"topic": "y"})
    assert (await ada.there.conversations.retrieve(talk.id)).metadata == changed.metadata == {"topic": "y"}
    first: Any = (await ada.here.conversations.items.list(talk.id, order="asc")).data[0]
    await ada.here.conversations.items.delete(first.id, conversation_id=talk.id)
    with pytest.raises(openai.NotFoundError):
        await ada.there.conversations.items.retrieve(first.id, conversation_id=talk.id)
    own = (await ada.api.get("/v1/conversations?limit=1")).ok()
    assert own["data"][0]["id"] == talk.id
    assert (await ada.here.conversations.delete(talk.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await ada.there.conversations.retrieve(talk.id)


async def test_items_are_added_all_or_none(ada: User) -> None:
    talk = await ada.here.conversations.create()
    user: Any = {"role": "user", "content": "Hello"}
    picture = {"type": "input_image", "image_url": "https://x.test/a.png"}
    wrong: list[tuple[Any, str]] = [
        ({"role": "user", "content": ""}, "items[1].content"),
        ({"role": "user", "content": 1}, "items[1].content"),
        ({"role": "user", "content": [picture]}, "items[1].content[0]"),
        ({"role": "assistant", "content": [picture]}, "items[1].content[0]"),
        ({"type": "function_call", "call_id": "x", "name": "y", "arguments": "{}"}, "items[1]"),
    ]
    for item, param in wrong:
        with pytest.raises(openai.BadRequestError) as refused:
            await ada.here.conversations.items.create(talk.id, items=[user, item])
        assert refused.value.param == param
        with pytest.raises(openai.BadRequestError):
            await ada.here.conversations.create(items=[user, item])
    with pytest.raises(openai.BadRequestError) as refused:
        await ada.here.conversations.items.create(talk.id, items=[user] * 21)
    assert refused.value.param == "items"
    assert (await ada.there.conversations.items.list(talk.id)).data == []
    assert len((await ada.api.get("/v1/conversations")).ok()["data"]) == 1
    added = await ada.here.conversations.items.create(talk.id, items=[user] * 20)
    assert len(added.data) == 20


async def test_the_images_of_items_reach_the_model(ada: User) -> None:
    url = "data:image/png;base64,iVBORw0KGgo="
    picture = {"type": "input_image", "image_url": url, "detail": "low"}
    items: Any = [{"role": "user", "content": [picture]}, {"role": "assistant", "content": "A unicorn."}]
    talk = await ada.here.conversations.create(items=items)
    stored: Any = (await ada.there.conversations.items.list(talk.id, order="asc")).data[0]
    assert [part.type for part in stored.content] == ["input_text", "input_image"]
    ada.model.script(says("White."))
    await ada.ask("Which colour?", conversation=talk.id)
    image = {"type": "image_url", "image_url": {"url": url, "detail": "low"}}
    assert ada.model.requests[-1].body["messages"][0]["content"] == [image]


@pytest.mark.parametrize("length", [1, 255])
async def test_a_key_sends_once(ada: User, length: int) -> None:
    ada.model.script(says("once"))
    both = await asyncio.gather(*(ada.ask("Hi", extra_headers={"Idempotency-Key": "k" * length}) for _ in range(2)))
    assert both[0] == both[1]


async def test_whole_conversations_are_taken(ada: User) -> None:
    ada.model.script(says("fine"))
    said: Any = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "input_text", "text": each} for each in ("How", "are you?")]},
        {"type": "message", "role": "assistant", "id": "msg_x", "status": "completed", "content": [
            {"type": "output_text", "text": "Well.", "annotations": []}
        ]},
        {"type": "reasoning", "id": "rs_x", "summary": []},
        {"role": "user", "content": "Really?"},
    ]  # fmt: skip
    assert (await ada.here.responses.create(input=said)).output_text == "fine"
    roles = [message["role"] for message in ada.model.requests[-1].body["messages"]]
    assert roles == ["system", "user", "assistant", "user"]


async def test_items_may_be_sent_by_their_ids(ada: User) -> None:
    """As the AI SDK sends what was answered before."""
    ada.model.script(stream(chunk(reasoning="hm"), *says("Hello").steps), says("Again"))
    first = await ada.ask("Hi")
    references: Any = [{"type": "item_reference", "id": item.id} for item in first.output]
    await ada.ask([{"role": "user", "content": "Hi"}, *references, {"role": "user", "content": "And?"}])
    said = [(message["role"], message["content"]) for message in ada.model.requests[-1].body["messages"]]
    assert said == [("user", "Hi"), ("assistant", "Hello"), ("user", "And?")]
    with pytest.raises(openai.BadRequestError) as refused:
        await ada.ask([{"type": "item_reference", "id": "msg_1_999999"}, {"role": "user", "content": "And?"}])
    assert refused.value.param == "input[0].id"


async def test_an_image_reaches_the_model_with_every_turn(ada: User) -> None:
    url = "data:image/png;base64,iVBORw0KGgo="
    picture = {"type": "input_image", "image_url": url, "detail": "low"}
    said: Any = [{"role": "user", "content": [{"type": "input_text", "text": "What is it?"}, picture]}]
    ada.model.script(says("A unicorn."), says("White."))
    first = await ada.here.responses.create(input=said)
    await ada.ask("Which colour?", previous_response_id=first.id)
    for request in ada.model.requests[-2:]:
        assert request.body["messages"][0]["content"] == [
            {"type": "text", "text": "What is it?"},
            {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
        ]
    items: Any = [item async for item in ada.there.responses.input_items.list(first.id)]
    assert [part.type for part in items[0].content] == ["input_text", "input_image"]


async def test_images_of_earlier_messages_and_of_named_ones_reach_the_model(ada: User) -> None:
    url = "data:image/png;base64,iVBORw0KGgo="
    picture = {"type": "input_image", "image_url": url, "detail": "low"}
    ada.model.script(says("A unicorn."), says("White."))
    said: Any = [
        {"role": "user", "content": [{"type": "input_text", "text": "What is it?"}, picture]},
        {"role": "assistant", "content": "A horse."},
        {"role": "user", "content": "Sure?"},
    ]
    first = await ada.here.responses.create(input=said)
    image = {"type": "image_url", "image_url": {"url": url, "detail": "low"}}
    shown = [{"type": "text", "text": "What is it?"}, image]
    assert ada.model.requests[-1].body["messages"][0]["content"] == shown
    items: Any = [item async for item in ada.there.responses.input_items.list(first.id, order="asc")]
    named: Any = [{"type": "item_reference", "id": items[0].id}, {"role": "user", "content": "Colour?"}]
    await ada.here.responses.create(input=named)
    assert ada.model.requests[-1].body["messages"][0]["content"] == [*shown, {"type": "text", "text": "Colour?"}]


async def test_what_chat_completions_can_say_reaches_the_model(ada: User) -> None:
    said = {
        "seed": 7,
        "stop": ["x"],
        "reasoning_effort": "low",
        "logit_bias": {"5": 1},
        "response_format": {"type": "json_object"},
        "top_k": 4,
        "user": "u",
        "prompt_cache_key": "k",
        "service_tier": "flex",
    }
    answer = await ada.ask(extra_body={**said, "max_tokens": 50, "n": 1})
    assert answer.status == "completed"
    asked = ada.model.requests[-1].body
    assert {name: asked[name] for name in said} == said
    assert asked["max_tokens"] == 50


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"tools": [{"type": "function", "name": "x", "parameters": {}, "strict": True}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"temperature": 3}, "temperature"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"truncation": "some"}, "truncation"),
        ({"metadata": {"a": "b" * 513}}, "metadata"),
        ({"previous_response_id": "resp_1_1"}, "previous_response_id"),
        ({"previous_response_id": "x"}, "previous_response_id"),
        ({"conversation": "x"}, "conversation"),
        ({"conversation": "conv_1", "previous_response_id": "resp_1_1"}, "conversation"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": [{"role": "assistant", "content": "x"}]}, "input"),
        ({"input": [{"type": "function_call_output", "call_id": "x", "output": "y"}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input[0].content[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://x.test/a.png"}]}]},
            "input[0].content[0]",
        ),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "input[0].content[0]"),
        ({"input": [{"role": "user", "content": "x"}] * 502}, "input"),
        ({"extra_body": {"n": 2}}, "n"),
        ({"max_output_tokens": 5, "extra_body": {"max_tokens": 5}}, "max_tokens"),
        ({"reasoning": {"effort": "low"}, "extra_body": {"reasoning_effort": "low"}}, "reasoning_effort"),
        ({"include": ["everything"]}, "include"),
        ({"extra_body": {"not_yet_invented": 1}}, "not_yet_invented"),
        ({"text": {"format": {"type": "odd"}}}, "text.format"),
        ({"text": {"format": {"type": "json_schema", "name": "x" * 300_000, "schema": {}}}}, "text"),
        ({"extra_body": {"store": "no"}}, "store"),
    ],
)
async def test_what_is_not_supported_is_refused_by_name(ada: User, asked: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await ada.here.responses.create(**{"input": "Hi", **asked})
    assert (refused.value.param, refused.value.code) == (param, "validation_failed")


async def test_another_users_are_not_there(ada: User, world: World) -> None:
    ada.model.script(says("mine"))
    mine = await ada.ask()
    name = f"conv_{mine.id.split('_')[1]}"
    bob = (await user_of(world)).here
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: bob.responses.retrieve(mine.id),
        lambda: bob.responses.cancel(mine.id),
        lambda: bob.responses.delete(mine.id),
        lambda: bob.conversations.retrieve(name),
        lambda: bob.conversations.items.create(name, items=[{"role": "user", "content": "x"}]),
        lambda: bob.responses.create(input="x", conversation=name),
    ]
    async with bob:
        for call in calls:
            with pytest.raises(openai.NotFoundError):
                await call()
        with pytest.raises(openai.BadRequestError):
            await bob.responses.create(input="x", previous_response_id=mine.id)


async def test_a_stream_whose_key_is_revoked_ends_with_an_event_after_which_it_can_be_resumed(ada: User) -> None:
    gate = Gate()
    ada.model.script(stream(chunk("Hel"), gate, *says("lo").steps))
    key = await ada.api.key()
    async with AsyncOpenAI(base_url=ada.here.base_url, api_key=key["key"], max_retries=0) as other:
        events: Any = await other.responses.create(input="Hi", stream=True)
        seen = [await anext(events) for _ in range(5)]
        assert seen[-1].delta == "Hel"
        (await ada.api.post(f"/auth/keys/{key['id']}/revoke")).ok()
        with pytest.raises(openai.APIError) as ended:
            await anext(events)
    error: Any = ended.value.body
    assert error["code"] == "unauthenticated"
    gate.open()
    rest: Any = await ada.there.responses.retrieve(seen[0].response.id, stream=True, starting_after=4)
    assert (await anext(rest)).sequence_number == 5


async def test_a_failed_model_is_a_failed_response(ada: User) -> None:
    ada.model.script(plain(401, '{"error": {"message": "no", "code": "invalid_api_key"}}'))
    failed = await ada.ask()
    assert failed.status == "failed"
    assert failed.error
    assert failed.error.code == "server_error"
