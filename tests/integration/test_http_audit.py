"""The audit log over HTTP, on every database."""

import logging
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from structlog.contextvars import get_contextvars

from integration.databases import empty
from integration.http_app import PASSWORD, Answer, Api, api_of, settings_for
from integration.test_http_administration import id_of


@pytest.fixture
async def api(database_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    await empty(database_url)
    async with api_of(settings_for(tmp_path, DATABASE_URL=database_url)) as api:
        yield api


class Noted(logging.Handler):
    """What the audit log is told, and by which administrator."""

    def __init__(self) -> None:
        super().__init__()
        self.told = list[tuple[str, object]]()

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append((record.getMessage().split()[0], get_contextvars().get("by_user_id")))

    def taken(self) -> list[tuple[str, object]]:
        told, self.told = self.told, []
        return told


@pytest.fixture
def noted() -> Iterator[Noted]:
    log, noted = logging.getLogger("chatcore.audit"), Noted()
    level = log.level
    log.addHandler(noted)
    log.setLevel(logging.INFO)
    yield noted
    log.removeHandler(noted)
    log.setLevel(level)


async def test_the_log_says_which_administrator_it_was(api: Api, noted: Noted) -> None:
    root, ada = await api.admin("root"), await api.user("ada")
    by, path = await id_of(root), f"/admin/users/{await id_of(ada)}"
    noted.taken()
    for what in ("sessions/revoke", "disable", "enable", "delete"):
        (await root.post(f"{path}/{what}")).ok()
    await api.register("bob")
    done = ["sessions_revoked", "user_disabled", "user_enabled", "account_deleted"]
    assert noted.taken() == [*((each, by) for each in done), ("account_created", None)]


async def test_each_way_to_an_account_is_one_event(api: Api, noted: Noted) -> None:
    """Whichever system's route it is."""

    async def happened(answer: Awaitable[Answer]) -> tuple[int, list[str]]:
        status = (await answer).status
        return status, [name for name, _ in noted.taken()]

    async def token(password: str) -> Answer:
        form = urlencode({"username": "ada", "password": password}).encode()
        return await api.call("POST", "/v1/auth/token", form, {"Content-Type": "application/x-www-form-urlencoded"})

    account = {"username": "ada", "email": "ada@example.com", "password": PASSWORD}
    renamed = {"userid": "bob", "email": "bob@example.com", "password": PASSWORD}
    assert await happened(api.post("/v1/auth/register", account)) == (201, ["account_created"])
    assert await happened(api.post("/user/register", renamed)) == (201, ["account_created"])
    assert await happened(api.post("/user/register", renamed)) == (409, [])
    assert await happened(token(PASSWORD)) == (200, ["sign_in"])
    assert await happened(token("a wrong password")) == (401, ["sign_in_failed"])
    by_userid = {"userid": "bob", "password": PASSWORD}
    assert await happened(api.post("/auth/login", by_userid)) == (200, ["sign_in"])
    bob = await api.user("eve")
    noted.taken()
    assert await happened(bob.get("/auth/me/export")) == (200, ["data_exported"])
    lines = (await bob.get("/auth/me/export")).body
    noted.taken()
    assert await happened(bob.call("POST", "/conversations/import", lines)) == (200, [])
    await bob.conversation()
    lines = (await bob.get("/auth/me/export")).body
    noted.taken()
    assert await happened(bob.call("POST", "/conversations/import", lines)) == (200, ["data_imported"])
