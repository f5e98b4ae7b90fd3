"""The OpenAI gateway against the tests' own server: what goes over the wire, and what may go wrong there."""

import asyncio
import gzip
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from chatcore.entities import FinishReason, Role, Usage
from chatcore.errors import (
    ModelContextLength,
    ModelError,
    ModelNotFound,
    ModelPaymentRequired,
    ModelProtocolError,
    ModelRateLimited,
    ModelRefused,
    ModelTimeout,
    ModelUnauthorized,
    ModelUnavailable,
    ModelURLRefused,
)
from chatcore.ports import Delta, ModelEndpoint, Prompt, PromptMessage
from chatcore_openai import LOOPBACK, OpenAIGateway
from integration.model_server import (
    CUT,
    DONE,
    RESET,
    STALL,
    Answer,
    Gate,
    ModelServer,
    chunk,
    event,
    plain,
    raw,
    says,
    stream,
)

KEY = "sk-secret-of-this-test"
PROMPT = Prompt(messages=[PromptMessage(Role.SYSTEM, "Be brief."), PromptMessage(Role.USER, "Hello? 🦄")])
FINISH = chunk(finish="stop")
WHOLE = chunk("Hello") + FINISH + DONE
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


@pytest.fixture
async def gateway() -> AsyncIterator[OpenAIGateway]:
    async with OpenAIGateway(allow=LOOPBACK) as gateway:
        yield gateway


def at(server: ModelServer, key: str = KEY, url: str | None = None) -> ModelEndpoint:
    return ModelEndpoint(url=url or server.url, model="scripted", api_key=key)


async def heard(gateway: OpenAIGateway, endpoint: ModelEndpoint, prompt: Prompt = PROMPT) -> list[Delta]:
    return [delta async for delta in gateway.stream(endpoint, prompt)]


async def text(gateway: OpenAIGateway, endpoint: ModelEndpoint) -> str:
    return "".join(delta.text for delta in await heard(gateway, endpoint))


async def failure(gateway: OpenAIGateway, endpoint: ModelEndpoint) -> tuple[str, ModelError]:
    """What was said, and how it ended."""
    said: list[str] = []

    async def listen() -> None:
        async for delta in gateway.stream(endpoint, PROMPT):
            said.append(delta.text)  # noqa: PERF401  # kept although the loop ends in an error

    with pytest.raises(ModelError) as raised:
        await listen()
    return "".join(said), raised.value


# ---- the request -----------------------------------------------------------------------------------------


async def test_the_request(gateway: OpenAIGateway, server: ModelServer) -> None:
    await heard(gateway, at(server))
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.body == {
        "model": "scripted",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello? 🦄"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_temperature_and_max_tokens_are_sent_if_they_are_set(gateway: OpenAIGateway, server: ModelServer) -> None:
    await heard(gateway, at(server), Prompt(messages=[], temperature=0.0, max_tokens=7))
    body = server.requests[0].body
    assert (body["messages"], body["temperature"], body["max_tokens"]) == ([], 0.0, 7)


@pytest.mark.parametrize("suffix", ["", "/", "//"])
async def test_the_path_is_appended_to_the_url(gateway: OpenAIGateway, server: ModelServer, suffix: str) -> None:
    await heard(gateway, at(server, url=server.url.removesuffix("/v1") + "/some%2Fwhere/v1" + suffix))
    assert server.requests[0].path == "/some%2Fwhere/v1" + (suffix or "/") + "chat/completions"


async def test_the_headers_tell_nothing_about_this_machine(
    gateway: OpenAIGateway, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin-of-the-environment")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-the-environment")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-the-environment")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Custom: environment\nAuthorization: Bearer environment")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/environment")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    await heard(gateway, at(server))
    assert {**server.requests[0].headers, "content-length": "…"} == {
        "host": f"127.0.0.1:{server.port}",
        "user-agent": "chatcore",
        "accept": "application/json",
        "accept-encoding": "identity",
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "content-length": "…",
    }


async def test_every_call_has_its_own_key(gateway: OpenAIGateway, server: ModelServer) -> None:
    keys = [f"sk-{number}" for number in range(5)]
    await asyncio.gather(*(heard(gateway, at(server, key)) for key in keys))
    assert sorted(request.headers["authorization"] for request in server.requests) == [f"Bearer {key}" for key in keys]


@pytest.mark.parametrize("key", ["sk-ключ", "sk-a\r\nX-Injected: 1", "sk-a\0"])
async def test_a_key_that_cannot_be_a_header_is_refused(gateway: OpenAIGateway, server: ModelServer, key: str) -> None:
    _, error = await failure(gateway, at(server, key))
    assert type(error) is ModelUnauthorized
    assert key not in error.detail
    assert server.connections == 0


async def test_without_a_key_none_is_sent(
    gateway: OpenAIGateway, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    await heard(gateway, at(server, key=""))
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://",
        "no url",
        "ftp://127.0.0.1/",
        "http://127.0.0.1:99999/",
        "http://[::1",
        "http://user:pw@127.0.0.1/",
        "http://a..b/",
        "http://\udcff/",
    ],
)
async def test_what_is_no_url_is_refused(gateway: OpenAIGateway, url: str) -> None:
    _, error = await failure(gateway, ModelEndpoint(url=url, model="scripted", api_key=KEY))
    assert type(error) is ModelURLRefused


async def test_no_cookie_is_kept(gateway: OpenAIGateway, server: ModelServer) -> None:
    hello = says("Hello")
    server.always = Answer(hello.steps, headers=[*hello.headers, ("Set-Cookie", "who=somebody; Path=/")])
    await heard(gateway, at(server))
    await heard(gateway, at(server))
    assert [request.headers.get("cookie") for request in server.requests] == [None, None]


# ---- answers ---------------------------------------------------------------------------------------------


async def test_a_read_is_a_delta(gateway: OpenAIGateway, server: ModelServer) -> None:
    gate = Gate()
    thousand = b"".join(chunk(f"{number} ") for number in range(1000))
    server.script(stream(thousand, gate, chunk("🦄") + chunk("!"), chunk(finish="stop", usage=(3, 4)), DONE))
    async with aclosing(gateway.stream(at(server), PROMPT)) as deltas:
        first = ""
        while len(first) < 3890:
            first += (await anext(deltas)).text
        assert first == "".join(f"{number} " for number in range(1000))
        gate.open()
        assert await anext(deltas) == Delta(text="🦄!")
        usage = Usage(prompt_tokens=3, completion_tokens=4, total_tokens=7)
        assert await anext(deltas) == Delta(usage=usage, finish_reason=FinishReason.STOP)
        with pytest.raises(StopAsyncIteration):
            await anext(deltas)


@pytest.mark.parametrize(
    "answer",
    [
        stream(chunk("Hello"), FINISH),
        stream(chunk("Hello"), DONE),
        stream(chunk("Hello"), FINISH, CUT),
        stream(chunk("Hello"), FINISH, RESET),
        stream(chunk("Hello"), FINISH, DONE, CUT),
        stream(chunk("Hello"), FINISH, DONE, STALL),
        stream(chunk("Hello"), FINISH.rstrip()),
        raw(HEAD + b"Connection: close\r\n\r\n" + chunk("Hello") + FINISH, CUT),
        raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"ffff\r\n" + chunk("Hello") + FINISH + DONE, CUT),
        raw(HEAD + b"Content-Length: 100000\r\n\r\n" + chunk("Hello") + FINISH + DONE, CUT),
        raw(
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(WHOLE), WHOLE), 0.05, b"no chunk\r\n", STALL
        ),
        plain(200, '{"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}'),
        plain(201, '{"choices": [{"message": {"content": "Hello"}}]}', "Application/JSON; charset=utf-8"),
    ],
)
async def test_ends_that_are_good_enough(gateway: OpenAIGateway, server: ModelServer, answer: Answer) -> None:
    server.script(answer)
    assert await text(gateway, at(server)) == "Hello"
    assert server.connections == 1


@pytest.mark.parametrize("coding", ["gzip", "GZip", "deflate", "br", "zstd", "identity, gzip"])
async def test_what_was_compressed_although_it_was_not_asked_for_is_not_read(
    gateway: OpenAIGateway, server: ModelServer, coding: str
) -> None:
    body = gzip.compress(chunk("Hello 🦄") + FINISH + DONE)
    server.script(Answer([body, STALL], headers=(*says().headers, ("Content-Encoding", coding))))
    said, error = await failure(gateway, at(server))
    assert (said, type(error)) == ("", ModelProtocolError)
    assert "compressed" in error.detail


async def test_a_coding_that_is_none_is_no_harm(gateway: OpenAIGateway, server: ModelServer) -> None:
    server.script(Answer(says("Hello").steps, headers=(*says().headers, ("Content-Encoding", "identity"))))
    assert await text(gateway, at(server)) == "Hello"


@pytest.mark.parametrize(
    ("answer", "said", "kind"),
    [
        (stream(chunk("Hel"), CUT), "Hel", ModelUnavailable),
        (stream(chunk("Hel"), RESET), "Hel", ModelUnavailable),
        (stream(chunk("Hel")), "Hel", ModelUnavailable),
        (stream(CUT), "", ModelUnavailable),
        (stream(), "", ModelProtocolError),
        (stream(b": ping\n\n"), "", ModelProtocolError),
        (stream(chunk("Hel"), event("FOREIGN")), "Hel", ModelProtocolError),
        (stream(chunk("Hel"), event({"error": {"code": 429, "message": "FOREIGN"}})), "Hel", ModelRateLimited),
        (raw(CUT), "", ModelUnavailable),
        (raw(RESET), "", ModelUnavailable),
        (raw(b"SSH-2.0-FOREIGN\r\n", STALL), "", ModelProtocolError),
        (raw(b"HTTP/1.1 200 OK\r\nFOREIGN\x01\r\n\r\n", STALL), "", ModelProtocolError),
        (plain(200, "<p>FOREIGN", "text/html"), "", ModelProtocolError),
        (plain(200, "<p>FOREIGN", "text/event-stream"), "", ModelProtocolError),
        (plain(200, "FOREIGN", "text/plain"), "", ModelProtocolError),
        (plain(200, "FOREIGN"), "", ModelProtocolError),
        (plain(200, '{"detail": "FOREIGN"}'), "", ModelUnavailable),
        (plain(200, '{"error": {"type": "authentication_error", "message": "FOREIGN"}}'), "", ModelUnauthorized),
        (raw(HEAD.split(b"\r\n")[0] + b"\r\n\r\n" + chunk("Hel"), CUT), "Hel", ModelUnavailable),
    ],
)
async def test_answers_that_fail(
    gateway: OpenAIGateway, server: ModelServer, answer: Answer, said: str, kind: type[ModelError]
) -> None:
    server.script(answer)
    heard, error = await failure(gateway, at(server))
    assert (heard, type(error)) == (said, kind)
    assert "FOREIGN" not in error.detail
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, ModelURLRefused),
        (307, ModelURLRefused),
        (400, ModelRefused),
        (401, ModelUnauthorized),
        (402, ModelPaymentRequired),
        (403, ModelUnauthorized),
        (404, ModelNotFound),
        (413, ModelContextLength),
        (418, ModelRefused),
        (422, ModelRefused),
        (429, ModelRateLimited),
        (500, ModelUnavailable),
        (503, ModelUnavailable),
    ],
)
async def test_statuses(gateway: OpenAIGateway, server: ModelServer, status: int, kind: type[ModelError]) -> None:
    server.always = plain(status, '{"error": {"message": "FOREIGN"}}', Location=server.url + "/elsewhere")
    _, error = await failure(gateway, at(server))
    assert type(error) is kind
    assert "FOREIGN" not in error.detail
    assert len(server.requests) == 1


async def test_the_body_of_a_refusal_is_not_waited_for(gateway: OpenAIGateway, server: ModelServer) -> None:
    server.script(Answer([b"x" * 100_000, STALL], status=401))
    _, error = await failure(gateway, at(server))
    assert type(error) is ModelUnauthorized
    await server.requests[0].ended()
    assert server.requests[0].ending == "left"


async def test_nobody_is_there(gateway: OpenAIGateway) -> None:
    async with ModelServer() as server:
        pass
    _, error = await failure(gateway, at(server))
    assert type(error) is ModelUnavailable


async def test_a_server_that_speaks_no_tls(gateway: OpenAIGateway) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"FOREIGN\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        _, error = await failure(gateway, ModelEndpoint(url=f"https://127.0.0.1:{port}/v1", model="m", api_key=KEY))
    assert type(error) is ModelUnavailable


# ---- time and size ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer", [raw(STALL), stream(STALL), stream(b": ping\n\n", STALL), stream(chunk("Hel"), STALL)]
)
@pytest.mark.parametrize("limits", [(0.05, 600), (60, 0.05)], ids=["idle", "total"])
async def test_a_model_that_falls_silent(server: ModelServer, answer: Answer, limits: tuple[float, float]) -> None:
    server.script(answer)
    async with OpenAIGateway(idle_timeout=limits[0], total_timeout=limits[1], allow=LOOPBACK) as gateway:
        await gateway.warm()
        said, error = await failure(gateway, at(server))
    assert (said, type(error)) == ("Hel" if chunk("Hel") in answer.steps else "", ModelTimeout)
    await server.requests[0].ended()
    assert server.requests[0].ending == "left"


async def test_a_model_that_never_ends(server: ModelServer) -> None:
    server.script(stream(*[chunk("x")] * 100_000))
    async with OpenAIGateway(total_timeout=2, allow=LOOPBACK) as gateway:
        await gateway.warm()
        said, error = await failure(gateway, at(server))
    assert (set(said), type(error)) == ({"x"}, ModelTimeout)


async def test_a_connection_that_is_never_made(server: ModelServer) -> None:
    async with OpenAIGateway(connect_timeout=0.05, allow=LOOPBACK) as gateway:
        # The server waits for a request while the client waits for an answer to its TLS handshake.
        _, error = await failure(gateway, at(server, url=server.url.replace("http", "https")))
    assert type(error) is ModelTimeout
    assert "connection" in error.detail


async def test_a_model_that_says_too_much(server: ModelServer) -> None:
    gate = Gate()
    server.script(stream(chunk("x" * 900), gate, chunk("y" * 200), STALL))
    async with (
        OpenAIGateway(max_bytes=1000, allow=LOOPBACK) as gateway,
        aclosing(gateway.stream(at(server), PROMPT)) as deltas,
    ):
        assert await anext(deltas) == Delta(text="x" * 900)
        gate.open()
        with pytest.raises(ModelProtocolError):
            await anext(deltas)
    await server.requests[0].ended()
    assert server.requests[0].ending == "left"


# ---- connections -----------------------------------------------------------------------------------------


async def test_a_connection_is_used_again(gateway: OpenAIGateway, server: ModelServer) -> None:
    for _ in range(3):
        assert await text(gateway, at(server)) == "Hello"
    assert (len(server.requests), server.connections) == (3, 1)


async def test_a_connection_that_was_left_in_mid_stream_is_not(gateway: OpenAIGateway, server: ModelServer) -> None:
    server.script(stream(chunk("Hel"), STALL))
    async with aclosing(gateway.stream(at(server), PROMPT)) as deltas:
        assert await anext(deltas) == Delta(text="Hel")
    await server.requests[0].ended()
    assert await text(gateway, at(server)) == "Hello"
    assert server.connections == 2


async def test_what_had_arrived_before_a_cut_is_said_to_a_slow_reader(
    gateway: OpenAIGateway, server: ModelServer
) -> None:
    gate = Gate()
    server.script(stream(chunk("Hel"), gate, chunk("lo"), FINISH, CUT))
    async with aclosing(gateway.stream(at(server), PROMPT)) as deltas:
        assert await anext(deltas) == Delta(text="Hel")
        gate.open()
        while server.open_connections:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        assert await anext(deltas) == Delta(text="lo")
        assert await anext(deltas) == Delta(finish_reason=FinishReason.STOP)
        with pytest.raises(StopAsyncIteration):
            await anext(deltas)


async def test_many_at_once(gateway: OpenAIGateway, server: ModelServer) -> None:
    number, gate = 300, Gate()
    server.always = stream(chunk("Hel"), gate, chunk("lo"), FINISH, DONE)
    readers = [asyncio.create_task(text(gateway, at(server))) for _ in range(number)]
    while len(server.requests) < number:
        await asyncio.sleep(0.001)
    assert server.open_connections == number
    gate.open()
    assert await asyncio.gather(*readers) == ["Hello"] * number


async def test_leaving_the_gateway_closes_its_connections(server: ModelServer) -> None:
    async with OpenAIGateway(allow=LOOPBACK) as gateway:
        await heard(gateway, at(server))
        assert server.open_connections == 1
    while server.open_connections:
        await asyncio.sleep(0.001)


# ---- around it -------------------------------------------------------------------------------------------


async def test_nothing_secret_is_logged(
    gateway: OpenAIGateway, server: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = f"Why {KEY}, Bearer {KEY} and 'Be brief.'?"
    server.script(
        says("ANSWER"), plain(401, echo), stream(event({"error": {"message": echo}})), stream(event("ANSWER"))
    )
    await heard(gateway, at(server))
    for _ in range(3):
        await failure(gateway, at(server))
    assert caplog.text.count("Why [redacted], ") == 2
    for secret in (KEY, "ANSWER", "Be brief"):
        assert secret not in caplog.text


def test_importing_it_is_cheap() -> None:
    program = "import sys, chatcore_openai; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert "chatcore_openai.gateway" in loaded
    assert not {"openai", "httpx2", "aiohttp", "pydantic"} & set(loaded)


async def test_warming_up_imports_ahead_of_the_first_call() -> None:
    program = (
        "import asyncio, sys, chatcore_openai\n"
        "async def main():\n"
        "    async with chatcore_openai.OpenAIGateway() as gateway:\n"
        "        await gateway.warm()\n"
        "        print(*sys.modules)\n"
        "asyncio.run(main())"
    )
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert {"openai", "httpx2", "aiohttp"} <= set(loaded)
