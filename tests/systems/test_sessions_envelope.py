"""System E: its flow in the envelope, against a server: register, login, me, logout; the session table is the judge."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from integration.http_app import PASSWORD, PROFILE, TOKENS, USER, Answer, Api, check_shape
from integration.processes import Server, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

INFO = {"user_id", "userid", "email", "reg_time", *PROFILE}
GIVEN = {
    "user_name": "李雷 🦄",
    "country": "中国",
    "job": "工程师",
    "phone": "+86 10 1234 5678",
    "email": "lilei@example.com",
    "init_cn_level": "HSK 3",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    environ = {"DATABASE_URL": database_url, "RESPONSE_ENVELOPE": "code"}
    async with serving(tmp_path_factory.mktemp("sessions_envelope"), **environ) as server:
        yield server


def success(answer: Answer, status: int = 200) -> Any:
    """The `data` of what went well."""
    envelope = answer.ok(status)
    assert list(envelope) == ["code", "message", "data"]
    assert (envelope["code"], envelope["message"]) == (1, "success")
    return envelope["data"]


def failure(answer: Answer, status: int, code: str) -> Any:
    """The problem that it must be."""
    envelope = answer.ok(status)
    assert list(envelope) == ["code", "message", "data"]
    problem = envelope["data"]
    assert (envelope["code"], envelope["message"]) == (0, problem["detail"])
    assert (problem["status"], problem["code"]) == (status, code)
    return problem


async def test_its_flow(server: Server) -> None:
    api = server.api
    account = {"userid": "lilei", "password": PASSWORD}
    registered = success(await api.post("/user/register", {**account, **GIVEN}), 201)
    info = registered["user_info"]
    check_shape(registered, USER | {"user_info"})
    assert set(info) == INFO
    assert info["user_id"] == registered["id"]
    assert info["reg_time"] == registered["created_at"]
    assert {name: info[name] for name in GIVEN} == GIVEN
    assert info["userid"] == registered["username"] == "lilei"

    signed_in = success(await api.post("/auth/login", account))
    assert set(signed_in) == TOKENS | {"user_info"}
    assert signed_in["token_type"] == "bearer"
    assert signed_in["user_info"] == info
    assert {**signed_in["user"], "user_info": info} == registered

    lilei = api.with_token(signed_in["access_token"])
    assert success(await lilei.get("/auth/me")) == registered
    sessions = success(await lilei.get("/auth/sessions"))["items"]
    assert [(session["current"], session["logout_time"]) for session in sessions] == [(True, None)]

    refreshed = success(await api.post("/auth/refresh", {"refresh_token": signed_in["refresh_token"]}))
    assert refreshed["user_info"] == info

    assert set(success(await lilei.post("/auth/logout"))) == {"message"}
    failure(await lilei.get("/auth/me"), 401, "unauthenticated")
    failure(await api.with_token(refreshed["access_token"]).get("/auth/me"), 401, "unauthenticated")
    failure(await api.post("/auth/refresh", {"refresh_token": refreshed["refresh_token"]}), 401, "unauthenticated")
    again = success(await api.post("/auth/login", account))
    ended = success(await api.with_token(again["access_token"]).get("/auth/sessions"))["items"][1]
    assert ended["logout_time"] is not None


async def test_registering_signs_nobody_in(server: Server) -> None:
    account = {"userid": "hanmeimei", "password": PASSWORD}
    answer = await server.api.post("/user/register", account)
    assert "token" not in answer.body.decode()
    signed_in = success(await server.api.post("/auth/login", account))
    user = server.api.with_token(signed_in["access_token"])
    assert len(success(await user.get("/auth/sessions"))["items"]) == 1


async def test_who_gives_no_name_is_shown_by_the_userid(server: Server) -> None:
    registered = success(await server.api.post("/user/register", {"userid": "jim", "password": PASSWORD}), 201)
    assert registered["user_info"]["user_name"] == "jim"
    assert registered["profile"]["user_name"] is None


async def test_what_is_refused_is_told_by_its_own_names(server: Server) -> None:
    api, account = server.api, {"userid": "kate", "password": PASSWORD}
    success(await api.post("/user/register", account), 201)
    failure(await api.post("/user/register", {**account, "userid": "KATE"}), 409, "username_taken")
    problem = failure(await api.post("/user/register", {"userid": "x", "password": "y"}), 400, "validation_failed")
    assert [error["field"] for error in problem["errors"]] == ["userid", "password"]
    problem = failure(await api.post("/user/register", {"password": PASSWORD}), 400, "validation_failed")
    assert [error["field"] for error in problem["errors"]] == ["userid"]
    long = {**account, "userid": "kate2", "country": "x" * 201}
    assert failure(await api.post("/user/register", long), 400, "validation_failed")["errors"][0]["field"] == "country"
    failure(await api.post("/auth/login", {**account, "password": "wrong"}), 401, "invalid_credentials")


async def test_the_address_signs_in_too(server: Server) -> None:
    account = {"userid": "lucy", "password": PASSWORD, "email": "lucy@example.com"}
    success(await server.api.post("/user/register", account), 201)
    for name in ("lucy", "lucy@example.com"):
        info = success(await server.api.post("/auth/login", {"userid": name, "password": PASSWORD}))["user_info"]
        assert info["userid"] == "lucy"


async def test_whatever_goes_wrong_is_enveloped(server: Server) -> None:
    api = server.api
    failure(await api.get("/nope"), 404, "not_found")
    answer = await api.call("DELETE", "/auth/me")
    failure(answer, 405, "method_not_allowed")
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "OPTIONS"}
    failure(await api.call("POST", "/auth/login", b'{"userid": '), 400, "validation_failed")
    failure(await api.call("POST", "/auth/login", b"x", {"Content-Encoding": "gzip"}), 413, "payload_too_large")
    answer = await api.get("/auth/me")
    failure(answer, 401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    for _ in range(10):
        await api.post("/auth/login", {"userid": "limited", "password": "wrong"})
    answer = await api.post("/auth/login", {"userid": "limited", "password": "wrong"})
    failure(answer, 429, "rate_limited")
    assert int(answer.headers["Retry-After"]) > 0


async def test_a_stream_is_none(server: Server) -> None:
    account = {"userid": "polly", "password": PASSWORD}
    success(await server.api.post("/user/register", account), 201)
    polly: Api = server.api.with_token(success(await server.api.post("/auth/login", account))["access_token"])
    conversation = success(await polly.post("/conversations/create"), 201)["id"]
    nothing = await polly.get(f"/conversations/{conversation}/reply")
    assert (nothing.status, nothing.body) == (204, b"")
    async with polly.events(f"/conversations/{conversation}/chat", {"content": "Hello", "stream": True}) as stream:
        events = await stream.rest()
    assert events[-1].type == "reply.completed"
    history = success(await polly.get(f"/conversations/{conversation}"))
    assert [message["role"] for message in history["messages"]] == ["user", "assistant"]


@pytest.mark.parametrize("path", ["/openapi.json", "/openapi.json/"])
async def test_the_description_is_none_and_says_what_is_sent(server: Server, path: str) -> None:
    document = json.loads((await server.api.get(path)).body)
    assert document["openapi"].startswith("3.1")
    answers = document["paths"]["/auth/me"]["get"]["responses"]
    assert set(answers["200"]["content"]["application/json"]["schema"]["properties"]) == {"code", "message", "data"}
    assert set(answers["401"]["content"]) == {"application/json"}
