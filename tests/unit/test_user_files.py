"""What is in a file of users."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from chatcore import ImportUsers
from chatcore_app import SettingsError
from chatcore_cli.user_files import UserFile
from unit.world import World

SHA256 = sha256(b"correct horse").hexdigest()

NONSENSE = {
    "too many values": b"username,password_hash\nada,x,y\n",
    "no UTF-8": b"username,password_hash\nad\xffa," + SHA256.encode() + b"\n",
    "NUL": b"username,password_hash\nad\0a," + SHA256.encode() + b"\n",
    "no name": b"username,password_hash\n," + SHA256.encode() + b"\n",
    "no time": b"username,password_hash,created_at\nada," + SHA256.encode() + b",yesterday\n",
    "neither true nor false": b"username,password_hash,is_active\nada," + SHA256.encode() + b",perhaps\n",
    "a quote that does not end": b'username,password_hash\n"ada,' + b"x" * 100_000,
    "a long line of JSON": b'{"username": "' + b"x" * 200_000 + b'"}\n',
    "deep JSON": b'{"username": ' + b"[" * 30_000 + b"\n",
    "half JSON": b'{"username": \n',
    "a number": b'{"username": 1, "password_hash": "x"}\n',
    "a role that is none": b'{"username": "ada", "password_hash": "' + SHA256.encode() + b'", "roles": [1]}\n',
}


@pytest.mark.parametrize("content", NONSENSE.values(), ids=NONSENSE)
async def test_a_row_that_makes_no_sense_is_refused_and_the_next_is_not(
    world: World, tmp_path: Path, content: bytes
) -> None:
    json_lines, unending = content.startswith(b"{"), content.endswith(b"x" * 1000)
    good = json.dumps({"username": "eve", "password_hash": SHA256}) if json_lines else f"eve,{SHA256}"
    file = tmp_path / "users"
    file.write_bytes(content if unending else content + good.encode() + b"\n")
    import_users = ImportUsers(unit_of_work=world.storage, passwords=world.passwords, clock=world.clock)
    with UserFile(file) as users:
        (imported,) = [imported async for imported in import_users(rows=users.rows())]
    assert (imported.added, imported.there_already, imported.refusals) == (int(not unending), 0, 1)
    assert imported.refused[0].line == (1 if json_lines else 2)
    assert SHA256 not in imported.refused[0].why


@pytest.mark.parametrize("content", [b"", b"name,hash\nada,x\n", b"\x00\x01\x02"])
def test_a_file_without_the_columns_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "users").write_bytes(content)
    with UserFile(tmp_path / "users") as users, pytest.raises(SettingsError, match="names no column"):
        list(users.rows())
