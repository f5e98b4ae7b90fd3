"""`chatcore keys` and `chatcore users` as a person runs them."""

from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from integration.databases import execute
from integration.processes import Ended, run, serving

pytestmark = pytest.mark.once

PASSWORD = "correct horse battery"
CONFIG = {"model_url": "http://127.0.0.1:9/v1", "model_name": "own", "api_key": "sk-0123456789ab"}


# ---- keys ------------------------------------------------------------------------------------------------


async def test_a_generated_key_is_one_and_another_each_time(tmp_path: Path) -> None:
    ended = [await run(tmp_path, "keys", "generate") for _ in range(2)]
    assert ended[0].stdout != ended[1].stdout
    for each in ended:
        assert (each.code, each.stderr) == (0, "")
        Fernet(each.stdout.removesuffix("\n"))
    assert list(tmp_path.iterdir()) == [], "it needs no settings and leaves nothing"


@pytest.mark.parametrize("newest", [True, False], ids=["with the old key", "without it"])
async def test_keys_are_rotated(tmp_path: Path, newest: bool, database_url: str) -> None:
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    url = {"DATABASE_URL": database_url} if "sqlite" not in database_url else {}
    await run(tmp_path, "migrate", ENCRYPTION_KEYS=old, **url)
    if url:
        await execute(database_url, "DELETE FROM model_configs")
    async with serving(tmp_path, ENCRYPTION_KEYS=old, **url) as server:
        ada = await server.api.user()
        for _ in range(5):
            (await ada.post("/auth/config/create", CONFIG)).ok(201)
        assert (await server.api.get("/ready")).ok() == {"status": "ready", "old_keys": 0}
        await server.stop()
    both = f"{new},{old}" if newest else new
    async with serving(tmp_path, ENCRYPTION_KEYS=both, **url) as server:
        assert (await server.api.get("/ready")).ok() == {"status": "ready", "old_keys": 5}
        if not url:  # a file of SQLite's serves one process
            await server.stop()
        ended = await run(tmp_path, "keys", "rotate", "--batch", "2", ENCRYPTION_KEYS=both, **url)
        if url:
            assert (await server.api.get("/ready")).ok()["old_keys"] == (0 if newest else 5)
            await server.stop()
    if newest:
        assert (ended.code, ended.stdout) == (0, "5 API keys were sealed again; 0 are left on old keys.\n"), ended
        again = await run(tmp_path, "keys", "rotate", ENCRYPTION_KEYS=new, **url)
        assert again == Ended(0, "0 API keys were sealed again; 0 are left on old keys.\n", "")
    else:
        assert ended.code == 1
        assert "5 API keys open with none of ENCRYPTION_KEYS" in ended.stderr
    assert old not in ended.stdout + ended.stderr
    assert new not in ended.stdout + ended.stderr


# ---- users -----------------------------------------------------------------------------------------------


async def test_an_administrator_is_made_and_made_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.api.register("ada")
        await server.stop()
    made = await run(tmp_path, "users", "create-admin", "root", "--email", "root@example.org", said=f"{PASSWORD}\n")
    assert made == Ended(0, "root is an administrator: a new account.\n", "")
    for name in ("root", "ROOT", "ada"):
        again = await run(tmp_path, "users", "create-admin", name, said="")
        assert again.code == 0, again
        assert (
            again.stdout
            == f"{name.lower()} is an administrator: an account that was there, with its password as it was.\n"
        )
    async with serving(tmp_path) as server:
        tokens = (await server.api.post("/auth/login", {"email": "root@example.org", "password": PASSWORD})).ok()
        users = (await server.api.with_token(tokens["access_token"]).get("/admin/users")).ok()["items"]
        assert {user["username"]: user["roles"] for user in users} == {
            "ada": ["admin", "user"],
            "root": ["admin", "user"],
        }
        await server.stop()


@pytest.mark.parametrize("password", ["", "short\n"])
async def test_a_password_that_will_not_do_is_said(tmp_path: Path, password: str) -> None:
    ended = await run(tmp_path, "users", "create-admin", "root", said=password)
    assert ended.code == 1
    assert ended.stderr == "chatcore: password: must be 8 to 1024 characters\n"


async def test_users_are_administered_by_command(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        for name in ("ada", "bob"):
            await server.api.register(name)
        await server.stop()

    async def done(*arguments: str) -> str:
        ended = await run(tmp_path, "users", *arguments)
        assert (ended.code, ended.stderr) == (0, ""), ended
        return ended.stdout

    assert await done("list") == "2\tbob\t\tuser\tactive\n1\tada\t\tuser\tactive\n"
    assert await done("list", "--q", "AD") == "1\tada\t\tuser\tactive\n"
    assert len((await done("sessions", "ADA")).splitlines()) == 1
    assert await done("grant", "ada", "admin") == "ada has the roles: admin, user.\n"
    assert await done("disable", "bob") == "bob is disabled, and all their sessions have ended.\n"
    assert "2\tbob\t\tuser\tdisabled" in await done("list")
    assert (await done("sessions", "bob")).split("\t")[1] != ""
    assert await done("enable", "bob") == "bob is enabled.\n"
    assert await done("delete", "bob", "--yes") == "bob is deleted.\n"
    assert await done("list") == "1\tada\t\tadmin user\tactive\n"
    for arguments in (("disable", "ada"), ("revoke", "ada", "admin"), ("delete", "ada", "--yes")):
        ended = await run(tmp_path, "users", *arguments)
        assert (ended.code, ended.stdout) == (1, "")
        assert ended.stderr == "chatcore: This is the last active administrator. Make another one first.\n"
    ended = await run(tmp_path, "users", "disable", "nobody")
    assert (ended.code, ended.stderr) == (1, "chatcore: There is no such user.\n")


@pytest.mark.parametrize("answer", ["", "n\n", "y\n"])
async def test_a_deletion_asks_first(tmp_path: Path, answer: str) -> None:
    await run(tmp_path, "users", "create-admin", "root", said=f"{PASSWORD}\n")
    await run(tmp_path, "users", "create-admin", "ada", said=f"{PASSWORD}\n")
    ended = await run(tmp_path, "users", "delete", "ada", said=answer)
    assert ended.code == (0 if answer == "y\n" else 1)
    assert "Delete ada" in ended.stderr
    assert ("ada" in (await run(tmp_path, "users", "list")).stdout) is (answer != "y\n")


async def test_a_password_is_no_argument(tmp_path: Path) -> None:
    for arguments in (("root", PASSWORD), ("root", "--password", PASSWORD)):
        assert (await run(tmp_path, "users", "create-admin", *arguments)).code == 2
