"""What clients are told when something else fails: the model, the database, or chatcore itself."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chatcore.errors import (
    ModelError,
    ModelNotFound,
    ModelProtocolError,
    ModelRateLimited,
    ModelRefused,
    ModelTimeout,
    ModelUnauthorized,
    ModelUnavailable,
    ModelURLRefused,
    Unavailable,
)
from chatcore.ports import LLMGateway, UnitOfWork, UnitOfWorkFactory
from chatcore.shielding import TRIES
from chatcore_app import Readiness
from chatcore_memory import MemoryDatabase, ScriptedModel, Stall
from integration.http_app import (
    EVENTS,
    PASSWORD,
    Api,
    api_of,
    provided,
    settings_for,
    text_of,
)
from integration.routes import IDS, PRIVATE_HTTP, path_of

FAILURES: list[tuple[Exception, int, str]] = [
    (ModelUnauthorized(), 502, "model_unauthorized"),
    (ModelNotFound(), 502, "model_not_found"),
    (ModelRateLimited(), 502, "model_rate_limited"),
    (ModelRefused(), 502, "model_refused"),
    (ModelUnavailable(), 502, "model_unavailable"),
    (ModelProtocolError(), 502, "model_protocol"),
    (ModelURLRefused(), 502, "model_url_refused"),
    (ModelTimeout("It took 60 s."), 504, "model_timeout"),
    (RuntimeError("with a secret in it"), 500, "internal"),
]


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel("Hello")


@pytest.fixture
def database() -> MemoryDatabase:
    return MemoryDatabase()


@pytest.fixture
async def api(tmp_path: Path, database: MemoryDatabase, model: ScriptedModel) -> AsyncIterator[Api]:
    async def look() -> None:
        async with database.unit_of_work(read_only=True):
            pass

    async with api_of(
        settings_for(tmp_path),
        provided(LLMGateway, model),
        provided(UnitOfWorkFactory, database.unit_of_work),
        provided(Readiness, Readiness({"database": look})),
    ) as api:
        yield api


# ---- the model -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("failure", "status", "code"), FAILURES, ids=lambda value: f"{value!r:.30}")
async def test_a_model_that_fails(api: Api, model: ScriptedModel, failure: Exception, status: int, code: str) -> None:
    ada = await api.user()
    conversation = await ada.conversation()
    path = f"/conversations/{conversation}/chat"
    for _ in range(2):
        model.then("Hel", failure)

    problem = (await ada.post(path, {"content": "Hi"})).problem(status, code, more=frozenset({"reply_id"}))
    failed = (await ada.messages(conversation))[1]
    assert (failed["id"], failed["content"], failed["status"]) == (problem["reply_id"], "Hel", "failed")
    assert failed["error"] == {"code": code, "detail": problem["detail"]}

    async with ada.events(path, {"content": "Hi"}, EVENTS) as stream:
        events = await stream.rest()
    assert text_of(events) == "Hel"
    reply = (await ada.messages(conversation))[3]
    assert events[-1].data == {
        "type": "reply.failed",
        "reply_id": reply["id"],
        "offset": 3,
        "message": reply,
        "code": code,
        "detail": problem["detail"],
    }
    if isinstance(failure, ModelError):
        assert problem["detail"] == failure.detail
    else:
        assert "secret" not in problem["detail"]


async def test_a_model_that_fails_without_a_word(api: Api, model: ScriptedModel) -> None:
    ada = await api.user()
    conversation = await ada.conversation()
    model.then(ModelRateLimited())
    answer = await ada.post(f"/conversations/{conversation}/chat", {"content": "Hi"})
    answer.problem(502, "model_rate_limited", more=frozenset({"reply_id"}))
    assert (await ada.messages(conversation))[1]["content"] == ""
    again = (await ada.post(f"/conversations/{conversation}/chat", {"content": "Again"})).ok()
    assert again["reply"]["content"] == "Hello"


# ---- the database ----------------------------------------------------------------------------------------


async def test_without_its_database_it_says_to_try_again(api: Api, database: MemoryDatabase) -> None:
    ada = await api.user("ada")
    with database.outage():
        for route in PRIVATE_HTTP:
            (await ada.call(route[0], path_of(route, IDS), b"{}")).unavailable()
        (await api.post("/auth/register", {"username": "bob", "password": PASSWORD})).unavailable()
        (await api.post("/auth/login", {"username": "ada", "password": PASSWORD})).unavailable()
        (await api.post("/auth/refresh", {"refresh_token": "x"})).unavailable()
        assert (await api.get("/")).status == 200
        assert (await api.get("/health")).ok() == {"status": "healthy"}
        (await api.get("/auth/me")).problem(401, "unauthenticated")  # a stranger is known as one without it
    (await ada.get("/auth/me")).ok()


async def test_contention_that_does_not_pass_says_to_try_again(api: Api, database: MemoryDatabase) -> None:
    ada = await api.user("ada")
    conversation = await ada.conversation()
    database.contend(TRIES)
    (await ada.post(f"/conversations/{conversation}/rename", {"title": "Mine"})).unavailable()
    database.contend(TRIES - 1)
    assert (await ada.post(f"/conversations/{conversation}/rename", {"title": "Mine"})).ok()["title"] == "Mine"


async def test_it_is_ready_while_its_parts_are(api: Api, database: MemoryDatabase) -> None:
    assert (await api.get("/ready")).status == 200
    with database.outage():
        answer = await api.get("/ready")
        answer.unavailable()
        assert "database" in answer.problem(503, "unavailable")["detail"]
    assert (await api.get("/ready")).status == 200


async def test_ready_names_the_part_that_is_not(tmp_path: Path) -> None:
    async def well() -> None:
        pass

    async def ill() -> None:
        raise Unavailable("at 10.0.0.7 with a password")

    parts = Readiness({"database": well, "rate limiter": ill})
    async with api_of(settings_for(tmp_path), provided(Readiness, parts)) as api:
        detail = (await api.get("/ready")).problem(503, "unavailable")["detail"]
    assert "rate limiter" in detail
    assert "database" not in detail
    assert "10.0.0.7" not in detail


async def test_a_reply_outlives_an_outage(api: Api, database: MemoryDatabase, model: ScriptedModel) -> None:
    """Its text goes on; its end is told once it is stored."""
    ada = await api.user()
    conversation = await ada.conversation()
    stall = Stall()
    model.then("Hel", stall, "lo")
    async with ada.events(f"/conversations/{conversation}/chat", {"content": "Hi"}, EVENTS) as events:
        await events.until("Hel")
        with database.outage():
            stall.release()
            await events.until("lo")
            await model.calls[0].ended()
            (await ada.get(f"/conversations/{conversation}/reply")).unavailable()
        (end,) = await events.rest()
    assert (end.type, end.data["message"]["content"]) == ("reply.completed", "Hello")
    assert (await ada.messages(conversation))[1] == end.data["message"]


# ---- chatcore itself -------------------------------------------------------------------------------------


async def test_a_fault_of_its_own_tells_nothing_of_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    healthy = MemoryDatabase()
    broken = False

    @asynccontextmanager
    async def unit_of_work(*, read_only: bool = False, urgent: bool = False) -> AsyncGenerator[UnitOfWork, None]:
        if broken:
            raise ZeroDivisionError("details that are nobody's business")
        async with healthy.unit_of_work(read_only=read_only, urgent=urgent) as work:
            yield work

    async with api_of(settings_for(tmp_path), provided(UnitOfWorkFactory, unit_of_work)) as api:
        ada = await api.user()
        broken = True
        with caplog.at_level(logging.ERROR):
            answer = await ada.get("/conversations", {"X-Request-ID": "tried-1"})
        broken = False
        answer.problem(500, "internal")
        assert b"details" not in answer.body
        assert answer.headers["X-Request-ID"] == "tried-1"
        assert (await ada.get("/conversations")).status == 200
    (record,) = [record for record in caplog.records if record.name == "chatcore.http"]
    assert "GET /conversations" in record.getMessage()
    assert record.exc_info
    assert record.exc_info[0] is ZeroDivisionError
