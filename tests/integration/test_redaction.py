"""No password, hash, token, key or sealed value gets out: into no answer, no line of the log, no trace, no `repr`.

Every route of the table is called with secrets that are known, in ways that work and ways that fail, also by a fault of
ours in whatever use case it calls. Whatever secret a database holds is read from it and looked for as well.
"""

import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import structlog
from aiohttp import ClientPayloadError
from dishka import Provider, Scope

from chatcore import ModelEndpoint
from chatcore.errors import ModelUnauthorized
from chatcore.ports import Cipher, LLMGateway, UnitOfWorkFactory
from chatcore_app import Settings, SettingsError, blaming
from chatcore_app.logs import configure_logging
from chatcore_http import create_app
from chatcore_memory import ScriptedModel
from chatcore_security import FernetCipher
from chatcore_sql import Database
from integration.databases import empty
from integration.http_app import Answer, Api, api_of, provided, settings_for
from integration.routes import ADMIN, FORMS, HTTP, TABLE, Route

PASSWORD = "pa55word-Of-Ada-ZZQX"
API_KEY = "sk-Key-Of-Ada-0123456789-last"
SETTINGS = {
    "SECRET_KEY": "secret-key-ZZQX-" * 3,
    "REFRESH_SECRET_KEY": "refresh-secret-key-ZZQX-" * 2,
    "ENCRYPTION_KEYS": "WlpRWC1aWlFYLVpaUVgtWlpRWC1aWlFYLVpaUVgtWlo=",
    "OPENAI_API_KEY": "sk-Key-Of-The-Server-ZZQX",
    "DEBUG": "true",
}
BODIES: dict[str, Any] = {
    "/auth/register": {"username": "ada", "email": "x@example.com", "password": PASSWORD},
    "/auth/login": {"username": "ada", "password": PASSWORD},
    "/auth/me/email": {"email": "ada", "current_password": PASSWORD},
    "/auth/me/password": {"password": PASSWORD, "current_password": PASSWORD + "!"},
    "/auth/me/delete": {"current_password": PASSWORD + "!"},
    "/auth/config/create": {"model_url": "https://own.test/v1", "model_name": "own", "api_key": API_KEY},
    "/auth/config/{config_id}/update": {"api_key": API_KEY},
    "/v1/auth/register": {"username": "eve", "email": "eve@example.com", "password": PASSWORD},
    "/v1/auth/token": {"username": "ada", "password": PASSWORD},
    "/user/register": {"userid": "bob", "email": "bob@example.com", "password": PASSWORD},
}
GIVES_TOKENS = {"/auth/register", "/auth/login", "/auth/refresh", "/auth/me/password", "/v1/auth/token"}
ENDS_THINGS = ("/logout", "/delete", "/disable", "/revoke", "/revoke-others", "/password")


class Faulty(UnitOfWorkFactory):
    """Has a fault after so many units of work, if it is told to, which knows all that it should not tell."""

    def __init__(self) -> None:
        self.inner: UnitOfWorkFactory | None = None
        self.breaks_after: int | None = None

    def around(self, database: Database) -> UnitOfWorkFactory:
        self.inner = database.unit_of_work
        return self

    def __call__(self, *, read_only: bool = False, urgent: bool = False) -> Any:
        assert self.inner
        if self.breaks_after is not None and not urgent:
            self.breaks_after -= 1
        if self.breaks_after is not None and self.breaks_after < 0:
            known = (PASSWORD, API_KEY, *SETTINGS.values())  # a local variable, for a trace that shows them
            raise RuntimeError(f"a fault with {len(known)} secrets in reach")
        return self.inner(read_only=read_only, urgent=urgent)


@pytest.fixture
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[io.StringIO]:
    """What is logged, at every level, as it is written."""
    root = logging.getLogger()
    before = root.handlers, root.level
    configure_logging(settings_for(tmp_path, **SETTINGS, LOG_FORMAT=request.param))
    structlog.configure(cache_logger_on_first_use=False)  # or the modules' loggers would write like this for ever
    written = io.StringIO()
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written)
    root.handlers = [handler, *before[0]]
    yield written
    root.handlers, root.level = before


def check_clean(what: object, secrets: dict[str, str], *, but: tuple[str, ...] = ()) -> None:
    text = str(what)
    told = [name for name, value in secrets.items() if value in text and not name.startswith(but or ("\0",))]
    assert told == [], text[:2000]


@pytest.mark.parametrize(("log", "envelope"), [("console", "none"), ("json", "code")], indirect=["log"])
async def test_no_route_tells_a_secret_whatever_happens(
    database_url: str, tmp_path: Path, log: io.StringIO, envelope: str
) -> None:
    await empty(database_url)
    environ = {**SETTINGS, "DATABASE_URL": database_url}
    model, faulty = ScriptedModel("Hello"), Faulty()
    storage = Provider(scope=Scope.APP)
    storage.provide(faulty.around)
    providers = provided(LLMGateway, model), storage
    async with api_of(settings_for(tmp_path, **environ), *providers) as api:
        ada_tokens = await api.register("ada", PASSWORD)
        ada, root = api.with_token(ada_tokens["access_token"]), await api.admin("root")
        ids, key = await ids_of(ada), await ada.key()
        ids["key_id"] = key["id"]
        secrets = {**await secrets_of(faulty, ada_tokens), "personal API key": key["key"]}
        with pytest.raises(AssertionError, match="access token"):
            check_clean(ada_tokens, secrets)
    answers = dict[tuple[Route, str], Answer]()
    async with api_of(settings_for(tmp_path, **environ, RESPONSE_ENVELOPE=envelope), *providers) as api:
        ada, root = api.with_token(ada.token), api.with_token(root.token)
        for route in sorted(HTTP, key=lambda route: route[0] == "DELETE" or route[1].endswith(ENDS_THINGS)):
            for name, answer in [item async for item in calls(route, ids, api, ada, root, model, faulty)]:
                answers[route, name] = answer
                given = ("access token", "refresh token") if route[1] in GIVES_TOKENS and answer.status < 300 else ()
                check_clean((answer.headers, answer.body.decode(errors="replace")), secrets, but=given)
    statuses = {answer.status for answer in answers.values()}
    assert statuses >= {200, 201, 400, 401, 403, 404, 500, 502}, statuses
    wrapped = [answer.body.startswith(b'{"code":') for answer in answers.values()]
    assert any(wrapped) is (envelope == "code")
    written = log.getvalue()
    assert "a fault with" in written
    assert "Traceback" in written
    check_clean(written, secrets)


async def ids_of(ada: Api) -> dict[str, Any]:
    """One of everything that is hers."""
    conversation = await ada.conversation()
    return {
        "config_id": (await ada.post("/auth/config/create", BODIES["/auth/config/create"])).ok(201)["id"],
        "conversation_id": conversation,
        "chat_id": conversation,
        "message_id": 1,
        "file_id": (await ada.file())["id"],
        "number": 0,
        "session_id": (await ada.get("/auth/sessions")).ok()["items"][0]["id"],
        "user_id": (await ada.get("/auth/me")).ok()["id"],
        "name": "nope",
    }


async def secrets_of(faulty: Faulty, tokens: Any) -> dict[str, str]:
    """By what they are: those of the settings, of Ada's, and whatever the database holds."""
    assert faulty.inner
    found = {"password": PASSWORD, "API key": API_KEY, **SETTINGS}
    del found["DEBUG"]
    found |= {"access token": tokens["access_token"], "refresh token": tokens["refresh_token"]}
    async with faulty.inner(read_only=True) as work:
        for user in await work.administration.users(limit=10):
            found[f"password hash of {user.username}"] = user.password_hash
            for config in await work.model_configs.list(user.id, limit=10, offset=0):
                found[f"sealed key {config.id}"] = config.sealed_key
                check_clean((config, [user]), found)
    assert len(found) >= 10
    assert all(len(value) > 12 for value in found.values())
    return found


async def calls(
    route: Route, ids: dict[str, Any], api: Api, ada: Api, root: Api, model: ScriptedModel, faulty: Faulty
) -> AsyncIterator[tuple[str, Answer]]:
    """What a route says, first to what it should refuse."""
    method, path = route[0], route[1].format_map(ids)
    body = BODIES.get(route[1]) or TABLE[route] or {}
    body = {name: ids["config_id"] if value == "theirs" else value for name, value in body.items()}
    sent, caller = json.dumps(body).encode(), root if route in ADMIN else ada
    yield "a stranger", await api.call(method, path, sent)
    yield "no administrator", await ada.call(method, path, sent) if route in ADMIN else await ada.get("/auth/me")
    yield "no JSON", await caller.call(method, path, sent[:-1])
    wrong = {name: [value] for name, value in body.items()}
    yield "other types", await caller.call(method, path, json.dumps({**wrong, "password": [PASSWORD]}).encode())
    yield "in the query", await caller.call(method, f"{path}?limit=sk&after=x&token=zzqx", sent)
    for after in range(2):  # the first unit of work is there to know who calls
        faulty.breaks_after = after
        try:
            yield f"a fault after {after}", await caller.call(method, path, sent)
        except ClientPayloadError:
            assert path == "/auth/me/export", path  # its answer had begun, and is cut off
        finally:
            faulty.breaks_after = None
    if "chat" in path or "check" in path:
        model.then(ModelUnauthorized())
        yield "the model fails", await caller.call(method, path, sent)
    yield "as it should", await said(caller, method, path, body, form=route in FORMS)


async def said(caller: Api, method: str, path: str, body: dict[str, Any], *, form: bool) -> Answer:
    if form:
        return await caller.call(
            method, path, urlencode(body).encode(), {"Content-Type": "application/x-www-form-urlencoded"}
        )
    return await caller.call(method, path, json.dumps(body).encode())


# ---- what is printed ---------------------------------------------------------------------------------------


async def test_no_repr_tells_a_secret(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, **SETTINGS)
    secrets = {name: value for name, value in SETTINGS.items() if name != "DEBUG"}
    check_clean((settings, [settings]), secrets)
    endpoint = ModelEndpoint(url="https://x.test/v1", model="m", api_key=API_KEY)
    check_clean([endpoint], {"API key": API_KEY})
    app = create_app(settings)
    container = app.state.dishka_container
    cipher = await container.get(Cipher)
    check_clean((cipher, vars(cipher)), secrets)
    await container.close()


@pytest.mark.parametrize("name", ["SECRET_KEY", "ENCRYPTION_KEYS", "REFRESH_SECRET_KEY"])
def test_settings_that_are_wrong_are_not_repeated(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=name) as refusal:
        make_cipher(settings_for(tmp_path, **{**SETTINGS, name: "too-short-ZZQX"}))
    check_clean(refusal.value, {**SETTINGS, name: "too-short-ZZQX"}, but=("DEBUG",))


def make_cipher(settings: Settings) -> None:
    with blaming("ENCRYPTION_KEYS"):
        FernetCipher(settings.encryption_keys)
