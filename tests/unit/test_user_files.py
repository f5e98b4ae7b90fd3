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


# ---- as spreadsheets write them --------------------------------------------------------------------------


def spreadsheet(delimiter: str) -> str:
    header = ["username", "password_hash", "email", "user_name"]
    rows = [header, ["ada", SHA256, "ada@example.org", '"Ada, Countess"'], ["小明同学", SHA256, "", ""]]
    return "".join(delimiter.join(row) + "\r\n" for row in rows)


SPREADSHEETS = {
    "commas": spreadsheet(",").encode(),
    "semicolons": spreadsheet(";").encode(),
    "tabs": spreadsheet("\t").encode(),
    "bars": spreadsheet("|").encode(),
    "a byte order mark": spreadsheet(";").encode("utf-8-sig"),
    "UTF-16, as Unicode Text": spreadsheet("\t").encode("utf-16"),
    "UTF-16, the other way round": b"\xfe\xff" + spreadsheet(",").encode("utf-16-be"),
    "UTF-16 without a mark": spreadsheet(";").encode("utf-16-le"),
    "blanks after commas": spreadsheet(", ").encode(),
    "blanks around them": spreadsheet(" , ").encode(),
    "a line that tells the separator": b"sep=;\r\n" + spreadsheet(";").encode(),
    "a list in JSON": json.dumps(
        [
            {"username": "ada", "password_hash": SHA256, "email": "ada@example.org", "user_name": "Ada, Countess"},
            {"username": "小明同学", "password_hash": SHA256},
        ],
        indent=2,
    ).encode(),
    "a list in JSON on one line, with a mark": b"\xef\xbb\xbf"
    + json.dumps(
        [
            {"username": "ada", "password_hash": SHA256, "email": "ada@example.org", "user_name": "Ada, Countess"},
            {"username": "小明同学", "password_hash": SHA256},
        ],
        ensure_ascii=False,
    ).encode(),
}


@pytest.mark.parametrize("content", SPREADSHEETS.values(), ids=SPREADSHEETS)
def test_what_spreadsheets_and_programs_write_is_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "users").write_bytes(content)
    with UserFile(tmp_path / "users") as file:
        rows = list(file.rows())
    users = [row.user for row in rows]
    assert [user if isinstance(user, str) else user.username for user in users] == ["ada", "小明同学"]
    ada, other = users
    assert not isinstance(ada, str)
    assert not isinstance(other, str)
    assert (ada.email, ada.password_hash, ada.profile.user_name) == ("ada@example.org", SHA256, "Ada, Countess")
    assert (other.email, other.profile.user_name) == (None, None)
    first = rows[0].line
    assert [row.line for row in rows] == [first, first + 1]
    assert first == {b"s": 3 if content.startswith(b"sep") else 2}.get(content[:1], 1 if b"[" in content[:4] else 2)


@pytest.mark.parametrize("content", [b'[{"username": "ada"', b"[1, 2", b"[nonsense]"])
def test_a_list_that_is_cut_off_or_none_is_refused_where_it_ends(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "users").write_bytes(content)
    with UserFile(tmp_path / "users") as file:
        rows = list(file.rows())
    assert all(isinstance(row.user, str) for row in rows)
    assert "is no JSON" in str(rows[-1].user)


def test_an_element_that_is_no_user_is_refused_and_the_next_is_not(tmp_path: Path) -> None:
    users = [{"username": "ada", "password_hash": "x" * 200_000}, 5, {"username": "eve", "password_hash": SHA256}]
    (tmp_path / "users").write_text(json.dumps(users))
    with UserFile(tmp_path / "users") as file:
        long, number, eve = [row.user for row in file.rows()]
    assert isinstance(long, str)
    assert number == "is no JSON object"
    assert not isinstance(eve, str)
    assert eve.username == "eve"
