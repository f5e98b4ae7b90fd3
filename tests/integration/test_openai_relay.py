"""Chat Completions, Models and Embeddings with OpenAI's own client, unchanged: what passes through, and what not."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest
import pytest_asyncio
from aiohttp import ClientPayloadError
from openai import AsyncOpenAI

from integration.http_app import Api, api_of, settings_for
from integration.model_server import (
    CUT,
    DONE,
    STALL,
    Answer,
    Gate,
    ModelServer,
    chunk,
    event,
    part,
    plain,
    raw,
    says,
    stream,
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.once]

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
WHOLE = {
    "id": "chatcmpl-9",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "scripted-2026",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi 🦄"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    "not_yet_invented": {"a": [1.0, 1e3, None]},
}
TOOLS: list[Any] = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
PNG = "data:image/png;base64,iVBORw0KGgo="


@dataclass(frozen=True)
class World:
    stranger: Api
    server: ModelServer


@dataclass(frozen=True)
class User:
    api: Api
    server: ModelServer
    config_id: int

    def client(self, **options: Any) -> AsyncOpenAI:
        url = f"{self.api.http._base_url}/v1"
        return AsyncOpenAI(base_url=url, api_key=self.api.token, **{"max_retries": 0, **options})

    @property
    def asked(self) -> Any:
        return self.server.requests[-1]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stranger(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    settings = settings_for(
        tmp_path_factory.mktemp("data"),
        MAX_REPLIES_PER_USER="3",
        MAX_RELAY_BODY_BYTES="2000000",
        MODEL_MAX_BYTES="100000",
    )
    async with api_of(settings) as api:
        yield api


@pytest_asyncio.fixture(loop_scope="module")
async def ada(stranger: Api) -> AsyncIterator[User]:
    async with ModelServer() as server:
        api = await stranger.user()
        config = {"model_url": server.url, "model_name": "org/scripted:1", "api_key": "sk-0123456789"}
        created = (await api.post("/auth/config/create", config)).ok(201)
        yield User(api, server, created["id"])


# ---- what passes through -----------------------------------------------------------------------------------


async def test_a_whole_answer(ada: User) -> None:
    ada.server.always = plain(200, json.dumps(WHOLE))
    async with ada.client() as client:
        completion = await client.chat.completions.create(model="org/scripted:1", messages=HELLO)
    assert completion.choices[0].message.content == "Hi 🦄"
    assert completion.model_dump(exclude_unset=True) == WHOLE
    assert (ada.asked.method, ada.asked.path) == ("POST", "/v1/chat/completions")
    assert ada.asked.headers["authorization"] == "Bearer sk-0123456789"
    assert ada.asked.body == {"model": "org/scripted:1", "messages": HELLO}


async def test_a_stream(ada: User) -> None:
    ada.server.always = says("Hel", "lo", " 🦄", usage=(1, 2))
    async with ada.client() as client:
        chunks = [each async for each in await client.chat.completions.create(model="", messages=HELLO, stream=True)]
    assert "".join(each.choices[0].delta.content or "" for each in chunks if each.choices) == "Hello 🦄"
    assert chunks[-1].usage
    assert ada.asked.body["stream"] is True


async def test_text_comes_while_the_model_is_talking(ada: User) -> None:
    gate = Gate()
    ada.server.always = stream(chunk("Hel"), gate, chunk("lo"), chunk(finish="stop"), DONE)
    async with (
        ada.client() as client,
        await client.chat.completions.create(model="org/scripted:1", messages=HELLO, stream=True) as chunks,
    ):
        assert (await anext(chunks)).choices[0].delta.content == "Hel"
        gate.open()
        assert (await anext(chunks)).choices[0].delta.content == "lo"


async def test_tools_images_and_unknown_fields_reach_the_model_as_they_are(ada: User) -> None:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    ada.server.always = stream(part(tool_calls=[call]), chunk(finish="tool_calls"), DONE)
    content: Any = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": PNG}}]
    async with ada.client() as client:
        chunks = [
            each
            async for each in await client.chat.completions.create(
                model="org/scripted:1",
                messages=[{"role": "user", "content": content}],
                tools=TOOLS,
                tool_choice="auto",
                stream=True,
                store=False,
                extra_body={"not_yet_invented": {"a": [1.0, 1e3, None]}},
            )
        ]
    called = chunks[0].choices[0].delta.tool_calls
    assert called
    assert called[0].function
    assert called[0].function.name == "look"
    assert ada.asked.body["tools"] == TOOLS
    assert ada.asked.body["messages"] == [{"role": "user", "content": content}]
    assert ada.asked.body["not_yet_invented"] == {"a": [1.0, 1e3, None]}
    assert ada.asked.body["store"] is False


ODD = b'{ "model" : "org/scripted:1",\n"x":1.0e0, "y":"\\u00e9\xc3\xa9","z":[ 1 ,2], "x": 12345678901234567890123 }'


async def test_the_bytes_of_a_request_pass_untouched(ada: User) -> None:
    ada.server.always = plain(200, json.dumps(WHOLE))
    await ada.api.call("POST", "/v1/chat/completions", ODD)
    assert ada.asked.content == ODD


async def test_of_another_name_only_the_model_changes(ada: User) -> None:
    ada.server.always = plain(200, json.dumps(WHOLE))
    odd = ODD.replace(b"org/scripted:1", b"config:%d" % ada.config_id)
    assert (await ada.api.call("POST", "/v1/chat/completions", odd)).status == 200
    assert ada.asked.content == (
        b'{"model":"org/scripted:1","x":12345678901234567890123,"y":"\\u00e9\xc3\xa9","z":[ 1 ,2]}'
    )


@pytest.mark.parametrize(
    "answer",
    [
        plain(200, '{ "odd" :\n 1.0e0}'),
        Answer([], headers=[("Content-Type", "text/plain; charset=latin-1")]),
        stream(b": comment\r\n\r\n", b"event: x\nid: 1\ndata: {", b'"a": 1}\n\n', DONE),
        stream(*(b"%d" % number * 3000 for number in range(200))),
        plain(201, "{}"),
    ],
    ids=["JSON", "nothing", "events", "much", "created"],
)
async def test_the_bytes_of_an_answer_pass_untouched(ada: User, answer: Answer) -> None:
    ada.server.always = answer
    got = await ada.api.post("/v1/chat/completions", {"messages": []})
    assert got.status == 200
    assert got.body == b"".join(step for step in answer.steps if isinstance(step, bytes))
    sent = dict(answer.headers)["Content-Type"]
    assert got.headers["Content-Type"] == sent
    assert got.headers["X-Content-Type-Options"] == "nosniff"


async def test_embeddings(ada: User) -> None:
    encoded = "AACAPwAAAEA="
    item = {"object": "embedding", "index": 0, "embedding": encoded}
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    ada.server.always = plain(200, json.dumps({"object": "list", "data": [item], "model": "m", "usage": usage}))
    async with ada.client() as client:
        found = await client.embeddings.create(model=f"config:{ada.config_id}", input=["Hello"], dimensions=2)
    assert found.data[0].embedding == [1.0, 2.0]
    assert ada.asked.path == "/v1/embeddings"
    assert ada.asked.body["encoding_format"] == "base64"
    assert ada.asked.body["model"] == "org/scripted:1"


# ---- models ------------------------------------------------------------------------------------------------


async def test_models(ada: User) -> None:
    config = {"model_url": ada.server.url, "model_name": "second", "api_key": ""}
    hidden, newest = [(await ada.api.post("/auth/config/create", config)).ok(201)["id"] for _ in range(2)]
    async with ada.client() as client:
        names = [each.id async for each in client.models.list()]
        assert names == ["second", f"config:{hidden}", "org/scripted:1", "demo"]
        for name in [*names, f"config:{newest}"]:
            model = await client.models.retrieve(name)
            assert (model.id, model.object) == (name, "model")
            assert model.owned_by == ("system" if name == "demo" else "user")
            assert (model.created > 1_700_000_000) is (name != "demo")


@pytest.mark.parametrize("name", ["nothing", "config:999999", "config:x", "config:", "config:-1", "config:" + "9" * 30])
async def test_a_model_that_is_not_there(ada: User, name: str) -> None:
    async with ada.client() as client:
        with pytest.raises(openai.NotFoundError) as found:
            await client.models.retrieve(name)
        with pytest.raises(openai.NotFoundError) as asked:
            await client.chat.completions.create(model=name, messages=HELLO)
    for raised in (found.value, asked.value):
        assert (raised.code, raised.param) == ("model_not_found", "model")
        assert raised.request_id
    assert ada.server.requests == []


async def test_a_model_of_somebody_else_is_not_there(ada: User, stranger: Api) -> None:
    bob = User(await stranger.user(), ada.server, ada.config_id)
    async with bob.client() as client:
        for name in (f"config:{ada.config_id}", "org/scripted:1"):
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(model=name, messages=HELLO)
        assert [each.id async for each in client.models.list()] == ["demo"]
    assert ada.server.requests == []


# ---- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"store": "yes"}, "store"),
        ({"metadata": [1]}, "metadata"),
        ({"model": 1}, "model"),
    ],
)
async def test_a_field_that_is_refused_is_named(ada: User, body: Any, param: str) -> None:
    async with ada.client() as client:
        with pytest.raises(openai.BadRequestError) as raised:
            await client.chat.completions.create(model="", messages=HELLO, extra_body=body)
    assert raised.value.param == param


@pytest.mark.parametrize(
    "body",
    [None, b"", b"null", b"[]", b'{"model":', b'{"model": "\xff"}', b"[" * 40_000, rb'{"model": "\ud800"}', b"1"],
)
async def test_a_body_that_is_no_object(ada: User, body: bytes | None) -> None:
    answer = await ada.api.call("POST", "/v1/chat/completions", body)
    assert answer.status == 400, answer
    assert set(answer.json["error"]) == {"message", "type", "param", "code"}


async def test_a_body_that_is_too_large(ada: User) -> None:
    ada.server.always = plain(200, json.dumps(WHOLE))
    async with ada.client() as client:
        with pytest.raises(openai.APIStatusError) as raised:
            await client.chat.completions.create(model="", messages=[{"role": "user", "content": "x" * 2_000_001}])
        assert raised.value.status_code == 413
        large = "x" * 1_900_000
        await client.chat.completions.create(model="", messages=[{"role": "user", "content": large}])
    assert ada.asked.body["messages"][0]["content"] == large


@pytest.mark.parametrize("token", ["garbage", "ck-garbage", "e30.e30.AAAA"])
async def test_who_is_not_signed_in(ada: User, token: str) -> None:
    async with User(ada.api.with_token(token), ada.server, 0).client() as client:
        for asking in (
            client.models.list(),
            client.models.retrieve("demo"),
            client.chat.completions.create(model="", messages=HELLO),
            client.embeddings.create(model="", input="x"),
        ):
            with pytest.raises(openai.AuthenticationError):
                await asking
    assert ada.server.requests == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
async def test_ones_own_endpoint_refuses_in_its_own_words(ada: User, status: int, kind: type[Any]) -> None:
    words = '{"error": {"message": "Not today", "type": "x", "param": "y", "code": "z", "more": 1}}'
    ada.server.always = plain(status, words, **{"Retry-After": "7"})
    async with ada.client() as client:
        with pytest.raises(kind) as raised:
            await client.chat.completions.create(model="", messages=HELLO)
    assert raised.value.response.text == words
    assert raised.value.response.headers["retry-after"] == "7"


_ODD = [b"\xe9", b"\xff\xfe", "é".encode(), b"a\x01b", b"9" * 400, b"x" * 5000]
_HEADERS = [(name, value) for name in (b"Retry-After", b"X-Request-ID", b"Content-Type") for value in _ODD]


@pytest.mark.parametrize(("name", "value"), [*_HEADERS, (b"Retry-After", b"Fri, 31 Dec 9999 23:59:59 -2359")])
async def test_headers_of_an_endpoint_that_no_client_could_read(ada: User, name: bytes, value: bytes) -> None:
    """Any byte but the ends of lines reaches us."""
    head = b"%b: %b\r\nContent-Length: 12\r\n\r\n" % (name, value)
    async with ada.client(max_retries=0) as client:
        asking = client.chat.completions.with_raw_response
        ada.server.always = raw(b"HTTP/1.1 200 Odd\r\n", head, b'{"error": 1}')
        answer = await asking.create(model="", messages=HELLO)
        assert answer.headers["content-type"] == "application/json"
        for status in (400, 429, 500, 503):
            ada.server.always = raw(b"HTTP/1.1 %d Odd\r\n" % status, head, b'{"error": 1}')
            with pytest.raises(openai.APIStatusError) as raised:
                await asking.create(model="", messages=HELLO)
            assert raised.value.status_code == status
            assert "retry-after" not in raised.value.response.headers
            with pytest.raises(openai.APIStatusError) as stored:
                await asking.create(model="", messages=HELLO, store=True)
            assert stored.value.code != "internal"


@pytest.mark.parametrize("words", ["<h1>Bad gateway</h1>", '{"detail": "no"}', "", "\xff", '{"error": "no"}'])
async def test_other_words_are_put_into_the_form(ada: User, words: str) -> None:
    ada.server.always = plain(500, words) if words else Answer([], status=500)
    async with ada.client() as client:
        with pytest.raises(openai.InternalServerError) as raised:
            await client.chat.completions.create(model="", messages=HELLO)
    error: Any = raised.value.response.json()["error"]
    assert error["message"] == (words or "The model endpoint refused this request.")
    assert error["type"] == "server_error"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (plain(401, '{"error": {"message": "Your key sk-0123456789 is bad"}}'), "model_unauthorized"),
        (plain(403, "{}"), "model_unauthorized"),
        (plain(302, "x", Location="http://127.0.0.1:1/"), "model_url_refused"),
        (plain(200, "<script>", "text/html"), "model_protocol"),
        (plain(200, "x", **{"Content-Encoding": "gzip"}), "model_protocol"),
        (raw(CUT), "model_unavailable"),
        (raw(b"no HTTP\r\n\r\n"), "model_protocol"),
    ],
)
async def test_what_does_not_pass_is_said_in_our_words(ada: User, answer: Answer, code: str) -> None:
    ada.server.always = answer
    async with ada.client() as client:
        with pytest.raises(openai.InternalServerError) as raised:
            await client.chat.completions.create(model="", messages=HELLO)
    assert (raised.value.status_code, raised.value.code) == (502, code)
    assert "sk-" not in raised.value.response.text
    again = raised.value.response.headers["x-should-retry"]
    assert again == ("true" if code == "model_unavailable" else "false")


@pytest.mark.parametrize(("answer", "calls"), [(raw(CUT), 3), (plain(401, "{}"), 1), (plain(500, "{}"), 3)])
async def test_the_client_tries_again_where_that_may_help(ada: User, answer: Answer, calls: int) -> None:
    ada.server.always = answer
    async with ada.client(max_retries=2) as client:
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="", messages=HELLO)
    assert len(ada.server.requests) == calls


async def test_a_user_has_so_many_at_once(ada: User) -> None:
    ada.server.always = stream(chunk("Hel"), STALL)
    async with ada.client() as client:
        streams = [await client.chat.completions.create(model="", messages=HELLO, stream=True) for _ in range(3)]
        with pytest.raises(openai.RateLimitError) as raised:
            await client.chat.completions.create(model="", messages=HELLO)
        assert raised.value.response.headers["x-should-retry"] == "true"
        conversation = await ada.api.conversation()
        (await ada.api.post(f"/conversations/{conversation}/chat", {"content": "Hi"})).problem(429, "rate_limited")
        for each in streams:
            await each.close()
        await asyncio.gather(*(request.ended() for request in ada.server.requests))
        ada.server.always = says("Hello")
        await client.chat.completions.create(model="", messages=HELLO)


# ---- ends --------------------------------------------------------------------------------------------------


async def test_a_client_that_leaves_a_stream_closes_the_call(ada: User) -> None:
    ada.server.always = stream(chunk("Hel"), STALL)
    async with (
        ada.client() as client,
        await client.chat.completions.create(model="", messages=HELLO, stream=True) as chunks,
    ):
        await anext(chunks)
    await asyncio.wait_for(ada.asked.ended(), 5)
    assert ada.asked.ending == "left"


async def test_a_client_that_leaves_before_the_first_byte_closes_the_call(ada: User) -> None:
    ada.server.always = raw(STALL)
    async with ada.client(timeout=0.3) as client:
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(model="", messages=HELLO)
    await asyncio.wait_for(ada.asked.ended(), 5)
    assert ada.asked.ending == "left"


async def test_a_session_that_ends_ends_the_call(ada: User) -> None:
    ada.server.always = stream(chunk("Hel"), STALL)
    async with ada.client() as client:
        chunks = await client.chat.completions.create(model="", messages=HELLO, stream=True)
        await anext(chunks)
        (await ada.api.post("/auth/logout")).ok()
        with pytest.raises(openai.APIError, match="session has ended"):
            await anext(chunks)
    await asyncio.wait_for(ada.asked.ended(), 5)
    assert ada.asked.ending == "left"


async def test_a_session_that_ends_before_the_first_byte_ends_the_call(ada: User) -> None:
    ada.server.always = raw(STALL)
    async with ada.client() as client:
        asking = asyncio.create_task(client.chat.completions.create(model="", messages=HELLO))
        while not ada.server.requests:
            await asyncio.sleep(0.01)
        (await ada.api.post("/auth/logout")).ok()
        with pytest.raises(openai.AuthenticationError):
            await asking


@pytest.mark.parametrize("said", [["Hel"], ["Hel", "lo"], []])
async def test_a_stream_that_breaks_after_an_event_says_so(ada: User, said: list[str]) -> None:
    ada.server.always = stream(*map(chunk, said), 0.01, CUT)
    async with ada.client() as client:
        chunks = await client.chat.completions.create(model="", messages=HELLO, stream=True)
        for _ in said:
            await anext(chunks)
        with pytest.raises(openai.APIError) as raised:
            await anext(chunks)
    assert raised.value.code == "model_unavailable"


@pytest.mark.parametrize(
    "answer", [stream(b'data: {"id"', CUT), Answer([b'{"id"', CUT], headers=[("Content-Type", "application/json")])]
)
async def test_what_breaks_in_the_middle_of_something_breaks_for_its_client(ada: User, answer: Answer) -> None:
    ada.server.always = answer
    async with ada.client() as client:
        with pytest.raises(openai.APIConnectionError):
            async for _ in await client.chat.completions.create(model="", messages=HELLO, stream=True):
                pass


async def test_an_endpoint_that_sends_too_much_is_cut_off(ada: User) -> None:
    ada.server.always = stream(*[event("x" * 8000)] * 1000)
    got = list[bytes]()

    async def read() -> None:
        bearer = {"Authorization": f"Bearer {ada.api.token}"}
        async with ada.api.http.post("/v1/chat/completions", json={}, headers=bearer) as response:
            while piece := await response.content.readany():
                got.append(piece)

    with pytest.raises(ClientPayloadError):
        await read()
    assert 1_000_000 < len(b"".join(got)) < 2_000_000  # MODEL_MAX_RAW_BYTES is 16 times MODEL_MAX_BYTES


# ---- the demo model ----------------------------------------------------------------------------------------


async def test_the_demo_model_answers_offline(ada: User) -> None:
    parts: Any = [{"role": "user", "content": [{"type": "text", "text": "Why is the sky blue?"}]}]
    async with ada.client() as client:
        whole = await client.chat.completions.create(model="demo", messages=parts)
        chunks = [
            each async for each in await client.chat.completions.create(model="demo", messages=parts, stream=True)
        ]
    said = whole.choices[0].message.content
    assert said
    assert "Why is the sky blue?" in said
    assert "".join(each.choices[0].delta.content or "" for each in chunks) == said
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_the_demo_model_refuses_all_else(ada: User) -> None:
    async with ada.client() as client:
        with pytest.raises(openai.BadRequestError, match="chat completions alone"):
            await client.embeddings.create(model="demo", input="x")
        for messages in (None, "x", [1], [{"content": "x"}]):
            with pytest.raises(openai.BadRequestError):
                await client.chat.completions.create(model="demo", messages=messages)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
