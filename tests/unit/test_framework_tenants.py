"""The same id in two tenants is two users, in each framework."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Annotated, Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.asgi import get_asgi_application
from fastapi import FastAPI, Header
from flask import Flask, request
from litestar import Litestar
from quart import Quart
from quart import request as quart_request

import chatcore_django
import chatcore_fastapi
import chatcore_flask
import chatcore_litestar
import chatcore_quart
from chatcore import Chat, SyncChat
from chatcore_asgi import User
from chatcore_memory import HandClock, MemoryDatabase, ScriptedModel
from unit.test_chatcore_asgi import Client

Request = Callable[[str, str, str], Awaitable[tuple[int, Any]]]
"""Method, path and tenant; the status and the JSON."""


def user_in(headers: Mapping[str, str]) -> User | None:
    return User("alice", headers["x-tenant"]) if "x-tenant" in headers else None


def a_chat() -> Chat:
    return Chat(store=MemoryDatabase(HandClock()), gateway=ScriptedModel("Hello"))


def fastapi(chat: Chat) -> Any:
    def current(x_tenant: Annotated[str | None, Header()] = None) -> User | None:
        return user_in({} if x_tenant is None else {"x-tenant": x_tenant})

    app = FastAPI(exception_handlers=chatcore_fastapi.problems)
    app.include_router(chatcore_fastapi.router(chat, current))
    return app


def litestar(chat: Chat) -> Any:
    async def current(connection: chatcore_litestar.Connection) -> User | None:
        return user_in(connection.headers)

    return Litestar(plugins=[chatcore_litestar.ChatPlugin(chat, user=current)], logging_config=None)


def quart(chat: Chat) -> Any:
    async def current() -> User | None:
        return user_in({name.lower(): value for name, value in quart_request.headers.items()})

    app = Quart(__name__)
    chatcore_quart.open_with(app, chat)
    app.register_blueprint(chatcore_quart.router(chat, current))
    return app


def django(chat: Chat) -> Any:
    async def current(asked: Any) -> User | None:
        return user_in({name.lower(): value for name, value in asked.headers.items()})

    urls = type("urls", (), {"urlpatterns": chatcore_django.urls(chat, current)})
    middleware = ["chatcore_django.Problems"]
    if not settings.configured:
        settings.configure(ROOT_URLCONF=urls, MIDDLEWARE=middleware, ALLOWED_HOSTS=["*"], SECRET_KEY="x" * 50)
    return get_asgi_application()


@pytest.fixture(params=[fastapi, litestar, quart, django], ids=lambda make: make.__name__)
async def ask(request: pytest.FixtureRequest) -> AsyncIterator[Request]:
    async with a_chat() as chat:
        app = request.param(chat)

        async def served(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "http_version": "1.1", "scheme": "http"}, receive, send)

        client = Client(served)

        async def asked(method: str, path: str, tenant: str) -> tuple[int, Any]:
            named: Any = {"x_tenant": tenant} if tenant else {}
            answer = await client.call(method, path, {} if method == "POST" else None, host="localhost", **named)
            return answer.status, answer.json

        yield asked


async def check(ask: Request) -> None:
    assert (await ask("POST", "/conversations/create", "acme"))[0] == 201
    for tenant, count in (("acme", 1), ("other", 0)):
        status, page = await ask("GET", "/conversations", tenant)
        assert (status, len(page["items"])) == (200, count)
    status, problem = await ask("GET", "/conversations", "")
    assert (status, problem["code"]) == (401, "unauthenticated")


async def test_asynchronous_frameworks(ask: Request) -> None:
    await check(ask)


async def test_flask() -> None:
    with SyncChat(a_chat()) as chat:
        app = Flask(__name__)
        app.extensions["chatcore"] = chat  # it is open
        chatcore_flask.open_with(app, chat)
        app.register_blueprint(
            chatcore_flask.router(chat, lambda: user_in({name.lower(): value for name, value in request.headers}))
        )

        def asked(method: str, path: str, tenant: str) -> tuple[int, Any]:
            answer = app.test_client().open(path, method=method, headers={"X-Tenant": tenant} if tenant else {})
            return answer.status_code, answer.get_json(force=True)

        await check(sync_to_async(asked))
