"""System C: the curl lines of its own document, as they stand there, against a server; and what else it has."""

import asyncio
import io
import itertools
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from integration.http_app import CONVERSATION, MESSAGE, PASSWORD, USER, Answer, Api, check_shape
from integration.processes import Server, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXAMPLES = Path(__file__).with_name("v1_chats.md").read_text()
_numbers = itertools.count(1)
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with serving(tmp_path_factory.mktemp("v1_chats"), DATABASE_URL=database_url) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def documented(server: Server) -> dict[str, Any]:
    """What the document's lines are answered, by their headings. They need the database's first chat."""
    said = dict[str, Any]()
    found: list[tuple[str, str]] = re.findall(r"^## ([^\n]+)\n```bash\n(.+?)\n```", EXAMPLES, re.MULTILINE | re.DOTALL)
    for heading, line in found:
        token = said["获取 Token"]["access_token"] if "获取 Token" in said else ""
        said[heading] = json.loads(
            await run(line.replace("http://localhost:8000", server.url).replace("<token>", token))
        )
    return said


async def run(line: str) -> bytes:
    curl = await asyncio.create_subprocess_exec(
        "bash", "-c", line, env={"PATH": os.environ["PATH"]}, stdout=asyncio.subprocess.PIPE, stderr=-3
    )
    async with asyncio.timeout(30):
        return (await curl.communicate())[0]


@pytest_asyncio.fixture(loop_scope="module")
async def user(server: Server, documented: dict[str, Any]) -> Api:
    """Somebody new, after the document's user."""
    assert documented
    return await somebody(server)


async def somebody(server: Server) -> Api:
    """The document's own user has the name that others would get."""
    return await server.api.user(f"somebody{next(_numbers)}")


@pytest_asyncio.fixture(loop_scope="module")
async def chat(user: Api) -> int:
    chat_id: int = (await user.post("/v1/chats/", {"title": "My Chat"})).ok(201)["id"]
    return chat_id


async def sign_in(api: Api, **form: str) -> Answer:
    return await api.call("POST", "/v1/auth/token", urlencode(form).encode(), FORM)


# ---- the document's own lines --------------------------------------------------------------------------------


async def test_the_lines_of_its_document(server: Server, documented: dict[str, Any]) -> None:
    assert list(documented) == ["注册用户", "获取 Token", "创建对话", "上传对话历史"]
    user, token, chat, message = documented.values()
    check_shape(user, USER)
    assert (user["username"], user["email"], user["roles"]) == ("user1", "user@example.com", ["user"])
    assert set(token) == {"access_token", "token_type"}
    assert token["token_type"] == "bearer"
    check_shape(chat, CONVERSATION)
    assert (chat["id"], chat["title"]) == (1, "My Chat")
    check_shape(message, MESSAGE)
    assert (message["conversation_id"], message["role"], message["content"]) == (1, "user", "Hello!")
    assert (message["status"], message["model"]) == ("complete", None)

    user1 = server.api.with_token(token["access_token"])
    assert [message] == await user1.messages(1)
    assert len((await user1.get("/auth/sessions")).ok()["items"]) == 1  # registering had opened none


# ---- /v1 and /v1/auth ----------------------------------------------------------------------------------------


async def test_a_welcome(server: Server) -> None:
    assert (await server.api.get("/v1")).ok() == {"message": "Welcome to chatcore."}
    assert (await server.api.get("/v1/")).ok() == {"message": "Welcome to chatcore."}


async def test_registering_keeps_the_rules(server: Server, user: Api) -> None:
    taken = (await user.get("/auth/me")).ok()["username"]
    new = {"username": taken, "password": PASSWORD}
    (await server.api.post("/v1/auth/register", new)).problem(409, "username_taken")
    answer = await server.api.post("/v1/auth/register", {"username": "x", "email": "nowhere", "password": "short"})
    answer.problem(400, "validation_failed", "username", "email", "password")


@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_token_is_tested(server: Server, user: Api, slash: str) -> None:
    me = (await user.get("/auth/me")).ok()
    assert (await user.get(f"/v1/auth/test_token{slash}")).ok() == me
    assert (await user.post(f"/v1/auth/test_token{slash}")).ok() == me
    for token in (None, "garbage"):
        stranger = server.api.with_token(token)
        (await stranger.get("/v1/auth/test_token")).problem(401, "unauthenticated")
        (await stranger.post("/v1/auth/test_token")).problem(401, "unauthenticated")
    (await user.post("/auth/logout")).ok()
    (await user.get("/v1/auth/test_token")).problem(401, "unauthenticated")


async def test_a_token_is_for_nobody_to_store(server: Server) -> None:
    await server.api.register("Ödön")
    answer = await sign_in(
        server.api, grant_type="password", username="Ödön", password=PASSWORD, scope="", client_id="", client_secret=""
    )
    assert (answer.headers["Cache-Control"], answer.headers["Pragma"]) == ("no-store", "no-cache")
    token = answer.ok()["access_token"]
    assert (await server.api.with_token(token).get("/v1/auth/test_token")).ok()["username"] == "Ödön"


async def test_the_form_may_be_written_as_curl_does_and_its_values_are_text(server: Server) -> None:
    """Not escaped, in UTF-8; with words that are something else in JSON; with `+` for a space."""
    password = "[1, 2, 3] null"
    for name in ("true", "漢字 🦄".replace(" ", "")):
        await server.api.register(name, password)
        body = f"username={name}&password={password.replace(' ', '+')}".encode()
        (await server.api.call("POST", "/v1/auth/token", body, FORM)).ok()


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"", ["username", "password"]),
        (b"username=user1", ["password"]),
        (b"username=&password=", ["username", "password"]),
        (b'{"username": "user1", "password": "password123"}', ["username", "password"]),
        (b"password=password123&username", ["username"]),
        (b"username=user1&password=password123&username=user2", ["username"]),  # whose sign-in would that be?
    ],
)
async def test_a_form_without_them(server: Server, body: bytes, fields: list[str]) -> None:
    answer = await server.api.call("POST", "/v1/auth/token", body, FORM)
    answer.problem(400, "validation_failed", *fields)


async def test_json_in_the_place_of_the_form_is_told_what_is_wanted(server: Server) -> None:
    answer = await server.api.post("/v1/auth/token", {"username": "user1", "password": "password123"})
    problem = answer.problem(400, "validation_failed", "username", "password")
    assert FORM["Content-Type"] in problem["detail"]


@pytest.mark.parametrize("body", [b"username=%ff&password=x", b"username=\xff&password=x"])
async def test_a_form_that_is_no_utf8(server: Server, body: bytes) -> None:
    (await server.api.call("POST", "/v1/auth/token", body, FORM)).problem(400, "validation_failed")


async def test_a_form_that_is_too_large(server: Server) -> None:
    """Larger than the longest password in its longest form."""
    for size in (32 * 1024, 1024**2):
        body = io.BytesIO(b"username=x&password=" + b"x" * size)
        (await server.api.call("POST", "/v1/auth/token", body, FORM)).problem(413, "payload_too_large")


async def test_the_longest_password_fits_into_a_form(server: Server) -> None:
    password = "\U0001f600" * 1024
    await server.api.register("talkative", password)
    assert (await sign_in(server.api, username="talkative", password=password)).ok()["access_token"]


@pytest.mark.parametrize("rest", ["&a" * 99, "&" * 99, "&a" * 8000])
async def test_a_form_of_too_many_fields_is_not_parsed(server: Server, rest: str) -> None:
    body = f"username=x&password=x{rest}".encode()
    (await server.api.call("POST", "/v1/auth/token", body, FORM)).problem(400, "validation_failed", "body")


async def test_a_token_is_refused_as_a_login_is(server: Server) -> None:
    await server.api.register("limited")
    for _ in range(10):
        (await sign_in(server.api, username="limited", password="wrong")).problem(401, "invalid_credentials")
    answer = await sign_in(server.api, username="limited", password=PASSWORD)
    answer.problem(429, "rate_limited")
    login = await server.api.post("/auth/login", {"username": "limited", "password": PASSWORD})
    login.problem(429, "rate_limited")
    assert int(answer.headers["Retry-After"]) > 0


# ---- /v1/chats -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slash", ["", "/"])
async def test_chats_are_a_bare_array_the_newest_first(user: Api, slash: str) -> None:
    path = f"/v1/chats{slash}"
    assert (await user.get(path)).ok() == []
    chats = [(await user.post(path, {"title": f"chat {number}"})).ok(201) for number in range(3)]
    assert (await user.get(path)).ok() == chats[::-1]
    assert (await user.get(f"{path}?skip=1")).ok() == [chats[1], chats[0]]
    assert (await user.get(f"{path}?skip=1&limit=1")).ok() == [chats[1]]
    assert (await user.get(f"{path}?skip=9")).ok() == []
    (await user.get(f"{path}?skip=-1")).problem(400, "validation_failed", "skip")
    (await user.get(f"{path}?limit=101")).problem(400, "validation_failed", "limit")
    await user.post(f"/v1/chats/{chats[0]['id']}/message", {"role": "user", "content": "Used."})
    assert [chat["id"] for chat in (await user.get(path)).ok()] == [chats[number]["id"] for number in (0, 2, 1)]


@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_chat_with_its_messages(user: Api, chat: int, slash: str) -> None:
    path = f"/v1/chats/{chat}{slash}"
    read = (await user.get(path)).ok()
    check_shape(read, CONVERSATION | {"messages"})
    assert (read["id"], read["title"], read["messages"]) == (chat, "My Chat", [])
    added = [
        (await user.post(f"/v1/chats/{chat}/message{slash}", {"role": role, "content": f"{role} says"})).ok()
        for role in ("system", "user", "assistant")
    ]
    added.append((await user.post(f"/v1/chats/message{slash}?chat_id={chat}", {"role": "user", "content": "Hi"})).ok())
    assert (await user.get(path)).ok()["messages"] == added == await user.messages(chat)
    for message, before in zip(added, [None, *added], strict=False):
        check_shape(message, MESSAGE)
        assert message["parent_id"] == (before and before["id"])
    assert set((await user.call("DELETE", path)).ok()) == {"message"}
    (await user.get(path)).problem(404, "not_found")
    (await user.call("DELETE", path)).problem(404, "not_found")
    assert (await user.get("/v1/chats")).ok() == []


async def test_an_uploaded_history_is_gone_on_with(user: Api, chat: int) -> None:
    for role, content in (("user", "What is seven times six?"), ("assistant", "It is 42.")):
        (await user.post(f"/v1/chats/{chat}/message", {"role": role, "content": content})).ok()
    async with user.events(f"/conversations/{chat}/reply") as stream:
        heard = await stream.rest()
    assert [event.type for event in heard] == ["reply.started", "reply.delta", "reply.completed"]
    assert heard[-1].data["message"]["content"] == "It is 42."
    (await user.post(f"/conversations/{chat}/chat", {"content": "Thank you"})).ok()
    assert [message["role"] for message in await user.messages(chat)] == ["user", "assistant"] * 2


async def test_what_no_message_is(user: Api, chat: int) -> None:
    here, there = f"/v1/chats/{chat}/message", f"/v1/chats/message?chat_id={chat}"
    for path in (here, there):
        for body, field in (
            ({"role": "tool", "content": "x"}, "role"),
            ({"role": "user"}, "content"),
            ({"content": "x"}, "role"),
            ({"role": "user", "content": ""}, "content"),
            ({"role": "user", "content": "x" * 200_001}, "content"),
        ):
            (await user.post(path, body)).problem(400, "validation_failed", field)
    message = {"role": "user", "content": "Hello!"}
    for query in ("", "?chat_id=", "?chat_id=one", "?chat_id=0", f"?chat_id={10**30}"):
        (await user.post(f"/v1/chats/message{query}", message)).problem(400, "validation_failed", "chat_id")
    (await user.post("/v1/chats/", {})).problem(400, "validation_failed", "title")
    (await user.post("/v1/chats/", {"title": ""})).problem(400, "validation_failed", "title")
    assert await user.messages(chat) == []


async def test_somebody_elses_chat_is_none(server: Server, user: Api, chat: int) -> None:
    await user.post(f"/v1/chats/{chat}/message", {"role": "user", "content": "Mine."})
    other = await somebody(server)
    message = {"role": "user", "content": "Hello!"}
    answers = [
        await other.get(f"/v1/chats/{chat}"),
        await other.call("DELETE", f"/v1/chats/{chat}"),
        await other.post(f"/v1/chats/{chat}/message", message),
        await other.post(f"/v1/chats/message?chat_id={chat}", message),
    ]
    for answer in answers:
        answer.problem(404, "not_found")
    assert len(await user.messages(chat)) == 1


async def test_nothing_is_added_while_a_reply_is_written(user: Api, chat: int) -> None:
    message = {"role": "user", "content": "Hello!"}
    async with user.events(
        f"/conversations/{chat}/chat", {"content": "Count: " + "1 " * 300, "stream": True}
    ) as stream:
        await anext(stream)
        (await user.post(f"/v1/chats/{chat}/message", message)).problem(409, "conversation_busy")
        await user.post(f"/conversations/{chat}/stop")
        await stream.rest()
    (await user.post(f"/v1/chats/{chat}/message", message)).ok()
