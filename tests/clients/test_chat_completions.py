"""Chat Completions, Models and Embeddings with the clients that people own, on a real server."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from clients.running import NEWEST, node, python, python_of
from clients.serving import House, house_of
from integration.model_server import CUT, chunk, plain, says, stream

pytestmark = pytest.mark.asyncio(loop_scope="module")
ASKED = {"model": "scripted", "messages": [{"role": "user", "content": "Hello?"}], "temperature": 0.5}
PROMPT = {"MODEL": "scripted", "PROMPT": "Hello?"}
WHOLE = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "scripted",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}
_KEY = "sk-of-litellm"
_WITHIN = 120  # seconds in which LiteLLM begins to answer, on a busy machine

every_client = pytest.mark.parametrize(
    "client",
    [
        pytest.param("npm", marks=pytest.mark.needs("npm")),
        pytest.param("openai1", marks=pytest.mark.needs("openai1")),
        NEWEST,
    ],
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with house_of(tmp_path_factory.mktemp("server")) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def house(shared: House) -> House:
    """With a user of its own, who has a personal API key."""
    user = await shared.server.api.user()
    shared.model.always = says("Hello")
    return House(shared.server, shared.model, user.with_token((await user.key())["key"]), shared.url)


async def by_openai(client: str, house: House, asked: dict[str, Any], **environ: str) -> Any:
    given = {**house.at("/v1"), "REQUEST": json.dumps(asked), **environ}
    if client == "npm":
        return await node("openai_chat.mjs", **given)
    return await python(client, "openai_chat.py", **given)


@every_client
async def test_openai(house: House, client: str) -> None:
    house.model.script(plain(200, json.dumps(WHOLE)), says("Hel", "lo", usage=(3, 2)))
    found = await by_openai(client, house, ASKED)
    assert "error" not in found
    assert found["models"] == ["scripted"]
    assert found["completion"] == WHOLE
    choices = [choice for it in found["chunks"] for choice in it["choices"]]
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == "Hello"
    assert choices[-1]["finish_reason"] == "stop"
    assert found["chunks"][-1]["usage"]["total_tokens"] == 5
    assert house.model.requests[-2].body == ASKED


@every_client
@pytest.mark.parametrize(
    ("key", "asked", "name", "status", "code"),
    [
        ("none", ASKED, "AuthenticationError", 401, "unauthenticated"),
        (None, {**ASKED, "model": "other"}, "NotFoundError", 404, "model_not_found"),
    ],
)
async def test_openai_knows_our_errors(
    house: House, client: str, key: str | None, asked: dict[str, Any], name: str, status: int, code: str
) -> None:
    found = await by_openai(client, house, asked, **({"KEY": key} if key else {}))
    assert {field: found["error"][field] for field in ("name", "status", "code")} == {
        "name": name,
        "status": status,
        "code": code,
    }


@every_client
async def test_openai_sees_a_stream_that_breaks(house: House, client: str) -> None:
    house.model.script(plain(200, json.dumps(WHOLE)), stream(chunk("Hel"), CUT))
    found = await by_openai(client, house, ASKED)
    assert found["error"]["message"]
    said = [choice["delta"].get("content") for it in found.get("chunks", ()) for choice in it["choices"]]
    assert said in ([], ["Hel"])  # Python's has given none of its list away


@pytest.mark.needs("npm")
async def test_the_ai_sdk_for_openai(house: House) -> None:
    house.model.script(says("Hel", "lo", usage=(3, 2)))
    found = await node("ai_openai.mjs", API="chat", **PROMPT, **house.at("/v1"))
    assert (found["errors"], found["text"], found["finishReason"]) == ([], "Hello", "stop")
    assert found["usage"]["totalTokens"] == 5


@pytest.mark.needs("agents")
async def test_openai_agents(house: House) -> None:
    house.model.script(says("Hel", "lo", usage=(3, 2)))
    found = await python("agents", "agents_run.py", API="chat", **PROMPT, **house.at("/v1"))
    assert found["text"] == "Hello"


@pytest.mark.needs("agents")
async def test_langchain(house: House) -> None:
    house.model.script(says("Hel", "lo", usage=(3, 2)))
    found = await python("agents", "langchain_chat.py", **PROMPT, **house.at("/v1"))
    assert (found["text"], found["usage"]["total_tokens"]) == ("Hello", 5)


@pytest.mark.needs("litellm")
async def test_litellm_in_front(house: House, tmp_path: Path) -> None:
    house.model.script(plain(200, json.dumps(WHOLE)), says("Hel", "lo", usage=(3, 2)))
    async with litellm(house, tmp_path) as url:
        found = await python(
            NEWEST, "openai_chat.py", URL=url, KEY=_KEY, REQUEST=json.dumps({**ASKED, "model": "ours"})
        )
    assert found.get("error") is None
    assert found["models"] == ["ours"]
    assert found["completion"]["choices"][0]["message"]["content"] == "Hello"
    choices = [choice for it in found["chunks"] for choice in it["choices"]]
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == "Hello"


@asynccontextmanager
async def litellm(house: House, folder: Path) -> AsyncIterator[str]:
    """LiteLLM's proxy, which knows us as a provider. Its URL."""
    config = folder / "config.yaml"
    model = {"model": "openai/scripted", "api_base": house.url + "/v1", "api_key": house.key}
    config.write_text(json.dumps({"model_list": [{"model_name": "ours", "litellm_params": model}]}))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = (folder / "litellm.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        str(Path(python_of("litellm")).with_name("litellm")),
        *("--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"),
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_MASTER_KEY": _KEY,
        },
        stdout=log,
        stderr=log,
    )
    try:
        async with asyncio.timeout(_WITHIN):
            await _listening(port, process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        log.close()
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _listening(port: int, process: asyncio.subprocess.Process) -> None:
    while True:
        assert process.returncode is None, "LiteLLM has ended"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.2)
        else:
            writer.close()
            await writer.wait_closed()
            return
