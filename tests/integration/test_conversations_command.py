"""`chatcore conversations import` as a person runs it."""

import json
from pathlib import Path

import pytest

from histories import SHOWN, TALKS, chatgpt_talk, raw, sharded
from integration.http_app import PASSWORD
from integration.processes import run, serving
from integration.test_import_command import url_of

pytestmark = pytest.mark.once

TALKS_OF_EACH = ["chatgpt", "chatgpt, the newer archive", "openwebui", "librechat"]


@pytest.mark.parametrize("name", TALKS_OF_EACH)
async def test_a_history_becomes_a_users(tmp_path: Path, database_url: str, name: str) -> None:
    url = url_of(database_url)
    async with serving(tmp_path, **url) as server:
        ada = await server.api.user()
        me = (await ada.get("/auth/me")).ok()
    file = tmp_path / "history"
    file.write_bytes(TALKS[name])
    ended = await run(tmp_path, "conversations", "import", str(file), "--user", me["username"], **url)
    assert ended.code == 0, ended
    told, summary = ended.stdout.splitlines()
    assert told.startswith("Paris: 7 messages")
    assert summary == "1 conversations with 7 messages imported, 0 refused."
    assert "Importing" in ended.stderr
    async with serving(tmp_path, **url) as server:
        api = server.api
        signed_in = (await api.post("/auth/login", {"username": me["username"], "password": PASSWORD})).ok()
        api.token = signed_in["access_token"]
        (conversation,) = (await api.get("/conversations")).ok()["items"]
        assert [message["content"] for message in await api.messages(conversation["id"])] == SHOWN


async def test_what_is_refused_is_told_and_so_is_a_name_that_nobody_has(tmp_path: Path) -> None:
    await run(tmp_path, "migrate")
    file = tmp_path / "history.zip"
    file.write_bytes(sharded([chatgpt_talk()], [{"title": "Corrupted\x1b[2J\u202e"}]))
    nobody = await run(tmp_path, "conversations", "import", str(file), "--user", "nobody")
    assert nobody.code == 1
    assert "Traceback" not in nobody.stderr
    users = tmp_path / "users.jsonl"
    users.write_text(json.dumps({"username": "ada", "password_hash": "0" * 64}))
    assert (await run(tmp_path, "users", "import", str(users))).code == 0
    ended = await run(tmp_path, "conversations", "import", str(file), "--user", "ada", "--format", "chatgpt")
    assert ended.code == 1
    assert "Corrupted?[2J?: refused: has no messages: mapping is no object" in ended.stderr
    assert ended.stdout.splitlines() == [
        "Paris: 7 messages (left out: 1 × empty message)",
        "1 conversations with 7 messages imported, 1 refused.",
    ]
    file.write_bytes(b"nonsense")
    none = await run(tmp_path, "conversations", "import", str(file), "--user", "ada")
    assert none.code == 1
    assert "must be a history in one of these formats" in none.stderr
    file.write_bytes(raw([]))
    assert (await run(tmp_path, "conversations", "import", str(file), "--user", "ada")).code == 0
