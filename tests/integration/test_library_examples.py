"""Those of examples/ that need no server of HTTP's: programs, gateways, containers, Celery, a notebook."""

import importlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import nbclient
import nbformat
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from agent_gateway import AGENT, Agent  # examples/
from anthropic_gateway import AnthropicGateway
from chatcore import Chat, Message, ModelEndpoint, SyncChat
from chatcore.entities import FinishReason, Status, Usage
from chatcore_demo import DEMO_ENDPOINT, DemoModel
from chatcore_memory import MemoryDatabase, ScriptedModel
from chatcore_sql import Database
from chatcore_sql.url import engine_url
from integration.databases import new_database
from integration.redis_server import REDIS_URL, redis_address
from integration.test_examples import free_port
from integration.wheels import environment, install, run, wheel
from retrieval import Retrieval

pytestmark = pytest.mark.once

EXAMPLES = Path(__file__).parents[2] / "examples"
SAID = "You asked: “Why is the sky blue?”"


def lines_of(name: str) -> int:
    return len((EXAMPLES / name).read_text("utf-8").splitlines())


@pytest.mark.parametrize(
    ("name", "lines", "said"),
    [
        ("retrieval.py", 40, "You asked: “What is the cat called?”"),
        ("agent_gateway.py", 50, "(They ask for their orders. ) You ordered a teapot and two cups."),
        ("dishka_app.py", 45, SAID),
        ("svcs_app.py", 50, SAID),
    ],
)
def test_a_program(tmp_path: Path, name: str, lines: int, said: str) -> None:
    assert lines_of(name) <= lines
    done = subprocess.run([sys.executable, EXAMPLES / name], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert said in done.stdout


async def answered(chat: Chat, user: str = "alice", content: str = "What is the cat called?") -> Message:
    me = await chat.of(user)
    sent = await me.send(content)
    return await (await me.reply(sent.conversation_id)).ended()


@pytest.mark.parametrize(("user", "known"), [("alice", True), ("bob", False)])
async def test_what_was_retrieved_is_before_the_question_and_is_not_stored(user: str, known: bool) -> None:
    model = ScriptedModel("Turing.")
    async with Chat(store=MemoryDatabase(), gateway=model, model=AGENT, hooks=Retrieval()) as chat:
        reply = await answered(chat, user)
        stored = (await (await chat.of(user)).history(reply.conversation_id)).messages
    asked = [message.text for message in model.calls[0].prompt.messages]
    assert ("The cat is called Turing." in asked[0]) is known
    assert asked[1:] == ["What is the cat called?"]
    assert [message.content for message in stored] == ["What is the cat called?", "Turing."]


async def test_an_agent_knows_whose_turn_it_is() -> None:
    async with Chat(store=MemoryDatabase(), gateway=Agent(), model=AGENT) as chat:
        assert (await answered(chat, "bob")).content == "You ordered nothing."


# ---- from the wheel --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def from_the_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has nothing of ours but the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    python = environment(folder / "venv", dependencies=True)
    install(python, wheel(EXAMPLES.parent, folder))
    return python


def test_the_plain_program_from_the_wheel(from_the_wheel: Path, tmp_path: Path) -> None:
    assert SAID in run(from_the_wheel, EXAMPLES / "plain.py", cwd=tmp_path)
    where = run(from_the_wheel, "-c", "import chatcore; print(chatcore.__file__)", cwd=tmp_path)
    assert str(from_the_wheel.parents[1]) in where


def test_the_fastapi_program_from_the_wheel(from_the_wheel: Path, tmp_path: Path) -> None:
    said = run(from_the_wheel, "-c", ASKING, EXAMPLES, cwd=tmp_path)
    assert "reply.started" in said
    assert "reply.completed" in said
    assert SAID in "".join(re.findall(r'"text":"([^"]*)"', said))


ASKING = """
import sys
sys.path.insert(0, sys.argv[1])
import asyncio, httpx2, fastapi_app

async def main():
    async with fastapi_app.app.router.lifespan_context(fastapi_app.app):
        transport = httpx2.ASGITransport(fastapi_app.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
            answer = await client.post("/ask", json={"content": "Why is the sky blue?"}, headers={"X-User": "alice"})
            print(answer.text)

asyncio.run(main())
"""


# ---- another protocol ------------------------------------------------------------------------------------


@asynccontextmanager
async def anthropic(*events: Any, status: int = 200, asked: list[Any]) -> AsyncIterator[ModelEndpoint]:
    """A server that speaks as Anthropic's does."""

    async def messages(request: web.Request) -> web.StreamResponse:
        asked.append((request.headers["x-api-key"], await request.json()))
        answer = web.StreamResponse(status=status, headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        for event in events:
            await answer.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        return answer

    app, port = web.Application(), free_port()
    app.router.add_post("/v1/messages", messages)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield ModelEndpoint(url=f"http://127.0.0.1:{port}/v1", model="claude", api_key="sk-ant", trusted=True)
    finally:
        await runner.cleanup()


STARTED = {"type": "message_start", "message": {"usage": {"input_tokens": 12, "output_tokens": 1}}}
THOUGHT = {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm."}}
HELLO = {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hello 🌈"}}
CUT = {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 7}}
END = {"type": "message_stop"}
PING = {"type": "ping"}


async def test_anthropics_messages() -> None:
    asked = list[Any]()
    async with (
        anthropic(STARTED, THOUGHT, PING, HELLO, CUT, END, asked=asked) as model,
        Chat(store=MemoryDatabase(), gateway=AnthropicGateway(), model=model) as chat,
    ):
        reply = await answered(chat)
    assert (reply.reasoning, reply.content, reply.status) == ("Hm.", "Hello 🌈", Status.COMPLETE)
    assert reply.finish_reason is FinishReason.LENGTH
    assert reply.usage == Usage(prompt_tokens=12, completion_tokens=7, total_tokens=19)
    ((key, body),) = asked
    assert key == "sk-ant"
    assert body == {
        "model": "claude",
        "messages": [{"role": "user", "content": "What is the cat called?"}],
        "max_tokens": 4096,
        "stream": True,
    }


@pytest.mark.parametrize(
    ("events", "status", "code"),
    [
        ([STARTED, HELLO], 200, "model_protocol"),
        ([STARTED, HELLO, {"type": "error", "error": {"type": "overloaded_error"}}], 200, "model_unavailable"),
        ([], 401, "model_unauthorized"),
        ([], 429, "model_rate_limited"),
        ([], 529, "model_unavailable"),
    ],
)
async def test_anthropics_failures(events: list[Any], status: int, code: str) -> None:
    async with (
        anthropic(*events, status=status, asked=[]) as model,
        Chat(store=MemoryDatabase(), gateway=AnthropicGateway(), model=model) as chat,
    ):
        reply = await answered(chat)
    assert reply.status is Status.FAILED
    assert reply.error is not None
    assert reply.error.code == code
    assert reply.content == ("Hello 🌈" if events else "")


# ---- an identity provider --------------------------------------------------------------------------------

RSA_KEYS = [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2)]


@asynccontextmanager
async def issuer() -> AsyncIterator[str]:
    """One that publishes the first of these keys."""
    key = json.loads(RSAAlgorithm.to_jwk(RSA_KEYS[0].public_key()))
    published = {"keys": [{**key, "kid": "first", "use": "sig", "alg": "RS256"}]}

    async def jwks(_: web.Request) -> web.Response:
        return web.json_response(published)

    app, port = web.Application(), free_port()
    app.router.add_get("/.well-known/jwks.json", jwks)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def test_tokens_of_an_identity_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    async with issuer() as url:
        monkeypatch.setenv("ISSUER", url)
        provider = importlib.import_module("identity_provider")
        now = int(time.time())
        good = {"sub": "alice", "iss": url, "aud": "chat", "iat": now, "exp": now + 60}

        async def who(token: str) -> str | None:
            headers = [(b"authorization", f"Bearer {token}".encode())]
            found: str | None = await provider.authenticate({"type": "http", "headers": headers})
            return found

        def signed(claims: dict[str, Any], key: int = 0, kid: str = "first") -> str:
            return jwt.encode(claims, RSA_KEYS[key], algorithm="RS256", headers={"kid": kid})

        assert await who(signed(good)) == "alice"
        for wrong in ({"iss": "https://other.test"}, {"aud": "other"}, {"exp": now - 1}, {"sub": None}):
            assert await who(signed({name: value for name, value in {**good, **wrong}.items() if value})) is None
        assert await who(signed(good, key=1)) is None
        assert await who(signed(good, kid="second")) is None
        assert await who(jwt.encode(good, "", algorithm="none", headers={"kid": "first"})) is None
        assert await who(jwt.encode(good, "s" * 32, algorithm="HS256", headers={"kid": "first"})) is None
        assert await who(signed({**good, "more": "x" * 10_000})) is None
        assert await who("nonsense") is None
        assert await provider.authenticate({"type": "http", "headers": []}) is None


# ---- threads ---------------------------------------------------------------------------------------------


@pytest.fixture(params=["mysql", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with new_database(request.param, tmp_path) as url:
        yield engine_url(url).render_as_string(hide_password=False)


def test_celery_answers_and_others_read_along(url: str) -> None:
    redis_address()
    environ = {**os.environ, "REDIS_URL": REDIS_URL, "DATABASE_URL": url}
    celery = [sys.executable, "-m", "celery", "--app", "celery_app"]
    worker = subprocess.Popen(
        [*celery, "worker", "--pool", "threads", "--concurrency", "2", "--loglevel", "WARNING", "--queues", url[-20:]],
        cwd=EXAMPLES,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    ask = (
        "import celery_app, sys; "
        f"print(celery_app.answer.apply_async(('alice', 'Why is the sky blue?'), queue={url[-20:]!r}).get(timeout=50))"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", ask], cwd=EXAMPLES, env=environ, capture_output=True, text=True, timeout=60
        )
    finally:
        worker.terminate()
        said, _ = worker.communicate(timeout=40)
    assert SAID in done.stdout, (done.stderr, said)
    assert worker.returncode == 0, said
    with SyncChat(Chat(store=Database(url), gateway=DemoModel(), model=DEMO_ENDPOINT)) as chat:
        me = chat.of("alice")
        (conversation,) = me.conversations().items
        assert me.reply(conversation.id).ended().content in done.stdout


def test_a_notebook(tmp_path: Path) -> None:
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    client = nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3")
    client.execute(cwd=str(tmp_path))
    said = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert SAID in "".join(output.get("text", "") for output in said)
    assert said[-1]["data"]["text/plain"] == "[('user', 'complete'), ('assistant', 'complete')]"
