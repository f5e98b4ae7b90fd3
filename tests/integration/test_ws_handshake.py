"""Who may open a WebSocket, and how one that may not is closed."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import WSServerHandshakeError

from chatcore.ports import Clock, LLMGateway
from chatcore_http import socket_entrance
from chatcore_http.ws_protocol import MAX_BYTES_BEFORE_SIGNING_IN
from chatcore_memory import HandClock, ScriptedModel
from integration.http_app import PASSWORD, Api, provided, settings_for
from integration.ws_client import Served, connected, knocking, served

pytestmark = pytest.mark.asyncio(loop_scope="module")

APP = "https://app.example.com"
HOUR, DAY = 3600, 86_400


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    settings = settings_for(
        tmp_path_factory.mktemp("data"), AUTO_TITLE="first-message", CORS_ORIGINS=f"{APP}, http://localhost:3000"
    )
    async with served(settings, provided(LLMGateway, ScriptedModel("Hello"))) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def ada(house: Served) -> Api:
    return await house.stranger.user()


@pytest_asyncio.fixture(loop_scope="module")
async def conversation(ada: Api) -> int:
    return await ada.conversation()


async def talks(api: Api, conversation: int, **options: Any) -> None:
    """The client signs in and gets an answer."""
    async with connected(api, conversation, **options) as socket:
        assert (await socket.ask())[-1].type == "reply.completed"


# ---- the token -------------------------------------------------------------------------------------------


async def test_the_first_frame_signs_in(ada: Api, conversation: int) -> None:
    await talks(ada, conversation)


async def test_a_client_need_not_wait_until_it_is_ready(ada: Api, conversation: int) -> None:
    async with knocking(ada, conversation) as socket:
        await socket.say("auth", token=ada.token)
        await socket.say("send", content="Hi")
        await socket.say("attach", after="x")
        await socket.ready()
        heard = [await socket.hear() for _ in range(4)]
    assert sorted(frame["type"] for frame in heard) == ["error", "reply.completed", "reply.delta", "reply.started"]


@pytest.mark.parametrize("protocols", [["chatcore.v1", "bearer.{}"], ["bearer.{}", "other", "chatcore.v1"]])
async def test_the_token_may_be_a_subprotocol(ada: Api, conversation: int, protocols: list[str]) -> None:
    named = [name.format(ada.token) for name in protocols]
    async with knocking(ada, conversation, protocols=named) as socket:
        assert socket.connection.protocol == "chatcore.v1"
        await socket.ready()
        assert (await socket.ask())[-1].type == "reply.completed"


async def test_the_token_is_never_answered(ada: Api, conversation: int) -> None:
    async with knocking(ada, conversation, protocols=[f"bearer.{ada.token}"]) as socket:
        assert socket.connection.protocol is None
        await socket.ready()


async def test_the_protocol_without_a_token_leaves_the_first_frame_to_sign_in(ada: Api, conversation: int) -> None:
    async with connected(ada, conversation, protocols=["chatcore.v1"]) as socket:
        assert socket.connection.protocol == "chatcore.v1"


@pytest.mark.parametrize(
    "first",
    [
        "garbage",
        "",
        "[" * 100_000,
        '{"type": "auth", "token": "x", "x": ' + "[" * 100_000,
        '{"type": "%s"}' % ("🦄" * 10_000),
        '{"type": "auth"}',
        '{"type": "auth", "token": null}',
        '{"type": "auth", "token": ""}',
        '{"type": "auth", "token": "a.b.c"}',
        '{"type": "auth", "token": "\\ud800"}',
        '{"type": "auth", "token": "🦄"}',
        '{"type": "send", "content": "Hi"}',
        '{"type": "attach"}',
        b'{"type": "auth"}',
        b"\xff",
    ],
)
async def test_whatever_else_comes_first_signs_nobody_in(ada: Api, conversation: int, first: str | bytes) -> None:
    async with knocking(ada, conversation) as socket:
        await (socket.connection.send_str(first) if isinstance(first, str) else socket.connection.send_bytes(first))
        assert await socket.close_code() == (4401 if len(first) < MAX_BYTES_BEFORE_SIGNING_IN else 1009)


@pytest.mark.parametrize("name", ["refresh_token", "id"])
async def test_only_an_access_token_signs_in(house: Served, name: str) -> None:
    tokens = await house.stranger.register(f"only-{name}")
    ada = house.stranger.with_token(tokens["access_token"])
    conversation, wrong = await ada.conversation(), {**tokens, **tokens["user"]}[name]
    async with knocking(ada, conversation) as socket:
        await socket.say("auth", token=str(wrong))
        assert await socket.close_code() == 4401
    async with knocking(ada, conversation, protocols=["chatcore.v1", f"bearer.{wrong}"]) as socket:
        await socket.say("auth", token=ada.token)
        assert await socket.close_code() == 4401


async def test_a_token_in_the_url_is_not_looked_at(
    ada: Api, conversation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_entrance, "AUTH_WITHIN", 0.01)
    for query in ("token", "access_token", "bearer"):
        async with knocking(ada, f"{conversation}?{query}={ada.token}") as socket:
            assert await socket.close_code() == 4401


async def test_who_says_nothing_is_not_waited_for(ada: Api, conversation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert socket_entrance.AUTH_WITHIN == 5
    monkeypatch.setattr(socket_entrance, "AUTH_WITHIN", 0.01)
    async with knocking(ada, conversation) as socket:
        assert await socket.close_code() == 4401
    async with knocking(ada, conversation, protocols=["chatcore.v1", f"bearer.{ada.token}"]) as socket:
        await socket.ready()
        assert (await socket.ask())[-1].type == "reply.completed"


async def test_a_token_that_has_expired_signs_nobody_in(tmp_path: Path) -> None:
    clock = HandClock()
    async with served(settings_for(tmp_path), provided(Clock, clock)) as house:
        ada = await house.stranger.user()
        conversation = await ada.conversation()
        clock.advance(HOUR - 1)
        async with connected(ada, conversation):
            pass
        clock.advance(1)
        async with knocking(ada, conversation) as socket:
            await socket.say("auth", token=ada.token)
            assert await socket.close_code() == 4401


async def test_a_session_that_is_over_signs_nobody_in(ada: Api, conversation: int) -> None:
    (await ada.post("/auth/logout")).ok()
    async with knocking(ada, conversation, protocols=["chatcore.v1", f"bearer.{ada.token}"]) as socket:
        assert await socket.close_code() == 4401


async def test_a_disabled_account_signs_nobody_in(tmp_path: Path) -> None:
    async with served(settings_for(tmp_path)) as house:
        ada = await house.stranger.user()
        conversation = await ada.conversation()
        disable_everybody(tmp_path)
        async with knocking(ada, conversation) as socket:
            await socket.say("auth", token=ada.token)
            assert await socket.close_code() == 4401


def disable_everybody(folder: Path) -> None:
    with sqlite3.connect(folder / "chatcore.db") as database:
        database.execute("UPDATE users SET is_active = 0")
    database.close()


# ---- the origin ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, None),
        (APP, None),
        ("http://localhost:3000", None),
        ("http://127.0.0.1:{port}", None),
        ("https://127.0.0.1:{port}", None),
        ("http://chat.example.com", "chat.example.com"),
        ("https://chat.example.com", "chat.example.com"),
        ("https://chat.example.com", "CHAT.example.com:443"),
        ("http://chat.example.com", "chat.example.com:80"),
        ("https://chat.example.com:8443", "chat.example.com:8443"),
        ("http://[2001:db8::1]:8000", "[2001:DB8::1]:8000"),
        ("https://[2001:db8::1]", "[2001:db8::1]"),
    ],
)
async def test_pages_of_the_own_host_and_of_cors_origins_may_connect(
    house: Served, ada: Api, conversation: int, origin: str | None, host: str | None
) -> None:
    await talks(ada, conversation, headers=headers_of(house, origin, host))


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://evil.example", None),
        ("http://127.0.0.1", None),
        ("http://127.0.0.1:1", None),
        ("http://localhost:{port}", None),
        ("http://127.0.0.1:{port}@evil.example", None),
        ("http://evil.example/127.0.0.1:{port}", None),
        ("http://127.0.0.1.evil.example:{port}", None),
        ("127.0.0.1:{port}", None),
        ("//127.0.0.1:{port}", None),
        ("ws://127.0.0.1:{port}", None),
        ("chrome-extension://127.0.0.1:{port}", None),
        ("null", None),
        ("", None),
        ("null", ""),
        ("", ""),
        ("http://", ""),
        ("http:", ""),
        ("http://[::1", None),
        ("http://127.0.0.1:port", None),
        ("http://127.0.0.1:99999", None),
        (f"{APP}.evil.example", None),
        (f"{APP}:8443", None),
        ("http://app.example.com", None),
        ("https://chat.example.com", "chat.example.com:80"),
        ("http://chat.example.com", "chat.example.com:443"),
        ("https://chat.example.com:8443", "chat.example.com"),
        ("https://chat.example.com", "chat.example.com:8443"),
        ("https://sub.chat.example.com", "chat.example.com"),
        ("https://example.com", "chat.example.com"),
        ("http://[2001:db8::2]:8000", "[2001:db8::1]:8000"),
    ],
)
async def test_pages_of_any_other_origin_may_not(
    house: Served, ada: Api, conversation: int, origin: str, host: str | None
) -> None:
    """They are told before they have said anything, and whatever token they have."""
    for protocols in ([], ["chatcore.v1", f"bearer.{ada.token}"]):
        headers = headers_of(house, origin, host)
        async with knocking(ada, conversation, headers=headers, protocols=protocols) as socket:
            assert await socket.close_code() == 4403


def headers_of(house: Served, origin: str | None, host: str | None) -> dict[str, str]:
    given = {"Origin": origin, "Host": host}
    return {name: value.format(port=house.port) for name, value in given.items() if value is not None}


# ---- the conversation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["999999", "0", "-1", str(2**63 - 1), str(2**63), "9" * 100])
async def test_a_conversation_that_is_not_there_is_said_to_be_missing(ada: Api, number: str) -> None:
    async with knocking(ada, number) as socket:
        await socket.say("auth", token=ada.token)
        assert await socket.close_code() == 4404


async def test_so_is_another_users_and_one_that_was_deleted(house: Served, ada: Api, conversation: int) -> None:
    bob = await house.stranger.user()
    await talks(ada, conversation)
    async with knocking(bob, conversation) as socket:
        await socket.say("auth", token=bob.token)
        assert await socket.close_code() == 4404
    (await ada.post(f"/conversations/{conversation}/delete")).ok()
    async with knocking(ada, conversation) as socket:
        await socket.say("auth", token=ada.token)
        assert await socket.close_code() == 4404


async def test_a_stranger_learns_of_no_conversation(house: Served, ada: Api, conversation: int) -> None:
    for number in (conversation, 999_999):
        async with knocking(house.stranger, number) as socket:
            await socket.say("auth", token="a.b.c")
            assert await socket.close_code() == 4401


@pytest.mark.parametrize("where", ["abc", "1/2", "", "9" * 5000, "%F0%9F%A6%84", "1.5", "²"])
async def test_what_is_no_conversation_is_no_socket(ada: Api, where: str) -> None:
    with pytest.raises(WSServerHandshakeError) as refused:
        async with knocking(ada, where):
            pass
    assert refused.value.status == 403


async def test_without_a_handshake_there_is_no_socket(ada: Api, conversation: int) -> None:
    (await ada.get(f"/conversations/ws/{conversation}")).problem(405, "method_not_allowed")
    (await ada.post(f"/conversations/ws/{conversation}", {"password": PASSWORD})).problem(405, "method_not_allowed")
