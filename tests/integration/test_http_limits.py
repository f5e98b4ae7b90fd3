"""Limits as clients of the real application meet them."""

import asyncio
import itertools
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import argon2
import pytest
import pytest_asyncio

from chatcore.ports import LLMGateway, PasswordHasher
from chatcore_memory import ScriptedModel, Stall
from chatcore_security import Argon2Passwords
from integration import processes
from integration.http_app import EVENTS, PASSWORD, Answer, Api, api_of, client_of, provided, settings_for
from integration.redis_server import redis_address
from integration.ws_client import connected, knocking

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = ScriptedModel("Hello")
WRONG = "wrong horse battery"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """The test's addresses are those that it says it forwards for."""
    settings = settings_for(
        tmp_path_factory.mktemp("data"),
        TRUSTED_PROXIES="127.0.0.1",
        RATE_LIMIT_SIGN_IN="3/hour",
        RATE_LIMIT_REGISTER="2/hour",
        RATE_LIMIT_SEND="3/hour",
        RATE_LIMIT_REQUESTS="40/hour",
        MAX_REPLIES_PER_USER="2",
        SHUTDOWN_GRACE="1",
    )
    async with api_of(settings, provided(LLMGateway, MODEL)) as api:
        yield api


class At:
    """A client at this address."""

    def __init__(self, api: Api, address: str) -> None:
        self.api = api
        self.headers = {"X-Forwarded-For": address}

    async def get(self, path: str) -> Answer:
        return await self.api.get(path, self.headers)

    async def post(self, path: str, body: object = None) -> Answer:
        return await self.api.post(path, body, self.headers)

    async def register(self, username: str) -> Answer:
        return await self.post("/auth/register", {"username": username, "password": PASSWORD})

    async def sign_in(self, username: str, password: str = PASSWORD) -> Answer:
        return await self.post("/auth/login", {"username": username, "password": password})


def limited(answer: Answer) -> str:
    """Its body, without what differs by the request."""
    answer.problem(429, "rate_limited")
    assert 0 < int(answer.headers["Retry-After"]) <= 3600
    assert answer.headers["X-Request-ID"]
    return json.dumps(json.loads(answer.body))


async def test_sign_ins_to_an_account_and_its_owner_elsewhere(api: Api) -> None:
    home, attacker = At(api, "192.0.2.10"), At(api, "198.51.100.10")
    (await home.register("ada")).ok(201)
    wrong = [await attacker.sign_in("ada", WRONG) for _ in range(3)]
    unknown = [await attacker.sign_in("nobody", WRONG) for _ in range(3)]
    assert len({answer.body for answer in (*wrong, *unknown)}) == 1
    wrong[0].problem(401, "invalid_credentials")
    assert limited(await attacker.sign_in("ada")) == limited(await attacker.sign_in("nobody"))
    (await home.sign_in("ada")).ok()


async def test_one_address_cannot_try_any_number_of_accounts(api: Api) -> None:
    attacker = At(api, "198.51.100.20")
    for number in range(15):
        (await attacker.sign_in(f"account{number}", WRONG)).problem(401, "invalid_credentials")
    limited(await attacker.sign_in("account15", WRONG))


async def test_the_name_and_the_address_are_one_account(api: Api) -> None:
    account = {"username": "twonames", "email": "two@example.org", "password": PASSWORD}
    (await At(api, "192.0.2.24").post("/auth/register", account)).ok(201)
    attacker = At(api, "198.51.100.24")
    for name in ("twonames", "two@example.org", "TwoNames"):
        (await attacker.sign_in(name, WRONG)).problem(401, "invalid_credentials")
    limited(await attacker.sign_in("twonames"))
    limited(await attacker.sign_in("two@example.org"))


async def test_other_names_for_an_account_are_counted_as_registrations(api: Api) -> None:
    here = At(api, "192.0.2.25")
    user = At(api.with_token((await here.register("renamed")).ok(201)["access_token"]), "192.0.2.25")
    (await user.post("/auth/me/email", {"email": "renamed@example.org"})).ok()
    limited(await user.post("/auth/me/username", {"username": "renamed2"}))
    limited(await user.post("/auth/me/email", {"email": "renamed2@example.org"}))
    limited(await here.register("renamed3"))


async def test_what_finds_no_route_is_counted_too(api: Api) -> None:
    here = At(api, "192.0.2.26")
    for _ in range(20):
        (await here.get("/nowhere")).problem(404, "not_found")
        (await here.post("/auth/me")).problem(405, "method_not_allowed")
    limited(await here.get("/nowhere"))
    limited(await here.post("/auth/me"))
    limited(await here.get("/auth/me"))
    (await here.get("/health")).ok()


@pytest.mark.parametrize(
    ("mine", "too", "not_mine"),
    [
        ("192.0.2.30", "192.0.2.30", "192.0.2.31"),
        ("2001:db8:1::1", "2001:db8:1::ffff:1", "2001:db8:1:1::1"),
    ],
)
async def test_registrations_from_an_address_or_a_network(api: Api, mine: str, too: str, not_mine: str) -> None:
    for number in range(2):
        (await At(api, mine).register(f"{mine.replace(':', '-')}-{number}")).ok(201)
    limited(await At(api, too).register("three"))
    (await At(api, not_mine).register(f"{not_mine.replace(':', '-')}")).ok(201)


async def test_requests_of_any_kind_before_the_token_and_the_body(api: Api) -> None:
    here = At(api, "192.0.2.40")
    answers = [await here.get("/auth/me") for _ in range(20)] + [await here.post("/auth/refresh") for _ in range(20)]
    assert {answer.status for answer in answers} == {401, 400}
    for _ in range(3):
        limited(await here.get("/auth/me"))
        limited(await here.post("/auth/login", {"wrong": "body"}))
        limited(await here.get("/"))
        (await here.get("/health")).ok()
        (await here.get("/ready")).ok()
    (await At(api, "192.0.2.41").get("/")).ok()


async def test_a_handshake_is_a_request_too(api: Api) -> None:
    here = {"X-Forwarded-For": "192.0.2.50"}
    for _ in range(40):
        await api.get("/", here)
    async with knocking(api, 1, headers=here) as socket:
        assert await socket.close_code() == 1013


async def test_sends_over_http_and_the_socket_are_counted_together(api: Api) -> None:
    address = {"X-Forwarded-For": "192.0.2.60"}
    registered = await At(api, "192.0.2.60").register("sender")
    user = api.with_token(registered.ok(201)["access_token"])
    created = await user.post("/conversations/create", {}, address)
    conversation = created.ok(201)["id"]
    path = f"/conversations/{conversation}"
    (await user.post(f"{path}/chat", {"content": "1"}, address)).ok()
    async with connected(user, conversation, headers=address) as socket:
        await socket.ask("2")
        (await user.post(f"{path}/regenerate", {}, address)).ok()
        await socket.say("send", content="4")
        assert await socket.refusal() == "rate_limited"
        limited(await user.post(f"{path}/chat", {"content": "5"}, address))
        limited(await user.post(f"{path}/chat", {"content": "6", "stream": True}, {**address, **EVENTS}))
        await socket.say("attach")
        assert (await socket.rest())[-1].type == "reply.completed"


async def test_replies_at_once(api: Api) -> None:
    address = {"X-Forwarded-For": "192.0.2.70"}
    user = api.with_token((await At(api, "192.0.2.70").register("hasty")).ok(201)["access_token"])
    stall = Stall()
    conversations = [(await user.post("/conversations/create", {}, address)).ok(201)["id"] for _ in range(3)]
    streams = []
    for conversation in conversations[:2]:
        MODEL.then("Hel", stall, "lo")
        stream = asyncio.create_task(user.post(f"/conversations/{conversation}/chat", {"content": "?"}, address))
        await stall.reached()
        streams.append(stream)
        while not (await user.get(f"/conversations/{conversation}", address)).ok()["messages"]:
            await asyncio.sleep(0.01)
    limited(await user.post(f"/conversations/{conversations[2]}/chat", {"content": "?"}, address))
    assert (await user.get(f"/conversations/{conversations[2]}", address)).ok()["messages"] == []
    stall.release()
    for answer in await asyncio.gather(*streams):
        answer.ok()


async def test_what_one_user_may_store(tmp_path: Path) -> None:
    model = provided(LLMGateway, ScriptedModel("Hello"))
    async with api_of(settings_for(tmp_path, MAX_STORAGE_BYTES="10000"), model) as stranger:
        ada, bob = await stranger.user(), await stranger.user()
        conversation, other = await ada.conversation(), await ada.conversation()
        fits, too_much = {"content": "x" * 5_000}, {"content": "x" * 2_500}
        (await ada.post(f"/conversations/{conversation}/chat", fits)).ok()
        for path, body in {
            f"/conversations/{conversation}/chat": too_much,
            "/chat": {"message": "x" * 2_500},
            f"/v1/chats/{other}/message": {"role": "assistant", **too_much},
        }.items():
            (await ada.post(path, body)).problem(413, "storage_full")
        assert len(await ada.messages(conversation)) == 2
        assert len((await ada.get("/conversations")).ok()["items"]) == 2
        (await bob.post(f"/conversations/{await bob.conversation()}/chat", fits)).ok()
        export = (await bob.get("/auth/me/export")).body
        (await ada.call("POST", "/conversations/import", export)).problem(413, "storage_full")
        (await ada.post(f"/conversations/{conversation}/delete")).ok()
        (await ada.post(f"/conversations/{other}/chat", {"content": "x" * 500})).ok()
        assert (await ada.call("POST", "/conversations/import", export)).ok()["conversations"] == 1


async def test_what_is_limited_can_be_read_by_a_page_of_another_origin(tmp_path: Path) -> None:
    async with api_of(settings_for(tmp_path, RATE_LIMIT_REQUESTS="1/hour", CORS_ORIGINS="https://app.test")) as api:
        origin = {"Origin": "https://app.test"}
        await api.get("/", origin)
        answer = await api.get("/", origin)
        limited(answer)
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.test"
        assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]


async def test_in_development_only_sign_ins_are_limited(tmp_path: Path) -> None:
    async with api_of(settings_for(tmp_path), provided(LLMGateway, ScriptedModel("Hello"))) as api:
        users = [await api.user() for _ in range(25)]
        conversation = await users[0].conversation()
        for _ in range(65):
            (await users[0].post(f"/conversations/{conversation}/chat", {"content": "?"})).ok()
        for _ in range(10):
            await api.post("/auth/login", {"username": "ada", "password": WRONG})
        limited(await api.post("/auth/login", {"username": "ada", "password": WRONG}))


async def test_a_forwarded_address_of_anybody_else_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "192.0.2.1")  # as `chatcore serve`: uvicorn by itself believes 127.0.0.1
    async with api_of(settings_for(tmp_path, RATE_LIMIT_REQUESTS="3/hour", TRUSTED_PROXIES="192.0.2.1")) as api:
        answers = [await At(api, f"198.51.100.{number}").get("/") for number in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429]


async def test_of_sign_ins_at_once_no_more_are_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes on top of that is told to come back, and everybody else is answered."""
    go_on, begun = threading.Event(), 0
    verify = argon2.PasswordHasher.verify

    def slow(self: argon2.PasswordHasher, password_hash: str, password: bytes) -> bool:
        nonlocal begun
        begun += 1
        assert go_on.wait(timeout=60)
        return verify(self, password_hash, password)

    settings = settings_for(tmp_path, RATE_LIMIT_SIGN_IN="off")
    passwords = Argon2Passwords(workers=1, waiting=2)
    body, account = {"username": "ada", "password": PASSWORD}, {"username": "bob", "password": PASSWORD}
    async with api_of(settings, provided(PasswordHasher, passwords)) as stranger:
        await stranger.register("ada")
        monkeypatch.setattr(argon2.PasswordHasher, "verify", slow)
        crowd = [asyncio.create_task(stranger.post("/auth/login", body)) for _ in range(10)]
        try:
            refused = [await answer for answer in itertools.islice(asyncio.as_completed(crowd), 7)]
            for answer in (*refused, await stranger.post("/auth/register", account)):
                answer.problem(503, "unavailable")
                assert int(answer.headers["Retry-After"]) >= 1
            (await stranger.get("/auth/me")).problem(401, "unauthenticated")
            assert begun == 1
        finally:
            go_on.set()
        assert sorted([(await answer).status for answer in crowd]) == [200] * 3 + [503] * 7
        (await stranger.post("/auth/login", body)).ok()


# ---- the command -----------------------------------------------------------------------------------------


async def test_while_everybody_signs_in_the_server_answers_and_refuses_whom_it_has_no_room_for(tmp_path: Path) -> None:
    async with processes.serving(tmp_path, RATE_LIMIT_SIGN_IN="off") as server:
        stranger, done = server.api, asyncio.Event()
        await stranger.register("ada")

        async def watch() -> list[int]:
            seen = [(await stranger.get("/health")).status]
            while not done.is_set():
                seen.append((await stranger.get("/health")).status)
            return seen

        async with client_of(server.url, connections=400) as crowd:
            watching = asyncio.create_task(watch())
            answers = await asyncio.gather(
                *(crowd.post("/auth/login", {"username": "ada", "password": PASSWORD}) for _ in range(400))
            )
        done.set()
        assert set(await watching) == {200}
        assert {answer.status for answer in answers} == {200, 503}
        for answer in answers:
            if answer.status == 503:
                answer.problem(503, "unavailable")
                assert int(answer.headers["Retry-After"]) >= 1
        (await stranger.post("/auth/login", {"username": "ada", "password": PASSWORD})).ok()


async def test_processes_with_one_redis_count_together_and_are_ready_without_it(tmp_path: Path) -> None:
    redis_address()
    environ = {"RATE_LIMIT_SIGN_IN": "3/second", "RATE_LIMIT_REGISTER": "1/hour"}
    async with processes.serving(tmp_path, REDIS_URL="redis://127.0.0.1:1", LOG_FORMAT="json", **environ) as server:
        (await server.api.post("/auth/register", {"username": "a b", "password": PASSWORD})).problem(
            400, "validation_failed", "username"
        )
        await server.api.register("ada")
        limited(await server.api.post("/auth/register", {"username": "bob", "password": PASSWORD}))
        (await server.api.get("/ready")).ok()
        lines = [json.loads(line) for line in (await server.stop()).stderr.splitlines()]
    assert [line["event"] for line in lines if line["logger"] == "chatcore.limits"] == [
        "Redis is lost (ConnectionError): limits are counted in this process alone"
    ]
    audited = [line for line in lines if line["logger"] == "chatcore.audit"]
    assert [line["event"] for line in audited] == ["account_created", "rate_limited"]
    assert audited[0]["user_id"] == 1
    assert audited[0]["address"] == audited[1]["address"] == "127.0.0.1"
    assert audited[1]["rule"] == "register"
    assert audited[0]["request_id"] != audited[1]["request_id"]


async def test_a_redis_url_that_is_none_is_said(tmp_path: Path) -> None:
    ended = await processes.run(tmp_path, "serve", PORT="0", REDIS_URL="http://127.0.0.1")
    assert ended.code != 0
    assert "REDIS_URL" in ended.stderr
