"""Every route of the table, asked by an administrator about what is their own, with a token that opens nothing any
more, or never did: nothing else is wrong with the request, and nothing in the database changes.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import jwt
import pytest
import pytest_asyncio
from aiohttp import WSMsgType

from chatcore import SystemClock
from chatcore.ports import AccessClaims, LLMGateway, TokenSigner
from chatcore_memory import ScriptedModel
from chatcore_security import JWTSigner
from chatcore_sql.tables import metadata
from integration.databases import KINDS, execute, on_one, rows_in
from integration.http_app import PASSWORD, Api, api_of, provided, settings_for
from integration.routes import HTTP, PRIVATE_HTTP, PUBLIC, SAID, SOCKETS, Route, body_of, path_of
from integration.ws_client import knocking

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.once]

SECRET = "a secret of more than 32 characters, for tests"


@dataclass(frozen=True, kw_only=True)
class Account:
    """An administrator with one of everything. `query` and `headers` carry the token."""

    api: Api
    """Signed in, and nobody has ended that."""
    root: Api
    database_url: str
    ids: dict[str, object]
    claims: AccessClaims
    token: str
    refresh_token: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    query: str = ""
    refusal: tuple[int, str] = (401, "unauthenticated")

    def bears(self, token: str) -> "Account":
        return replace(self, token=token, headers={"Authorization": f"Bearer {token}"})

    async def is_(self, what: str) -> "Account":
        """After an administrator has done this to them."""
        (await self.root.post(f"/admin/users/{self.claims.user_id}/{what}")).ok()
        return self.bears(self.token)


async def signed_out(account: Account) -> Account:
    (await account.api.post("/auth/logout")).ok()
    return account.bears(account.token)


async def revoked(account: Account) -> Account:
    (await account.api.post(f"/auth/sessions/{account.claims.session_id}/revoke")).ok()
    return account.bears(account.token)


async def ended_by_an_administrator(account: Account) -> Account:
    return await account.is_("sessions/revoke")


async def disabled_by_an_administrator(account: Account) -> Account:
    return await account.is_("disable")


async def disabled_while_the_session_lives(account: Account) -> Account:
    await execute(account.database_url, f"UPDATE users SET is_active = FALSE WHERE id = {account.claims.user_id}")
    return replace(account.bears(account.token), refusal=(403, "account_disabled"))


async def deleted(account: Account) -> Account:
    return await account.is_("delete")


async def session_has_expired(account: Account) -> Account:
    past = "UPDATE sessions SET expires_at = '2001-01-01 00:00:00' WHERE id = '{}'"
    await execute(account.database_url, past.format(account.claims.session_id))
    return account.bears(account.token)


async def is_a_revoked_key(account: Account) -> Account:
    key = await account.api.key()
    (await account.api.post(f"/auth/keys/{key['id']}/revoke")).ok()
    return account.bears(key["key"])


async def is_an_expired_key(account: Account) -> Account:
    key = await account.api.key()
    past = "UPDATE sessions SET expires_at = '2001-01-01 00:00:00' WHERE id = '{}'"
    await execute(account.database_url, past.format(key["id"]))
    return account.bears(key["key"])


async def is_a_key_whose_user_an_administrator_disabled(account: Account) -> Account:
    key = await account.api.key()
    return (await account.is_("disable")).bears(key["key"])


async def has_expired(account: Account) -> Account:
    now = SystemClock().now()
    claims = replace(account.claims, issued_at=now - timedelta(hours=1), expires_at=now)
    return account.bears(JWTSigner(SECRET).sign(claims))


async def is_a_refresh_token(account: Account) -> Account:
    return account.bears(account.refresh_token)


async def is_another_kind_of_jwt(account: Account) -> Account:
    return account.bears(jwt.encode(payload_of(account), SECRET, "HS256", headers={"typ": "JWT"}))


async def is_of_another_audience(account: Account) -> Account:
    return account.bears(JWTSigner(SECRET, audience="another").sign(account.claims))


async def is_signed_with_another_secret(account: Account) -> Account:
    return account.bears(JWTSigner(SECRET[::-1]).sign(account.claims))


async def is_unsigned(account: Account) -> Account:
    parts = ({"alg": "none", "typ": "at+jwt"}, payload_of(account))
    encoded = [urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return account.bears(".".join([*encoded, ""]))


async def is_in_the_query(account: Account) -> Account:
    """RFC 9700 §4.3.2. Nor does it come into a log."""
    return replace(account, token="", query=f"?access_token={account.token}&token={account.token}")


async def is_in_a_cookie(account: Account) -> Account:
    names = ("access_token", "token", "Authorization", "__Secure-refresh_token", "refresh_token")
    cookie = "; ".join(f"{name}={account.token}" for name in names)
    return replace(account, token="", headers={"Cookie": cookie})


def payload_of(account: Account) -> dict[str, Any]:
    payload: dict[str, Any] = jwt.decode(account.token, options={"verify_signature": False})
    return payload


How = Callable[[Account], Awaitable[Account]]
STORED: list[How] = [
    signed_out,
    revoked,
    ended_by_an_administrator,
    disabled_by_an_administrator,
    disabled_while_the_session_lives,
    deleted,
    session_has_expired,
    is_a_revoked_key,
    is_an_expired_key,
    is_a_key_whose_user_an_administrator_disabled,
]
"""What the database says of it."""
OF_ITSELF: list[How] = [
    has_expired,
    is_a_refresh_token,
    is_another_kind_of_jwt,
    is_of_another_audience,
    is_signed_with_another_secret,
    is_unsigned,
    is_in_the_query,
    is_in_a_cookie,
]
"""What is refused before any database is asked."""
# ---- what they have --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    stranger: Api
    model: ScriptedModel
    database_url: str
    root: Api
    accounts: dict[How, Account]

    async def everything(self) -> dict[str, list[str]]:
        """All that is stored, but for the signs of life."""
        still = [table.name for table in metadata.sorted_tables if table.name != "workers"]
        return await rows_in(self.database_url, dict.fromkeys(still, "TRUE"))


async def account_of(stranger: Api, root: Api, name: str, database_url: str) -> Account:
    api = await stranger.admin(name)
    config = {"model_url": "https://own.test/v1", "model_name": "own", "api_key": "sk-0123456789ab"}
    conversation_id = await api.conversation("Own")
    said = (await api.post(f"/conversations/{conversation_id}/chat", SAID)).ok()
    tokens = (await stranger.post("/auth/login", {"username": name, "password": PASSWORD})).ok()
    assert stranger.container
    claims = (await stranger.container.get(TokenSigner)).verify(tokens["access_token"], now=SystemClock().now())
    ids: dict[str, object] = {
        "config_id": (await api.post("/auth/config/create", config)).ok(201)["id"],
        "conversation_id": conversation_id,
        "chat_id": conversation_id,
        "message_id": said["message"]["id"],
        "number": 0,
        "session_id": claims.session_id,
        "key_id": (await api.key())["id"],
        "file_id": (await api.file())["id"],
        "user_id": claims.user_id,
    }
    return Account(
        api=stranger.with_token(tokens["access_token"]),
        root=root,
        database_url=database_url,
        ids=ids,
        claims=claims,
        token=tokens["access_token"],
        refresh_token=tokens["refresh_token"],
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    environ = {
        "DATABASE_URL": database_url,
        "SECRET_KEY": SECRET,
        "RATE_LIMIT_SIGN_IN": "off",
        "REFRESH_COOKIE": "true",
    }
    settings = settings_for(tmp_path_factory.mktemp("data"), **environ)
    model = ScriptedModel("Hello")
    async with api_of(settings, provided(LLMGateway, model)) as stranger:
        await stranger.register("zanzibar")  # the name that the table registers: it is taken
        root = await stranger.admin("root")
        accounts = {
            how: await how(await account_of(stranger, root, f"admin-{number}", database_url))
            for number, how in enumerate([*STORED, *(OF_ITSELF if database_url.startswith(KINDS[0]) else ())])
        }
        yield World(stranger, model, database_url, root, accounts)


# ---- the table -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", PRIVATE_HTTP, ids=" ".join)
async def test_it_opens_no_route(world: World, route: Route) -> None:
    before, calls = await world.everything(), len(world.model.calls)
    for kind, account in world.accounts.items():
        path = path_of(route, account.ids) + account.query
        answer = await world.stranger.call(route[0], path, body_of(route, account.ids["config_id"]), account.headers)
        assert answer.status == account.refusal[0], kind
        answer.problem(*account.refusal)
    assert (await world.everything(), len(world.model.calls)) == (before, calls)


@on_one
@pytest.mark.parametrize("route", [route for route in HTTP if route in PUBLIC], ids=" ".join)
async def test_what_anybody_may_ask_is_answered_as_without_it(world: World, route: Route) -> None:
    path, body = path_of(route, {}), body_of(route, 1)
    plain = await world.stranger.call(route[0], path, body)
    for number, (kind, account) in enumerate(world.accounts.items()):
        answer = await world.stranger.call(route[0], path + account.query, body, account.headers)
        assert answer.status == plain.status, kind
        assert f"admin-{number}" not in answer.body.decode(), kind


@pytest.mark.parametrize("by", ["frame", "protocol"])
@pytest.mark.parametrize("route", SOCKETS, ids=" ".join)
async def test_it_opens_no_socket(world: World, route: Route, by: str) -> None:
    before, calls = await world.everything(), len(world.model.calls)
    for kind, account in world.accounts.items():
        protocols = ["chatcore.v1", f"bearer.{account.token}"] if by == "protocol" and account.token else []
        where = path_of(route, account.ids).rpartition("/")[2] + account.query
        headers = {} if account.token else account.headers
        async with knocking(world.stranger, where, protocols=protocols, headers=headers) as socket:
            if not protocols:
                await socket.say("auth", token=account.token)
            await socket.connection.send_str((body_of(route, account.ids["config_id"]) or b"").decode())
            message = await socket.connection.receive()
            assert (message.type, message.data) == (WSMsgType.CLOSE, 4401), kind
    assert (await world.everything(), len(world.model.calls)) == (before, calls)


async def test_with_a_token_that_holds_each_of_these_requests_would_have_been_heard(world: World) -> None:
    """So that it is the token alone that the others fail for."""
    account = await account_of(world.stranger, world.root, "heard", world.database_url)
    for route in PRIVATE_HTTP:
        if route[0] != "DELETE" and not route[1].endswith(
            ("/delete", "/logout", "/password", "/revoke", "/disable", "/revoke-others")
        ):
            own = b'"message_id": ' + str(account.ids["message_id"]).encode()
            body = (body_of(route, account.ids["config_id"]) or b"").replace(b'"message_id": 1', own)
            answer = await account.api.call(route[0], path_of(route, account.ids), body)
            assert answer.status not in (401, 403, 404), (route, answer)


# ---- things that have gone -------------------------------------------------------------------------------

GONE = {
    "conversation_id": "/conversations/{conversation_id}/delete",
    "config_id": "/auth/config/{config_id}/delete",
    "user_id": "/admin/users/{user_id}/delete",
}
"""How each thing goes. A session stays to be seen, and to end it once more changes nothing."""


async def test_what_has_gone_is_not_there_on_any_route(world: World) -> None:
    """Use after free: for who had it, in a path and in a body."""
    account = await account_of(world.stranger, world.root, "freeing", world.database_url)
    somebody = (await world.stranger.register("freed"))["user"]["id"]
    ids = {**account.ids, "user_id": somebody}
    for thing, path in GONE.items():
        (await account.api.post(path_of(("POST", path), ids))).ok()
        routes = [route for route in PRIVATE_HTTP if f"{{{thing}}}" in route[1]]
        assert len(routes) > 2
        for route in routes:
            answer = await account.api.call(route[0], path_of(route, ids), body_of(route, 1))
            answer.problem(404, "not_found")
    own = {**ids, "conversation_id": await account.api.conversation()}
    for route in (route for route in PRIVATE_HTTP if body_of(route, 1) != body_of(route, 2)):
        answer = await account.api.call(route[0], path_of(route, own), body_of(route, ids["config_id"]))
        answer.problem(404, "not_found")
    async with knocking(account.api, ids["conversation_id"]) as socket:
        await socket.say("auth", token=account.token)
        assert await socket.close_code() == 4404
