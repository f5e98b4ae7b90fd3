"""Under a path of another's: behind a real nginx that strips a prefix, by `root_path`, and mounted in another app."""

import itertools
import json
import re
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from litestar import Litestar

from chatcore.ports import LLMGateway, PasswordHasher
from chatcore_cli.server import uvicorn_options
from chatcore_http import create_app
from chatcore_memory import PlainPasswords, ScriptedModel
from integration.http_app import PASSWORD, Answer, Api, client_of, provided, settings_for
from integration.nginx import STRIPPED, nginx

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.once]

PREFIX = "/tools/chat"
"""It ends as some routes do, which a search for it in the path would take for it."""
_numbers = itertools.count(100)


def app_of(folder: Path, **environ: str) -> Litestar:
    settings = settings_for(folder, REFRESH_COOKIE="true", COOKIE_SECURE="false", **environ)
    return create_app(
        settings, provided(PasswordHasher, PlainPasswords()), provided(LLMGateway, ScriptedModel("Hello", " there"))
    )


async def served(app: Any, options: dict[str, Any]) -> AsyncIterator[int]:
    config = uvicorn.Config(app, **{**options, "host": "127.0.0.1", "port": 0})
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        await server.shutdown()


class Mounted:
    """As Starlette's `Mount` calls an application (ASGI: `path` has `root_path` in it), or as older ones do."""

    def __init__(self, app: Any, *, whole_path: bool) -> None:
        self.app = app
        self.whole_path = whole_path

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            assert scope["path"].startswith(PREFIX)
            path = scope["path"] if self.whole_path else scope["path"].removeprefix(PREFIX)
            scope = {**scope, "path": path, "root_path": PREFIX}
        await self.app(scope, receive, send)


@pytest_asyncio.fixture(
    params=["nginx", "root_path behind nginx", "mounted", "mounted as of old"], scope="module", loop_scope="module"
)
async def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    folder: Path = tmp_path_factory.mktemp("prefixed")
    proxies = {"TRUSTED_PROXIES": "127.0.0.1"} if request.param == "nginx" else {}
    app = app_of(folder, **proxies)
    settings = settings_for(folder)
    options = uvicorn_options(settings)
    if request.param == "root_path behind nginx":
        options["root_path"] = PREFIX
    whole = app if "nginx" in request.param else Mounted(app, whole_path=request.param == "mounted")
    async for port in served(whole, options):
        if "nginx" in request.param:
            locations = STRIPPED.format(prefix=PREFIX, upstream=port)
            async with nginx(folder / "nginx", locations) as front, client_of(f"http://127.0.0.1:{front}") as client:
                yield client
        else:
            async with client_of(f"http://127.0.0.1:{port}") as client:
                yield client


async def get(api: Api, path: str, **headers: str) -> Answer:
    return await api.call("GET", f"{PREFIX}{path}", headers=headers)


async def registered(api: Api) -> tuple[Api, Answer]:
    user = {"username": f"user{next(_numbers)}", "password": PASSWORD}
    answer = await api.post(f"{PREFIX}/auth/register", user)
    signed_in = Api(api.http)
    signed_in.token = answer.ok(201)["access_token"]
    return signed_in, answer


async def test_routes_are_where_they_are_and_those_that_end_like_the_prefix_too(api: Api) -> None:
    assert (await get(api, "/health")).ok() == {"status": "healthy"}
    assert (await get(api, "/")).ok()["status"] == "running"
    ada, _ = await registered(api)
    conversation = (await ada.post(f"{PREFIX}/conversations/create", {})).ok(201)["id"]
    said = await ada.post(f"{PREFIX}/conversations/{conversation}/chat", {"content": "Hi"})
    assert said.ok()["reply"]["content"] == "Hello there"
    assert (await ada.post(f"{PREFIX}/chat", {"message": "Hi"})).status == 200
    (await get(api, "/nothing/here")).problem(404, "not_found")


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
async def test_a_page_of_the_documentation_finds_its_parts(api: Api, page: str) -> None:
    html = (await get(api, page)).body.decode()
    links = re.findall(r'(?:src|href|spec-url)="(/[^"]+)"', html)
    assert len(links) >= 2
    for link in links:
        assert link.startswith(f"{PREFIX}/")
        assert (await api.call("GET", link)).status == 200
    script = (await get(api, "/docs/start.js")).body.decode()
    assert f'url: "{PREFIX}/openapi.json"' in script


async def test_the_document_names_its_server(api: Api) -> None:
    document = (await get(api, "/openapi.json")).ok()
    assert document["servers"] == [{"url": PREFIX}]
    assert "/auth/me" in document["paths"]


async def test_the_refresh_cookie_is_sent_where_it_is_needed(api: Api) -> None:
    ada, answer = await registered(api)
    (cookie,) = SimpleCookie(answer.headers["Set-Cookie"]).values()
    assert cookie["path"] == f"{PREFIX}/auth/refresh"
    headers = {"Cookie": f"{cookie.key}={cookie.value}"}
    refreshed = await api.post(cookie["path"], {}, headers=headers)
    assert refreshed.ok()["access_token"]
    gone = await ada.post(f"{PREFIX}/auth/logout", {})
    (deleted,) = SimpleCookie(gone.headers["Set-Cookie"]).values()
    assert (deleted["path"], deleted["max-age"]) == (cookie["path"], "0")


async def test_events_and_sockets_pass(api: Api) -> None:
    ada, _ = await registered(api)
    conversation = (await ada.post(f"{PREFIX}/conversations/create", {})).ok(201)["id"]
    where = f"{PREFIX}/conversations/{conversation}/chat"
    async with ada.events(where, {"content": "Hi"}, {"Accept": "text/event-stream"}) as events:
        assert (await events.rest())[-1].type == "reply.completed"
    async with api.http.ws_connect(f"{PREFIX}/conversations/ws/{conversation}") as socket:
        await socket.send_json({"type": "auth", "token": ada.token})
        assert (await socket.receive_json())["type"] == "ready"
        await socket.send_json({"type": "send", "content": "Hi"})
        while (event := await socket.receive_json())["type"] != "reply.completed":
            assert event["type"].startswith(("reply.", "conversation."))


# ---- whose word counts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proxies", "given", "prefix"),
    [
        ("127.0.0.0/8", "/chat", "/chat"),
        ("127.0.0.0/8", "/chat/", "/chat"),
        ("127.0.0.0/8", "/a-b/c.d, /chat", "/a-b/c.d"),
        ("127.0.0.0/8", "/", ""),
        ("127.0.0.0/8", "chat", ""),
        ("127.0.0.0/8", "//evil.test", ""),
        ("127.0.0.0/8", "/../x", ""),
        ("127.0.0.0/8", '/"><script>', ""),
        ("127.0.0.0/8", "/x; domain=evil.test", ""),
        ("127.0.0.0/8", "/x" * 200, ""),
        ("10.0.0.0/8", "/chat", ""),
        ("", "/chat", ""),
    ],
)
async def test_a_prefix_is_a_trusted_proxys_word_and_a_plain_path(
    tmp_path: Path, proxies: str, given: str, prefix: str
) -> None:
    app = app_of(tmp_path, TRUSTED_PROXIES=proxies)
    async for port in served(app, uvicorn_options(settings_for(tmp_path))):
        async with client_of(f"http://127.0.0.1:{port}") as client:
            headers = {"X-Forwarded-Prefix": given}
            page = (await client.get("/docs", headers)).body.decode()
            assert f'src="{prefix}/docs/start.js"' in page
            document = json.loads((await client.get("/openapi.json", headers)).body)
            assert document.get("servers", [{"url": ""}])[0]["url"].rstrip("/") == prefix
            answer = await client.post("/auth/register", {"username": "ada", "password": PASSWORD}, headers)
            (cookie,) = SimpleCookie(answer.headers["Set-Cookie"]).values()
            assert cookie["path"] == f"{prefix}/auth/refresh"
            assert cookie["domain"] == ""
