"""Endpoints as they really are: each has its own form of the request, of the answer, and of its refusals."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from chatcore.entities import FinishReason, Role, Usage
from chatcore.errors import (
    ModelContextLength,
    ModelError,
    ModelNotFound,
    ModelPaymentRequired,
    ModelRateLimited,
    ModelRefused,
    ModelUnauthorized,
    ModelUnavailable,
)
from chatcore.ports import Delta, ImagePart, ModelEndpoint, Prompt, PromptMessage, TextPart
from chatcore_openai import LOOPBACK, OpenAIGateway
from chatcore_openai.failures import words_for_log
from integration.model_server import (
    CUT,
    DONE,
    STALL,
    Answer,
    ModelServer,
    Step,
    chunk,
    event,
    part,
    plain,
    says,
    stream,
)

KEY = "sk-secret-of-this-test"
ENDPOINT = ModelEndpoint(url="http://127.0.0.1/v1", model="scripted", api_key=KEY)
PROMPT = Prompt(messages=[PromptMessage(Role.USER, "Hello? 🦄")], temperature=0.7, max_tokens=7)
FINISH = chunk(finish="stop")
WHOLE = json.dumps({"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]})


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


@pytest.fixture
async def gateway() -> AsyncIterator[OpenAIGateway]:
    async with OpenAIGateway(allow=LOOPBACK) as gateway:
        await gateway.warm()
        yield gateway


def at(server: ModelServer, *, url: str | None = None, model: str = "scripted") -> ModelEndpoint:
    return ModelEndpoint(url=url or server.url, model=model, api_key=KEY)


async def heard(gateway: OpenAIGateway, endpoint: ModelEndpoint, prompt: Prompt = PROMPT) -> Delta:
    """Everything that was said, as one delta."""
    whole = Delta()
    async for delta in gateway.stream(endpoint, prompt):
        whole.reasoning += delta.reasoning
        whole.text += delta.text
        whole.usage = delta.usage or whole.usage
        whole.finish_reason = delta.finish_reason or whole.finish_reason
    return whole


async def failure(gateway: OpenAIGateway, endpoint: ModelEndpoint) -> ModelError:
    with pytest.raises(ModelError) as raised:
        await heard(gateway, endpoint)
    assert "FOREIGN" not in raised.value.detail
    return raised.value


# ---- the answer ------------------------------------------------------------------------------------------


async def test_parts_of_a_content(gateway: OpenAIGateway, server: ModelServer) -> None:
    """As Mistral's reasoning models send them."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}
    text = [{"type": "text", "text": "Hello"}, {"type": "reference", "reference_ids": [0]}]
    server.script(stream(part(content=[thinking]), part(content=text), FINISH, DONE))
    assert await heard(gateway, at(server)) == Delta("Hm", "Hello", finish_reason=FinishReason.STOP)


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", "text/json", "text/html", "x", ""])
@pytest.mark.parametrize("body", [chunk("Hello") + FINISH + DONE, WHOLE.encode()], ids=["events", "json"])
async def test_the_content_type_does_not_matter(
    gateway: OpenAIGateway, server: ModelServer, body: bytes, content_type: str
) -> None:
    server.script(Answer([body], headers=[("Content-Type", content_type)] if content_type else []))
    assert (await heard(gateway, at(server))).text == "Hello"


@pytest.mark.parametrize("step", [b": ping\n\n", event({}), chunk("")], ids=["comments", "objects", "deltas"])
@pytest.mark.parametrize("usage", [(3, 4), None], ids=["with usage", "without"])
async def test_after_its_last_word_a_model_is_not_waited_for(
    gateway: OpenAIGateway, server: ModelServer, step: bytes, usage: tuple[int, int] | None
) -> None:
    pause: Step = 0.05
    server.script(stream(chunk("Hello"), FINISH, *([chunk(usage=usage)] if usage else []), *[step, pause] * 1000))
    began = time.monotonic()
    said = await heard(gateway, at(server))
    assert said.text == "Hello"
    assert said.usage == (usage and Usage(prompt_tokens=3, completion_tokens=4, total_tokens=7))
    assert time.monotonic() - began < 10  # 1.5 s on an idle machine
    await server.requests[0].ended()
    assert server.requests[0].ending == "left"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (plain(200, '{"error": {"code": "invalid_api_key"}}', "text/event-stream"), ModelUnauthorized),
        (plain(200, '[{"error": {"code": 429, "message": "FOREIGN"}}]'), ModelRateLimited),
        (plain(200, '{"code": 401, "message": "FOREIGN"}', "text/plain"), ModelUnauthorized),
        (stream(b"event: error\n" + event({"code": 500, "message": "FOREIGN"})), ModelUnavailable),
        (stream(event({"choices": [{"error": {"code": 402, "message": "FOREIGN"}}]})), ModelPaymentRequired),
        (stream(part(), event({"choices": [{"delta": {}, "finish_reason": "error"}]}), DONE), ModelUnavailable),
        (stream(event({"choices": [{"delta": {"content": "H"}, "message": {"content": "H"}}]}), CUT), ModelUnavailable),
    ],
)
async def test_what_is_no_success_fails(
    gateway: OpenAIGateway, server: ModelServer, answer: Answer, kind: type[ModelError]
) -> None:
    server.script(answer)
    assert type(await failure(gateway, at(server))) is kind


# ---- the request -----------------------------------------------------------------------------------------


def refusing(name: str) -> list[Answer]:
    """The words of OpenAI, of those who validate strictly, and of others."""
    message = f"Unsupported parameter: '{name}' is not supported with this model. FOREIGN"
    detail = [{"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted", "input": 1}]
    return [
        plain(400, json.dumps({"error": {"message": message, "param": name, "code": "unsupported_parameter"}})),
        plain(400, json.dumps({"error": {"message": f"Unknown parameter: {name}"}})),
        plain(400, json.dumps({"message": f"Unrecognized request argument supplied: {name}", "code": 400})),
        plain(422, json.dumps({"detail": detail})),
        plain(400, f"{name}: unexpected field", "text/plain"),
    ]


@pytest.mark.parametrize("form", range(5))
@pytest.mark.parametrize(
    ("refused", "instead"),
    [
        (["stream_options"], {}),
        (["temperature"], {}),
        (["max_tokens"], {"max_completion_tokens": 7}),
        (["max_tokens", "max_completion_tokens"], {}),
        (["max_tokens", "temperature", "stream_options"], {"max_completion_tokens": 7}),
    ],
)
async def test_a_parameter_that_is_refused_is_left_out_and_that_is_remembered(
    gateway: OpenAIGateway, server: ModelServer, refused: list[str], instead: dict[str, int], form: int
) -> None:
    server.script(*(refusing(name)[form] for name in refused))
    assert (await heard(gateway, at(server))).text == "Hello"
    assert len(server.requests) == len(refused) + 1
    last = server.requests[-1].body
    assert not last.keys() & set(refused)
    assert last == {name: value for name, value in server.requests[0].body.items() if name not in refused} | instead

    assert (await heard(gateway, at(server))).text == "Hello"
    assert server.requests[-1].body == last
    assert len(server.requests) == len(refused) + 2
    await heard(gateway, at(server, model="another"))
    assert server.requests[-1].body == server.requests[0].body | {"model": "another"}


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "System role not supported"),
        (400, "Unsupported value: 'messages[0].role' does not support 'system' with this model."),
        (400, "Developer instruction is not enabled for models/gemma-3-27b-it"),
        (500, "Only user, assistant and tool roles are supported, got system."),
        (400, "Conversation roles must alternate user/assistant/user/assistant/..."),
    ],
)
async def test_a_model_without_a_system_prompt_is_told_it_by_the_user(
    gateway: OpenAIGateway, server: ModelServer, status: int, message: str
) -> None:
    prompt = Prompt(messages=[PromptMessage(Role.SYSTEM, "Be kind."), *PROMPT.messages])
    server.script(plain(status, json.dumps({"error": {"message": message}})))
    for _ in range(2):
        assert (await heard(gateway, at(server), prompt)).text == "Hello"
    told = [{"role": "user", "content": "Be kind.\n\nHello? 🦄"}]
    assert [request.body["messages"] == told for request in server.requests] == [False, True, True]


async def test_a_model_that_does_not_stream_is_asked_for_its_whole_answer(
    gateway: OpenAIGateway, server: ModelServer
) -> None:
    message = "Unsupported value: 'stream' does not support true with this model. Supported values are: false."
    server.script(plain(400, json.dumps({"error": {"message": message, "param": "stream"}})), plain(200, WHOLE))
    assert (await heard(gateway, at(server))).text == "Hello"
    assert server.requests[1].body["stream"] is False
    assert "stream_options" not in server.requests[1].body


async def test_what_did_not_help_is_not_remembered(gateway: OpenAIGateway, server: ModelServer) -> None:
    server.script(refusing("temperature")[0], plain(400, '{"error": {"message": "FOREIGN"}}'))
    assert type(await failure(gateway, at(server))) is ModelRefused
    await heard(gateway, at(server))
    assert server.requests[-1].body == server.requests[0].body


@pytest.mark.parametrize(
    "message",
    [
        "temperature must be between 0 and 1",
        "max_tokens is too large: 4096",
        "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
        "FOREIGN",
    ],
)
async def test_any_other_refusal_is_one(gateway: OpenAIGateway, server: ModelServer, message: str) -> None:
    server.always = plain(400, json.dumps({"error": {"message": message}}))
    assert type(await failure(gateway, at(server))) is ModelRefused
    assert len(server.requests) == 1


async def test_what_was_not_asked_is_not_left_out(gateway: OpenAIGateway, server: ModelServer) -> None:
    server.always = refusing("temperature")[0]
    with pytest.raises(ModelRefused):
        await heard(gateway, at(server), Prompt(messages=PROMPT.messages))
    assert len(server.requests) == 1


async def test_azures_query_and_key(gateway: OpenAIGateway, server: ModelServer) -> None:
    base = server.url.removesuffix("/v1") + "/openai/deployments/gpt"
    await heard(gateway, at(server, url=f"{base}?api-version=2024-10-21"))
    server.script(plain(200, '{"data": []}'))
    await gateway.models(at(server, url=f"{base}?api-version=2024-10-21"))
    for request, path in zip(server.requests, ("chat/completions", "models"), strict=True):
        assert request.path == f"/openai/deployments/gpt/{path}?api-version=2024-10-21"
        assert request.headers["api-key"] == KEY
        assert "authorization" not in request.headers


async def test_nobody_else_has_azures_header(gateway: OpenAIGateway, server: ModelServer) -> None:
    await heard(gateway, at(server))
    assert "api-key" not in server.requests[0].headers


# ---- refusals --------------------------------------------------------------------------------------------


def error(message: str, **fields: Any) -> str:
    return json.dumps({"error": {"message": f"{message} FOREIGN", **fields}})


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (402, error("Insufficient Balance"), ModelPaymentRequired),
        (429, error("You exceeded your current quota", code="insufficient_quota"), ModelPaymentRequired),
        (400, error("Your credit balance is too low to access the API."), ModelPaymentRequired),
        (400, error("Too long", code="context_length_exceeded"), ModelContextLength),
        (400, error("This model's maximum context length is 8192 tokens."), ModelContextLength),
        (400, error("prompt is too long: 210000 tokens > 200000 maximum"), ModelContextLength),
        (
            400,
            error("request exceeds it", type="exceed_context_size_error"),
            ModelContextLength,
        ),
        (422, json.dumps({"message": "Input is too long for requested model."}), ModelContextLength),
        (413, "FOREIGN", ModelContextLength),
        (400, error("API key not valid. Please pass a valid API key."), ModelUnauthorized),
        (400, json.dumps([{"error": {"code": 400, "message": "API key not valid. FOREIGN"}}]), ModelUnauthorized),
        (
            400,
            json.dumps({"code": "invalid argument", "error": "Incorrect API key"}),
            ModelUnauthorized,
        ),
        (400, json.dumps({"detail": "Invalid API key FOREIGN"}), ModelUnauthorized),
        (400, error("gpt-5o is not a valid model ID", code=400), ModelRefused),
        (400, error("The model `gpt-5o` does not exist"), ModelNotFound),
        (400, error("Invalid model name"), ModelNotFound),
        (400, "Invalid api_key", ModelUnauthorized),
        (401, error("The model does not exist"), ModelUnauthorized),
        (503, error("billing service down"), ModelUnavailable),
        (403, error("x requires moderation. Your input was flagged", code=403), ModelRefused),
        (403, error("Key limit exceeded (total limit)", code=403), ModelPaymentRequired),
        (400, error("Budget has been exceeded!", type="budget_exceeded", code="400"), ModelPaymentRequired),
        (429, error("No balance left", code="1113"), ModelPaymentRequired),
        (429, error("Insufficient account balance"), ModelPaymentRequired),
        (429, error("Check your plan and billing", code=429, status="RESOURCE_EXHAUSTED"), ModelRateLimited),
        (429, error("The number of input tokens has exceeded your rate limit"), ModelRateLimited),
        (400, error("It has been decommissioned", code="model_decommissioned"), ModelNotFound),
        (400, json.dumps({"error": 'Model "FOREIGN" is not loaded'}), ModelNotFound),
        (422, error("`inputs` tokens + `max_new_tokens` must be <= 4096."), ModelContextLength),
        (400, " ", ModelRefused),
        (400, "[" * 100_000, ModelRefused),
    ],
)
async def test_what_a_refusal_means(
    gateway: OpenAIGateway, server: ModelServer, status: int, body: str, kind: type[ModelError]
) -> None:
    server.always = plain(status, body)
    assert type(await failure(gateway, at(server))) is kind
    with pytest.raises(kind):
        await gateway.models(at(server))


async def test_the_log_has_the_endpoints_words(
    gateway: OpenAIGateway, server: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    echo = f"Quota of org-1\n\x1b[31m\u202e used up. Key {KEY}, sk-ab****yz. Input: Hello? 🦄 " + "x" * 3000
    server.script(plain(429, error(echo, code="quota")), stream(chunk("Hel"), event({"error": {"message": echo}})))
    for _ in range(2):
        await failure(gateway, at(server))
    words = [record.getMessage() for record in caplog.records if record.name == "chatcore.models"]
    assert len(words) == 2
    assert words[0].startswith("127.0.0.1 failed: status=429 code=quota Quota of org-1 [31m used up. Key [redacted], ")
    for line in words:
        assert len(line) < 400
        assert line.isprintable()
        assert not any(secret in line for secret in (KEY, "sk-ab", "Hello"))


class _Endless(str):
    """Too long to be looked through."""

    __slots__ = ()

    def replace(self, *_: object) -> str:
        raise AssertionError


def test_little_is_looked_through_for_the_log() -> None:
    assert words_for_log(_Endless("a " * 500_000), ENDPOINT, PROMPT) == ("a " * 150)[:300]


def test_what_was_sent_is_not_logged_though_its_end_is_missing() -> None:
    prompt = Prompt(messages=[PromptMessage(Role.USER, "In confidence, " * 3000)])
    for echo in (prompt.messages[0].content, json.dumps(prompt.messages[0].content), "In confidence, " * 10):
        assert words_for_log(f"Too long: {echo}", ENDPOINT, prompt).endswith(("Too long: [redacted]", '"[redacted]'))


async def test_a_model_without_tokens_for_a_word_has_answered(gateway: OpenAIGateway, server: ModelServer) -> None:
    """As OpenAI says it of models that reason."""
    server.script(
        plain(400, error("Could not finish the message because max_tokens or model output limit was reached."))
    )
    assert await heard(gateway, at(server)) == Delta(finish_reason=FinishReason.LENGTH)


async def test_the_body_of_a_refusal_has_a_time_and_a_size(gateway: OpenAIGateway, server: ModelServer) -> None:
    server.script(
        Answer([error("API key not valid").encode(), STALL], status=400), Answer([b"x" * 10_000] * 1000, status=401)
    )
    async with asyncio.timeout(20):
        for _ in range(2):
            assert type(await failure(gateway, at(server))) is ModelUnauthorized


# ---- once more -------------------------------------------------------------------------------------------


def date_in(hours: int) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("after", ["0", "0.2", " 0 ", "Thu, 01 Jan 2026 08:00:00 GMT"])
async def test_who_says_when_to_come_back_is_asked_once_more(
    gateway: OpenAIGateway, server: ModelServer, status: int, after: str
) -> None:
    server.script(plain(status, error("busy"), **{"Retry-After": after}))
    assert (await heard(gateway, at(server))).text == "Hello"
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (429, {}),
        (429, {"Retry-After": "3600"}),
        (429, {"Retry-After": "soon"}),
        (429, {"Retry-After": "-1"}),
        (429, {"Retry-After": "Thu, 01 Jan 99999999999999999999 08:00:00 GMT"}),
        (429, {"Retry-After": "9" * 400}),
        (503, {"Retry-After": date_in(1)}),
        (500, {"Retry-After": "0"}),
        (401, {"Retry-After": "0"}),
    ],
)
async def test_nobody_else_is(
    gateway: OpenAIGateway, server: ModelServer, status: int, headers: dict[str, str]
) -> None:
    server.always = plain(status, error("busy"), **headers)
    await failure(gateway, at(server))
    assert len(server.requests) == 1


async def test_once_more_is_once(gateway: OpenAIGateway, server: ModelServer) -> None:
    server.always = plain(429, error("busy"), **{"Retry-After": "0"})
    assert type(await failure(gateway, at(server))) is ModelRateLimited
    assert len(server.requests) == 2


async def test_nor_is_one_who_has_no_credit_left(gateway: OpenAIGateway, server: ModelServer) -> None:
    server.always = plain(429, error("x", code="insufficient_quota"), **{"Retry-After": "0"})
    assert type(await failure(gateway, at(server))) is ModelPaymentRequired
    assert len(server.requests) == 1


async def test_the_pause_is_within_the_deadline(server: ModelServer) -> None:
    server.always = plain(429, error("busy"), **{"Retry-After": "30"})
    async with OpenAIGateway(allow=LOOPBACK, total_timeout=10) as gateway:
        assert type(await failure(gateway, at(server))) is ModelRateLimited
    assert len(server.requests) == 1


async def test_after_its_first_word_a_model_is_not_asked_again(gateway: OpenAIGateway, server: ModelServer) -> None:
    busy = event({"error": {"code": 429, "message": "FOREIGN"}})
    server.script(Answer([chunk("Hel"), busy], headers=(*says().headers, ("Retry-After", "0"))))
    assert type(await failure(gateway, at(server))) is ModelRateLimited
    assert len(server.requests) == 1


# ---- prompts with parts, and with what chatcore does not know ---------------------------------------------

PICTURE = "data:image/png;base64,iVBORw0KGgo="
SOUND = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


async def test_parts_and_unknown_fields_reach_the_endpoint_as_they_are(
    server: ModelServer, gateway: OpenAIGateway
) -> None:
    prompt = Prompt(
        messages=[
            PromptMessage("developer", "Be brief."),
            PromptMessage(Role.USER, [TextPart("What is this?"), ImagePart(PICTURE, "low"), ImagePart(PICTURE), SOUND]),
            PromptMessage(Role.ASSISTANT, "", {"tool_calls": [CALL]}),
            PromptMessage("tool", "Sunny", {"tool_call_id": "call_1"}),
        ],
        more={"tools": TOOLS, "seed": 7, "model": "another", "stream": False},
    )
    await heard(gateway, at(server), prompt)
    asked = server.requests[0].body
    assert asked["messages"] == [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}},
                {"type": "image_url", "image_url": {"url": PICTURE}},
                SOUND,
            ],
        },
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "Sunny", "tool_call_id": "call_1"},
    ]
    assert (asked["tools"], asked["seed"]) == (TOOLS, 7)
    assert (asked["model"], asked["stream"]) == ("scripted", True)


async def test_a_system_prompt_before_parts_becomes_a_part_where_none_is_known(
    server: ModelServer, gateway: OpenAIGateway
) -> None:
    server.script(plain(400, '{"error": {"message": "System role not supported"}}'))
    messages = [PromptMessage(Role.SYSTEM, "Be brief."), PromptMessage(Role.USER, [ImagePart(PICTURE)])]
    await heard(gateway, at(server), Prompt(messages=messages))
    assert server.requests[-1].body["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Be brief."},
                {"type": "image_url", "image_url": {"url": PICTURE}},
            ],
        }
    ]
