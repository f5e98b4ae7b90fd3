"""System D: the script of its own document, line by line, against a server with its own .env."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from integration.http_app import CONVERSATION, TOKENS, USER, Api, check_shape
from integration.model_server import ModelServer, says
from integration.processes import Server, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCRIPT = Path(__file__).with_name("agent_api.sh")
ACCOUNT = {"email": "alice@example.com", "password": "SecurePass123!"}
DOTENV = """
# 应用配置
APP_NAME=AI Agent API
APP_VERSION=1.0.0
DEBUG=False

# JWT配置
SECRET_KEY=your-secret-key-at-least-32-characters-long
REFRESH_SECRET_KEY=your-refresh-secret-key-at-least-32-characters-long
ALGORITHM=HS256
ACCESS_TOKEN_EXPIRE_MINUTES=15
REFRESH_TOKEN_EXPIRE_DAYS=7

# 数据库配置
DATABASE_URL={database_url}

# Redis配置
REDIS_URL=redis://localhost:6379/0

# OpenAI配置
OPENAI_API_KEY=sk-your-openai-api-key
OPENAI_BASE_URL={model_url}

# 安全配置
COOKIE_SECURE=True
COOKIE_SAMESITE=lax
"""
"""As in its document, but for the database's address and the model's."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(
    database_url: str, model: ModelServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Server]:
    folder = tmp_path_factory.mktemp("agent")
    (folder / ".env").write_text(DOTENV.format(database_url=database_url, model_url=model.url))
    async with serving(folder) as server:
        yield server


@pytest.mark.usefixtures("jq")
async def test_the_script_of_its_document(server: Server, model: ModelServer) -> None:
    model.script(says("你好！", "我是你的助手。"), says("我可以回答问题。"))
    said = await run(SCRIPT, BASE_URL=server.url)
    assert list(said) == ["注册用户", "登录", "AI对话（新对话）", "继续对话", "对话列表", "删除对话", "登出"]

    registered = json.loads(said["注册用户"])
    check_shape(registered, TOKENS)
    check_shape(registered["user"], USER)
    assert (registered["user"]["username"], registered["user"]["email"]) == ("alice", "alice@example.com")
    assert (registered["user"]["roles"], registered["token_type"]) == (["user"], "bearer")
    assert registered["expires_in"] == 15 * 60

    assert re.fullmatch(r"Access Token: eyJ.{47}\.\.\.\nRefresh Token: [\w-]{43}\.\.\.", said["登录"])

    begun = json.loads(said["AI对话（新对话）"])
    number = begun["conversation_id"]
    question = "你好，请介绍一下自己"
    assert begun == {"conversation_id": number, "message": question, "response": "你好！我是你的助手。"}
    assert isinstance(number, int)

    more = {"conversation_id": number, "message": "你能帮我做什么？", "response": "我可以回答问题。"}
    assert json.loads(said["继续对话"]) == more

    (conversation,) = json.loads(said["对话列表"])
    check_shape(conversation, CONVERSATION)
    assert (conversation["id"], conversation["title"]) == (number, question)
    assert set(json.loads(said["删除对话"])) == {"message"}
    assert set(json.loads(said["登出"])) == {"message"}

    await check_what_is_left(server.api)
    check_what_the_model_was_asked(model, question, "你好！我是你的助手。", "你能帮我做什么？")


async def run(script: Path, **environ: str) -> dict[str, str]:
    """What it has said, by the headings that it prints."""
    process = await asyncio.create_subprocess_exec(
        "bash",
        script,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        stdout, stderr = await process.communicate()
    assert (process.returncode, stderr) == (0, b""), stderr
    _, *parts = re.split(r"^=== (.+?) ?===$", stdout.decode(), flags=re.MULTILINE)
    return {heading.strip(): text.strip() for heading, text in zip(parts[::2], parts[1::2], strict=True)}


async def check_what_is_left(api: Api) -> None:
    """No conversation, and of her two sessions the one that did not sign out."""
    tokens = (await api.post("/auth/login", ACCOUNT)).ok()
    alice = api.with_token(tokens["access_token"])
    assert (await alice.get("/agent/conversations")).ok() == []
    now, signed_out, registered = (await alice.get("/auth/sessions")).ok()["items"]
    assert (now["current"], now["logout_time"], registered["logout_time"]) == (True, None, None)
    assert signed_out["logout_time"]


def check_what_the_model_was_asked(model: ModelServer, *said: str) -> None:
    """The second time with all that was said before, as its service does."""
    first, second = (request.body["messages"] for request in model.requests[-2:])
    assert [(message["role"], message["content"]) for message in first[1:]] == [("user", said[0])]
    roles = ["system", "user", "assistant", "user"]
    assert [message["role"] for message in second] == roles
    assert [message["content"] for message in second[1:]] == list(said)
    assert model.requests[-1].headers["authorization"] == "Bearer sk-your-openai-api-key"


async def test_what_it_says_of_itself(server: Server) -> None:
    about = {"name": "AI Agent API", "version": "1.0.0", "status": "running"}
    assert (await server.api.get("/")).ok() == about
    assert (await server.api.get("/health")).ok() == {"status": "healthy"}


async def test_a_token_of_fifteen_minutes_is_refreshed(server: Server) -> None:
    tokens: Any = (await server.api.post("/auth/register", {**ACCOUNT, "email": None, "username": "bob"})).ok(201)
    assert tokens["expires_in"] == 900
    again = (await server.api.post("/auth/refresh", {"refresh_token": tokens["refresh_token"]})).ok()
    bob = server.api.with_token(again["access_token"])
    assert (await bob.get("/auth/me")).ok()["username"] == "bob"
