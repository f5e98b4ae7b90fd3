"""/admin over HTTP, on every database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chatcore.ports import LLMGateway
from chatcore_memory import ScriptedModel
from integration.databases import empty, on_one
from integration.http_app import PASSWORD, USER, Api, api_of, check_shape, provided, settings_for


@pytest.fixture
async def api(database_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    await empty(database_url)
    settings = settings_for(tmp_path, DATABASE_URL=database_url)
    async with api_of(settings, provided(LLMGateway, ScriptedModel("Hello"))) as api:
        yield api


async def id_of(user: Api) -> int:
    return int((await user.get("/auth/me")).ok()["id"])


async def test_an_administrator_sees_and_changes_users(api: Api) -> None:
    root, ada = await api.admin("root"), await api.user("ada")
    path = f"/admin/users/{await id_of(ada)}"
    page = (await root.get("/admin/users?limit=1")).ok()
    assert set(page) == {"items", "has_more", "next_cursor", "limit"}
    check_shape(page["items"][0], USER)
    rest = (await root.get(f"/admin/users?cursor={page['next_cursor']}")).ok()
    assert [user["username"] for user in page["items"] + rest["items"]][:2] == ["ada", "root"]
    assert (rest["has_more"], rest["next_cursor"]) == (False, None)
    found = (await root.get("/admin/users?q=ADA&cursor=")).ok()["items"]
    assert [user["username"] for user in found] == ["ada"]
    (session,) = (await root.get(f"{path}/sessions")).ok()["items"]
    assert session["current"] is False

    assert (await root.post(f"{path}/disable")).ok()["is_active"] is False
    (await ada.get("/auth/me")).problem(401, "unauthenticated")
    (await api.post("/auth/login", {"username": "ada", "password": PASSWORD})).problem(403, "account_disabled")
    assert (await root.post(f"{path}/enable")).ok()["is_active"] is True
    (await ada.get("/auth/me")).problem(401, "unauthenticated")
    tokens = (await api.post("/auth/login", {"username": "ada", "password": PASSWORD})).ok()
    ada = api.with_token(tokens["access_token"])
    assert "message" in (await root.post(f"{path}/sessions/revoke")).ok()
    (await ada.get("/auth/me")).problem(401, "unauthenticated")
    assert "message" in (await root.post(f"{path}/delete")).ok()
    (await root.post(f"{path}/delete")).problem(404, "not_found")
    (await api.post("/auth/login", {"username": "ada", "password": PASSWORD})).problem(401, "invalid_credentials")


async def test_the_roles_say_what_they_are_for(api: Api) -> None:
    root, ada = await api.admin("root"), await api.user("ada")
    assert (await root.get("/admin/roles")).ok() == {
        "items": [
            {"name": "admin", "description": "Administers all accounts."},
            {"name": "user", "description": "Holds conversations of their own."},
        ],
        "has_more": False,
    }
    (await ada.get("/admin/roles")).problem(403, "forbidden")


async def test_a_role_holds_at_once_both_ways(api: Api) -> None:
    root, ada = await api.admin("root"), await api.user("ada")
    ada_path, root_path = f"/admin/users/{await id_of(ada)}", f"/admin/users/{await id_of(root)}"
    (await ada.get("/admin/users")).problem(403, "forbidden")
    assert (await root.post(f"{ada_path}/roles/grant", {"role": "admin"})).ok()["roles"] == ["admin", "user"]
    (await ada.get("/admin/users")).ok()
    assert (await ada.post(f"{root_path}/roles/revoke", {"role": "admin"})).ok()["roles"] == ["user"]
    (await root.get("/admin/users")).problem(403, "forbidden")
    for last in ("roles/revoke", "disable", "delete"):
        (await ada.post(f"{ada_path}/{last}", {"role": "admin"})).problem(409, "last_admin")
    (await ada.post("/auth/me/delete")).problem(409, "last_admin")
    (await ada.post(f"{ada_path}/roles/grant", {"role": "emperor"})).problem(400, "validation_failed", "role")
    (await ada.post(f"{ada_path}/roles/grant")).problem(400, "validation_failed", "body")


@on_one
@pytest.mark.parametrize("bad", ["limit=0", "limit=101", "cursor=x", "cursor=-1", "q=%00", f"q={'x' * 255}"])
async def test_a_bad_page_is_named(api: Api, bad: str) -> None:
    (await (await api.admin()).get(f"/admin/users?{bad}")).problem(400, "validation_failed", bad.partition("=")[0])


async def test_a_cursor_beyond_all_users_is_an_empty_page_or_the_first(api: Api) -> None:
    root = await api.admin()
    for cursor in ("0", "1", "9" * 19):
        assert (await root.get(f"/admin/users?cursor={cursor}")).status == 200
