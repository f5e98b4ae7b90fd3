"""`chatcore users import` as a person runs it."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from integration.databases import execute
from integration.processes import run, serving

pytestmark = pytest.mark.once

PASSWORD = "correct horse battery"
SHA256 = sha256(PASSWORD.encode()).hexdigest()
BCRYPT = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()


def url_of(database_url: str) -> dict[str, str]:
    return {} if "sqlite" in database_url else {"DATABASE_URL": database_url}


@pytest.mark.parametrize("form", ["csv", "jsonl"])
async def test_users_are_imported_and_sign_in(tmp_path: Path, database_url: str, form: str) -> None:
    url = url_of(database_url)
    await run(tmp_path, "migrate", **url)
    rows = [
        {"username": "ada", "email": "ada@example.org", "password_hash": SHA256, "roles": "user admin", "job": "a, b"},
        {"username": "bob", "password_hash": BCRYPT, "is_active": "true", "created_at": "2025-12-06T09:30:00"},
        {"username": "小明同学", "password_hash": BCRYPT.replace("2b", "2y"), "is_active": "False"},
        {"username": "x", "password_hash": SHA256},
        {"username": "eve", "password_hash": "plain text"},
        {"username": "ada", "password_hash": SHA256},
        {"username": "Ada", "password_hash": SHA256},
    ]
    file = tmp_path / f"users.{form}"
    if form == "jsonl":
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    else:
        columns = ["username", "email", "password_hash", "roles", "is_active", "created_at", "job"]
        lines = [",".join(f'"{row.get(column, "")}"' for column in columns) for row in rows]
        file.write_text("\r\n".join([",".join(columns), *lines]), encoding="utf-8-sig")
    first = 1 if form == "jsonl" else 2
    ended = await run(tmp_path, "users", "import", str(file), "--batch", "2", **url)
    assert (ended.code, ended.stdout) == (1, "3 imported, 1 there already, 3 refused.\n"), ended
    assert f"line {first + 3}: refused: username: " in ended.stderr
    assert f"line {first + 4}: refused: password_hash: " in ended.stderr
    assert f"line {first + 5}: ada is there already" in ended.stderr
    assert f"line {first + 6}: refused: username: differs from ada" in ended.stderr
    for secret in (SHA256, BCRYPT, "plain text"):
        assert secret not in ended.stdout + ended.stderr
    async with serving(tmp_path, **url) as server:
        tokens: Any = None
        for name in ("ada", "bob"):
            for _ in range(2):
                tokens = (await server.api.post("/auth/login", {"username": name, "password": PASSWORD})).ok()
                assert tokens["user"]["username"] == name
        bob = (await server.api.post("/auth/login", {"username": "bob", "password": PASSWORD})).ok()["user"]
        assert bob["created_at"] == "2025-12-06T09:30:00Z"
        wrong = await server.api.post("/auth/login", {"username": "bob", "password": SHA256})
        wrong.problem(401, "invalid_credentials")
        off = await server.api.post("/auth/login", {"username": "小明同学", "password": PASSWORD})
        off.problem(403, "account_disabled")
        await server.stop()
    again = await run(tmp_path, "users", "import", str(file), **url)
    assert again.stdout == "0 imported, 4 there already, 3 refused.\n"
    if url:
        await execute(database_url, "DELETE FROM owners")


async def test_ten_thousand_users_are_imported(tmp_path: Path) -> None:
    file = tmp_path / "users.csv"
    file.write_text("username,password_hash\n" + "".join(f"user{number},{SHA256}\n" for number in range(10_000)))
    ended = await run(tmp_path, "users", "import", str(file))
    assert (ended.code, ended.stdout) == (0, "10000 imported, 0 there already, 0 refused.\n"), ended
    assert "Importing" in ended.stderr
    again = await run(tmp_path, "users", "import", str(file))
    assert (again.code, again.stdout) == (0, "0 imported, 10000 there already, 0 refused.\n")
    assert "and 9980 more who are there already" in again.stderr


async def test_a_file_without_the_columns_is_refused_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "users.csv"
    file.write_bytes(b"name,hash\nada,x\n")
    ended = await run(tmp_path, "users", "import", str(file))
    assert (ended.code, ended.stdout) == (1, "")
    assert "chatcore: the file's first line names no column password_hash and no column username" in ended.stderr
    assert "Traceback" not in ended.stderr
