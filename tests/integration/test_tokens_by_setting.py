"""How long tokens live and with what they are derived, as the documents of systems A and D set it; and who may pass a
guard."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from litestar import get

from chatcore import CreateAdmin, ExpirySweep, SessionPolicy
from chatcore.ports import Clock, PasswordHasher
from chatcore_app import SettingsError, make_container
from chatcore_http import create_app
from chatcore_http.routing import private_router
from chatcore_memory import HandClock, PlainPasswords
from integration.databases import empty
from integration.http_app import Api, api_of, client_of, provided, serving, settings_for

MINUTE, DAY = 60, 86_400
THIRTY_DAYS = {"ACCESS_TOKEN_EXPIRE_MINUTES": "43200"}
SHORT = {"SESSION_EXPIRE_DAYS": "1", "REFRESH_TOKEN_EXPIRE_DAYS": "1"}


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(params=[{}, SHORT], ids=["as it is", "sessions of a day"])
async def system_a(
    request: pytest.FixtureRequest, database_url: str, tmp_path: Path, clock: HandClock
) -> AsyncIterator[Api]:
    await empty(database_url)
    settings = settings_for(tmp_path, DATABASE_URL=database_url, **THIRTY_DAYS, **request.param)
    async with api_of(settings, provided(Clock, clock)) as api:
        yield api


async def test_a_token_of_thirty_days_is_good_for_thirty_days(system_a: Api, clock: HandClock) -> None:
    tokens = await system_a.register("ada")
    assert tokens["expires_in"] == 30 * DAY
    assert system_a.container
    sweep = await system_a.container.get(ExpirySweep)
    ada = system_a.with_token(tokens["access_token"])
    for _ in range(29):
        clock.advance(DAY)
        await sweep.sweep()
        (await ada.get("/auth/me")).ok()
    clock.advance(DAY - 1)
    (await ada.get("/auth/me")).ok()
    clock.advance(1)
    (await ada.get("/auth/me")).problem(401, "unauthenticated")


async def test_it_ends_with_its_session_all_the_same(system_a: Api, clock: HandClock) -> None:
    ada = await system_a.user("ada")
    clock.advance(29 * DAY)
    (await ada.post("/auth/logout")).ok()
    (await ada.get("/auth/me")).problem(401, "unauthenticated")


async def test_a_token_of_fifteen_minutes_is_good_for_fifteen_minutes(
    database_url: str, tmp_path: Path, clock: HandClock
) -> None:
    await empty(database_url)
    settings = settings_for(tmp_path, DATABASE_URL=database_url, ACCESS_TOKEN_EXPIRE_MINUTES="15")
    async with api_of(settings, provided(Clock, clock)) as api:
        tokens = await api.register("ada")
        ada = api.with_token(tokens["access_token"])
        clock.advance(15 * MINUTE - 1)
        (await ada.get("/auth/me")).ok()
        clock.advance(1)
        (await ada.get("/auth/me")).problem(401, "unauthenticated")
        again = (await api.post("/auth/refresh", {"refresh_token": tokens["refresh_token"]})).ok()
        assert again["expires_in"] == 15 * MINUTE
        (await api.with_token(again["access_token"]).get("/auth/me")).ok()


# ---- secrets ---------------------------------------------------------------------------------------------


async def policy_of(folder: Path, **environ: str) -> SessionPolicy:
    container = make_container(settings_for(folder, **environ))
    policy = await container.get(SessionPolicy)
    await container.close()
    return policy


async def test_the_refresh_secret_is_its_own_or_follows_from_the_signing_secret(tmp_path: Path) -> None:
    one, other = {"SECRET_KEY": "one" * 11}, {"SECRET_KEY": "other" * 7}
    own = {"REFRESH_SECRET_KEY": "your-refresh-secret-key-at-least-32-characters-long"}
    for environ in (one, other):
        policy = await policy_of(tmp_path, **environ, **own)
        assert policy.refresh_secret == own["REFRESH_SECRET_KEY"].encode()
    derived = [(await policy_of(tmp_path, **environ)).refresh_secret for environ in (one, one, other)]
    assert derived[0] == derived[1] != derived[2]
    assert len(derived[0]) == 32
    assert derived[0] != one["SECRET_KEY"].encode()
    assert (await policy_of(tmp_path, **one, **THIRTY_DAYS)).access_ttl == timedelta(days=30)


@pytest.mark.parametrize("name", ["SECRET_KEY", "JWT_SECRET_KEY"])
def test_a_signing_secret_of_less_than_32_characters_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=r"^SECRET_KEY must have at least 32 characters\. Make one: openssl rand"):
        settings_for(tmp_path, **{name: "s" * 31})
    assert settings_for(tmp_path, **{name: "s" * 32}).secret_key == "s" * 32


# ---- require_role ----------------------------------------------------------------------------------------


@get("/")
async def report() -> dict[str, str]:
    """For who has the role, whatever it is."""
    return {"report": "all is well"}


@pytest.mark.parametrize(("role", "passes"), [("user", "ada"), ("admin", "root"), ("auditor", None)])
async def test_a_role_guards_any_route(database_url: str, tmp_path: Path, role: str, passes: str | None) -> None:
    await empty(database_url)
    settings = settings_for(tmp_path, DATABASE_URL=database_url)
    app = create_app(settings, provided(PasswordHasher, PlainPasswords()))
    app.register(private_router("/reports", [report], tag="reports", role=role))
    async with serving(app) as url, client_of(url) as api:
        users = {name: await api.user(name) for name in ("ada", "root")}
        create = await app.state.dishka_container.get(CreateAdmin)
        await create.promote(name="root")
        (await api.get("/reports")).problem(401, "unauthenticated")
        root_id = (await users["root"].get("/auth/me")).ok()["id"]
        (await users["root"].post(f"/admin/users/{root_id}/roles/revoke", {"role": "user"})).ok()
        for name, user in users.items():
            answer = await user.get("/reports")
            if name == passes:
                assert answer.ok() == {"report": "all is well"}
            else:
                answer.problem(403, "forbidden")
