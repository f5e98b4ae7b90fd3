"""Stored chat completions with OpenAI's own client, unchanged."""

import asyncio
import signal
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from integration.databases import execute
from integration.http_app import Api
from integration.model_server import STALL, Gate, ModelServer, chunk, plain, says, stream
from integration.processes import Server, several_serving

pytestmark = [pytest.mark.asyncio(loop_scope="module")]

HI = [{"role": "user", "content": "Hi"}]
WITHIN = 30  # seconds until the reply of a process that was killed has ended


PNG = "data:image/png;base64,iVBORw0KGgo="
PICTURE: Any = {"type": "image_url", "image_url": {"url": PNG}}
FOREIGN: Any = {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}


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

    async def ask(self, *messages: Any, **more: Any) -> Any:
        asked: Any = {"model": "scripted", "store": True, "messages": list(messages) or HI, **more}
        return await self.here.chat.completions.create(**asked)

    def told(self) -> list[tuple[str, str]]:
        """What the model was told last."""
        return [(each["role"], each["content"]) for each in self.model.requests[-1].body["messages"]]


def client_at(server: Server, key: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


def conversation_of(completion: Any) -> str:
    return f"conv_{completion.id.removeprefix('chatcmpl-').split('_')[0]}"


def opened(database_url: str, folder: Path, model: ModelServer) -> Any:
    environ = {"OPENAI_BASE_URL": model.url, "OPENAI_MODEL": "scripted", "SYSTEM_PROMPT": ""}
    number = 1 if database_url.startswith("sqlite") else 2
    return several_serving(number, folder, DATABASE_URL=database_url, **environ)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with ModelServer() as model, opened(database_url, tmp_path_factory.mktemp("data"), model) as servers:
        yield World(model, servers)


async def user_of(world: World) -> User:
    api = await world.servers[0].api.user()
    key = (await api.key())["key"]
    first, last = (client_at(server, key) for server in (world.servers[0], world.servers[-1]))
    return User(world.model, first, last, api)


@pytest_asyncio.fixture(loop_scope="module")
async def ada(world: World) -> AsyncIterator[User]:
    ada = await user_of(world)
    async with ada.here, ada.there:
        yield ada


async def test_a_completion_is_stored_and_fetched(ada: User) -> None:
    ada.model.script(says("He", "llo", usage=(5, 2)))
    more = {"temperature": 0.5, "max_completion_tokens": 50, "top_p": 0.25, "stop": ["x"], "seed": 3, "user": "u"}
    said = await ada.ask({"role": "system", "content": "Be brief."}, *HI, metadata={"a": "b"}, **more)
    assert said.choices[0].message.content == "Hello"
    assert (said.choices[0].finish_reason, said.usage.total_tokens, said.metadata) == ("stop", 7, {"a": "b"})
    body = ada.model.requests[-1].body
    assert ada.told() == [("system", "Be brief."), ("user", "Hi")]
    assert {name: body[name] for name in ("temperature", "top_p", "stop", "seed", "user")} == {
        name: more[name] for name in ("temperature", "top_p", "stop", "seed", "user")
    }
    assert body["max_tokens"] == 50
    assert "metadata" not in body
    assert "store" not in body
    assert await ada.there.chat.completions.retrieve(said.id) == said


async def test_a_whole_conversation_is_stored_and_continued(ada: User) -> None:
    ada.model.script(says("fine"))
    first = await ada.ask(
        {"role": "system", "content": "One."},
        {"role": "developer", "content": "Two."},
        {"role": "user", "content": [{"type": "text", "text": "How"}, {"type": "text", "text": "are you?"}]},
        {"role": "assistant", "content": "Well.", "refusal": None, "tool_calls": None},
        {"role": "user", "content": "Really?"},
    )
    listed = [each async for each in ada.there.chat.completions.messages.list(first.id, limit=2)]
    assert [(each.role, each.content) for each in listed] == [
        ("system", "Two."),
        ("user", "How\nare you?"),
        ("assistant", "Well."),
        ("user", "Really?"),
    ]
    backwards = [each async for each in ada.there.chat.completions.messages.list(first.id, limit=3, order="desc")]
    assert [each.id for each in backwards] == [each.id for each in listed][::-1]
    assert ada.told()[0] == ("system", "One.\n\nTwo.")
    for name in (conversation_of(first), conversation_of(first).removeprefix("conv_")):
        ada.model.script(says("Sure"))
        invented = {"role": "assistant", "content": "never said", "tool_calls": [{}]}
        its: Any = {"store": None if name.startswith("conv_") else True, "metadata": {"conversation_id": name}}
        again = await ada.ask(invented, {"role": "user", "content": "OK"}, **its)
        assert conversation_of(again) == conversation_of(first)
        assert again.metadata == {"conversation_id": name}
        assert ("assistant", "fine") in ada.told()
        assert "never said" not in str(ada.told())


async def test_images_are_stored_with_their_messages(ada: User) -> None:
    ada.model.script(says("A unicorn."), says("White."))
    image = {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}
    first = await ada.ask(
        {"role": "user", "content": [image]},
        {"role": "assistant", "content": "A horse."},
        {"role": "user", "content": [{"type": "text", "text": "Sure?"}, image]},
    )
    shown = [("user", [image]), ("assistant", "A horse."), ("user", [{"type": "text", "text": "Sure?"}, image])]
    assert ada.told() == shown
    await ada.ask({"role": "user", "content": "Colour?"}, metadata={"conversation_id": conversation_of(first)})
    assert ada.told()[:3] == shown
    messages: Any = [each async for each in ada.there.chat.completions.messages.list(first.id)]
    (stored,) = messages[0].content_parts
    place = stored.image_url.url
    assert [each.type for each in messages[2].content_parts] == ["text", "image_url"]
    assert messages[1].content_parts is None
    answer = await ada.api.http.get(place, headers={"Authorization": f"Bearer {ada.api.token}"})
    assert await answer.read() == b64decode(PNG.partition(",")[2])


async def test_a_refusal_that_is_sent_back_is_what_the_model_said(ada: User) -> None:
    await ada.ask(*HI, {"role": "assistant", "content": None, "refusal": "I must not."}, *HI)
    assert ada.told()[1] == ("assistant", "I must not.")


async def test_another_programs_name_for_a_conversation_passes_through(ada: User) -> None:
    for name in ("5f1c8a52-thread", "12", "conv_abc", "", "conv_1x"):
        ada.model.script(plain(200, '{"id": "theirs", "object": "chat.completion", "choices": []}'))
        answer = await ada.ask(store=None, metadata={"conversation_id": name})
        assert answer.id == "theirs"
        assert ada.model.requests[-1].body["metadata"] == {"conversation_id": name}


@pytest.mark.parametrize("cut", range(8))
async def test_cut_at_any_chunk_and_resumed_or_fetched(ada: User, cut: int) -> None:
    gate = Gate()
    ada.model.script(stream(chunk(reasoning="hm"), chunk("He"), gate, *says("l", "lo 🦄", usage=(1, 2)).steps))
    seen = list[Any]()
    chunks = await ada.ask(stream=True, stream_options={"include_usage": True})
    async for each in chunks:
        seen.append(each)
        if len(seen) > cut:
            break
        if len(seen) == 3:
            gate.open()
    await chunks.close()
    gate.open()
    name = seen[0].id
    rest = await resumed(ada.there, name, starting_after=len(seen))
    whole = await resumed(ada.here, name)
    assert [each.model_dump_json() for each in (*seen, *rest)] == [each.model_dump_json() for each in whole]
    assert whole[-1].usage
    assert whole[-1].usage.total_tokens == 3
    completion = await ada.there.chat.completions.retrieve(name)
    assert completion.choices[0].message.content == "Hello 🦄"
    text = "".join(choice.delta.content or "" for each in whole for choice in each.choices)
    assert text == "Hello 🦄"


async def resumed(client: AsyncOpenAI, name: str, **query: int) -> list[Any]:
    """Beyond what the client knows, but with what it has."""
    chunks: Any = await client.get(
        f"/chat/completions/{name}",
        cast_to=ChatCompletion,
        options={"params": {"stream": "true", **query}},
        stream=True,
        stream_cls=openai.AsyncStream[ChatCompletionChunk],
    )
    return [each async for each in chunks]


async def test_one_in_progress_is_fetched_as_it_is_and_deleted(ada: User) -> None:
    gate = Gate()
    ada.model.script(stream(chunk("Hel"), gate, *says("lo").steps))
    chunks = await ada.ask(stream=True)
    name = (await anext(chunks)).id
    assert (await anext(chunks)).choices[0].delta.content == "Hel"
    async with asyncio.timeout(WITHIN):
        while (begun := await ada.here.chat.completions.retrieve(name)).choices[0].message.content != "Hel":
            await asyncio.sleep(0.05)  # until it is in the log
    assert begun.choices[0].finish_reason is None
    gone = await ada.there.chat.completions.delete(name)
    assert (gone.id, gone.object, gone.deleted) == (name, "chat.completion.deleted", True)
    await chunks.close()
    for client in (ada.here, ada.there):
        for call in (client.chat.completions.retrieve, client.chat.completions.delete):
            with pytest.raises(openai.NotFoundError):
                await call(name)
    assert not [each async for each in ada.here.chat.completions.list()]
    gate.open()


async def test_a_list_by_model_and_metadata(ada: User) -> None:
    made = [await ada.ask(metadata={"number": str(number), "odd": str(number % 2)}) for number in range(5)]
    names = [each.id for each in made]

    async def found(**query: Any) -> list[str]:
        return [each.id async for each in ada.there.chat.completions.list(**query)]

    assert await found(limit=2) == names
    assert await found(limit=2, order="desc") == names[::-1]
    assert await found(after=names[2]) == names[3:]
    assert await found(metadata={"odd": "1"}, limit=1) == [names[1], names[3]]
    assert await found(metadata={"odd": "1", "number": "3"}) == [names[3]]
    assert await found(model="scripted") == names
    assert await found(model="other") == []
    page = await ada.here.chat.completions.list(limit=2)
    assert page.has_more
    assert page.data == made[:2]


async def test_metadata_is_changed(ada: User) -> None:
    said = await ada.ask(metadata={"a": "b"})
    changed = await ada.there.chat.completions.update(said.id, metadata={"c": "d"})
    assert changed.metadata == {"c": "d"}
    assert await ada.here.chat.completions.retrieve(said.id) == changed
    assert (await ada.here.chat.completions.update(said.id, metadata=None)).metadata == {}
    with pytest.raises(openai.BadRequestError) as refused:
        await ada.here.chat.completions.update(said.id, metadata={"a": "b" * 513})
    assert refused.value.param == "metadata"


@pytest.mark.parametrize("length", [1, 255])
async def test_a_key_sends_once(ada: User, length: int) -> None:
    ada.model.script(says("once"))
    asked = len(ada.model.requests)
    both = await asyncio.gather(*(ada.ask(extra_headers={"Idempotency-Key": "k" * length}) for _ in range(2)))
    assert both[0] == both[1]
    assert len(ada.model.requests) == asked + 1


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "x"}}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"functions": [{"name": "x"}]}, "functions"),
        ({"function_call": {"name": "x"}}, "function_call"),
        ({"n": 2}, "n"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "x", "format": "wav"}}, "audio"),
        ({"logprobs": True}, "logprobs"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"metadata": {"a": "b" * 513}}, "metadata"),
        ({"metadata": {"conversation_id": "x"}}, "metadata.conversation_id"),
        ({"metadata": {"conversation_id": "1" * 19}}, "metadata.conversation_id"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "system", "content": "x" * 48_001}, *HI]}, "messages"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "y"}, *HI]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "odd", "content": "x"}, *HI]}, "messages[0].role"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "x"}]}, *HI]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "name": "Ada", "content": "Hi"}]}, "messages[0].name"),
        ({"messages": [{"role": "assistant", "content": None}, *HI]}, "messages[0].content"),
        ({"messages": [{"role": "assistant", "content": [PICTURE]}, *HI]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [PICTURE] * 11}]}, "messages[0].content[10]"),
        ({"messages": [{"role": "user", "content": ["x", PICTURE]}]}, "messages[0].content"),
        ({"messages": [*HI, {"role": "user", "content": [FOREIGN]}]}, "messages[1].content[0]"),
        ({"messages": HI * 502}, "messages"),
        ({"extra_headers": {"Idempotency-Key": "k" * 256}}, "Idempotency-Key"),
        ({"extra_body": {"messages": 5}}, "messages"),
        ({"extra_body": {"store": 5}}, "store"),
    ],
)
async def test_what_is_not_supported_is_refused_by_name(ada: User, asked: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await ada.here.chat.completions.create(**{"model": "scripted", "store": True, "messages": HI, **asked})
    assert (refused.value.param, refused.value.code) == (param, "validation_failed")


async def test_an_unknown_model(ada: User) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await ada.ask(model="nobody's")
    assert (refused.value.param, refused.value.code) == ("model", "model_not_found")


async def test_another_users_are_not_there(ada: User, world: World) -> None:
    mine = await ada.ask()
    user = await user_of(world)
    bob = user.here.chat.completions
    named: Any = {"model": "scripted", "messages": HI, "metadata": {"conversation_id": conversation_of(mine)}}
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: bob.retrieve(mine.id),
        lambda: bob.messages.list(mine.id),
        lambda: bob.update(mine.id, metadata={}),
        lambda: bob.delete(mine.id),
        lambda: resumed(user.here, mine.id),
        lambda: bob.create(**named),
    ]
    async with user.here, user.there:
        for call in calls:
            with pytest.raises(openai.NotFoundError):
                await call()
        assert not [each async for each in bob.list()]
        assert not [each async for each in bob.list(after=mine.id)]
    assert await ada.here.chat.completions.retrieve(mine.id) == mine


@pytest.mark.parametrize("name", ["x", "chatcmpl-1", "chatcmpl-1_1", "chatcmpl-1_" + "1" * 19, "resp_1_1"])
async def test_what_names_no_completion(ada: User, name: str) -> None:
    with pytest.raises(openai.NotFoundError):
        await ada.here.chat.completions.retrieve(name)


async def test_a_key_that_is_revoked_or_has_expired(ada: User, world: World, database_url: str) -> None:
    mine = await ada.ask()
    key = await ada.api.key()
    async with client_at(world.servers[-1], key["key"]) as client:
        assert await client.chat.completions.retrieve(mine.id) == mine
        (await ada.api.post(f"/auth/keys/{key['id']}/revoke")).ok()
        with pytest.raises(openai.AuthenticationError):
            await client.chat.completions.retrieve(mine.id)
    await execute(database_url, "UPDATE sessions SET expires_at = '2001-01-01 00:00:00'")
    for call in (ada.here.chat.completions.retrieve(mine.id), ada.ask()):
        with pytest.raises(openai.AuthenticationError):
            await call


async def test_a_failed_model_is_an_error_and_its_text_is_kept(ada: User) -> None:
    refusal = plain(401, '{"error": {"message": "no", "code": "invalid_api_key"}}')
    ada.model.script(refusal, refusal)
    with pytest.raises(openai.APIStatusError) as failed:
        await ada.ask()
    assert failed.value.code == "model_unauthorized"
    assert failed.value.response.headers["X-Should-Retry"] == "false"
    with pytest.raises(openai.APIError):
        async for _ in await ada.ask(stream=True):
            pass
    kept: Any = [each async for each in ada.there.chat.completions.list()]
    assert [each.error["code"] for each in kept] == ["model_unauthorized"] * 2


async def test_when_the_writing_process_is_killed(database_url: str, tmp_path: Path) -> None:
    if database_url.startswith("sqlite"):
        pytest.skip("one process")
    async with ModelServer() as model, opened(database_url, tmp_path, model) as servers:
        ada = await user_of(World(model, servers))
        async with ada.here, ada.there:
            model.script(stream(chunk("Hel"), STALL))
            chunks = await ada.ask(stream=True)
            name = (await anext(chunks)).id
            await anext(chunks)
            reading = asyncio.create_task(resumed(ada.there, name))
            await asyncio.sleep(1)
            await servers[0].stop(signal.SIGKILL)
            with pytest.raises(openai.APIConnectionError):
                await anext(chunks)
            async with asyncio.timeout(WITHIN):
                with pytest.raises(openai.APIError) as ended:
                    await reading
            assert ended.value.code == "interrupted"
            kept: Any = await ada.there.chat.completions.retrieve(name)
            assert (kept.choices[0].message.content, kept.error["code"]) == ("Hel", "interrupted")
