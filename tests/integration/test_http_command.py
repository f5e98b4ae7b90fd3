"""The `chatcore` command as a person runs it: a process of its own, its output, its signals, its exit."""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from chatcore_cli import main
from chatcore_sql import Database
from integration.databases import SERVERS, execute, new_database, only_servers
from integration.http_app import EVENTS, Api, api_of, settings_for, text_of
from integration.model_server import STALL, Gate, ModelServer, chunk, plain, says, stream
from integration.processes import Ended, run, serving, several_serving


def check_sentence(ended: Ended, *parts: str) -> None:
    """One line that a person can act on, and a status that says that it failed."""
    assert ended.code == 1
    assert ended.stderr.startswith("chatcore: ")
    assert ended.stderr.count("\n") == 1
    for part in parts:
        assert part in ended.stderr


# ---- start and stop --------------------------------------------------------------------------------------


async def test_migrate_may_be_run_twice_in_any_folder(tmp_path: Path) -> None:
    for _ in range(2):
        assert await run(tmp_path, "migrate") == Ended(0, "The database is up to date.\n", "")
    assert {path.name for path in (tmp_path / "var").iterdir()} >= {"chatcore.db", "secrets.env"}


@pytest.fixture(params=SERVERS)
def server_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of an empty database, without tables."""
    with new_database(request.param, tmp_path) as url:
        yield url


async def test_of_two_that_migrate_at_once_one_waits(tmp_path: Path, server_url: str) -> None:
    ended = await asyncio.gather(*(run(tmp_path, "migrate", DATABASE_URL=server_url) for _ in range(2)))
    assert [(each.code, each.stdout) for each in ended] == [(0, "The database is up to date.\n")] * 2, ended
    assert len(await execute(server_url, "SELECT name FROM roles")) == 2


async def test_a_database_without_its_tables_is_not_served(tmp_path: Path, server_url: str) -> None:
    check_sentence(await run(tmp_path, "serve", DATABASE_URL=server_url, PORT="0"), "Run: chatcore migrate")
    assert (await run(tmp_path, "migrate", DATABASE_URL=server_url)).code == 0
    async with Database(server_url) as database:
        await database.downgrade("0001")
    check_sentence(await run(tmp_path, "serve", DATABASE_URL=server_url, PORT="0"), "Run: chatcore migrate")


async def test_serve_says_where_it_is_and_ends_when_told(tmp_path: Path) -> None:
    """A second process on its SQLite file is refused, and the next one finds what was stored."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    async with serving(tmp_path, APP_NAME="Parlour") as server:
        tokens = await server.api.register("ada")
        check_sentence(await run(elsewhere, "serve", DATA_DIR="../var", PORT="0"), "chatcore.db", "in use")
        assert (await server.api.get("/ready")).status == 200
        ended = await server.stop()
    assert ended.code == 0
    assert f"Parlour {version('chatcore')} is running" in ended.stdout
    assert f"{server.url}/docs" in ended.stdout
    assert f"curl -s {server.url}/auth/register" in ended.stdout
    assert "Traceback" not in ended.stderr
    assert "Warning" not in ended.stderr

    host, port = free_address()
    (elsewhere / ".env").write_text(f"HOST={host}\nPORT={port}\nDATA_DIR=../var")
    async with serving(elsewhere, PORT="") as server:
        assert server.url == (f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
        assert (await server.api.with_token(tokens["access_token"]).get("/auth/me")).ok() == tokens["user"]
        assert (await server.stop(signal.SIGINT)).code == 0


@only_servers
async def test_servers_on_one_database_are_one(database_url: str, tmp_path: Path) -> None:
    """What is done at one is known at the other at once, though one that is held or killed knows nothing."""
    async with several_serving(2, tmp_path, DATABASE_URL=database_url) as (one, other):
        ada = await one.api.user()
        ada_there = other.api.with_token(ada.token)
        path = f"/conversations/{await ada.conversation()}"
        one.send(signal.SIGSTOP)
        (await ada_there.get(path)).ok()
        (await ada_there.post(f"{path}/delete")).ok()
        one.send(signal.SIGCONT)
        (await ada.get(path)).problem(404, "not_found")
        (await ada.post("/auth/logout")).ok()
        (await ada_there.get("/auth/me")).problem(401, "unauthenticated")
        assert (await one.stop(signal.SIGKILL)).code == -signal.SIGKILL
        await other.api.user()
        assert (await other.stop()).code == 0


def free_address() -> tuple[str, int]:
    """Of IPv6, where there is any."""
    for family, host in ((socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")):
        with suppress(OSError), socket.socket(family) as free:
            free.bind((host, 0))
            return host, free.getsockname()[1]
    raise OSError("no loopback address")


async def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = await run(tmp_path, "serve", PORT=str(taken.getsockname()[1]))
    assert ended.code != 0
    assert "is taken: another program listens at 127.0.0.1" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("command", "environ", "part"),
    [
        ("serve", {"PORT": "http"}, "PORT: "),
        ("serve", {"ENVIRONMENT": "production"}, "SECRET_KEY "),
        ("serve", {"ENCRYPTION_KEYS": "geheim"}, "ENCRYPTION_KEYS: "),
        ("migrate", {"DATABASE_URL": "oracle://user:geheim@host/name"}, "DATABASE_URL: "),
        ("serve", {"DATABASE_URL": "geheim"}, "DATABASE_URL: "),
        ("migrate", {"DATABASE_URL": "sqlite:////no/such/folder/file.db"}, "/no/such/folder/file.db"),
        ("migrate", {"DATA_DIR": "file/folder"}, "DATA_DIR: "),
    ],
)
def test_settings_that_do_not_hold_are_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, environ: dict[str, str], part: str
) -> None:
    """In this process: what is handed to `sys.exit` goes to standard error, and the status is 1."""
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", environ)
    monkeypatch.setattr(sys, "argv", ["chatcore", command])
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with pytest.raises(SystemExit) as exited:
        main()
    sentence = exited.value.code
    assert isinstance(sentence, str)
    assert sentence.startswith("chatcore: ")
    assert part in sentence
    assert "geheim" not in sentence


# ---- the end, with replies in flight ---------------------------------------------------------------------


async def messages_of(folder: Path, database_url: str, conversation: int, token: str) -> list[Any]:
    """What the next process shows, once nothing is being written: on a server, a dead one's lease has run out then."""
    async with api_of(settings_for(folder / "var", DATABASE_URL=database_url)) as api, asyncio.timeout(30):
        while (messages := await api.with_token(token).messages(conversation))[-1]["status"] == "writing":
            await asyncio.sleep(0.2)
        return messages


async def test_a_stop_waits_for_replies_in_flight_whether_somebody_reads_them_or_not(
    database_url: str, tmp_path: Path
) -> None:
    gate = Gate()
    async with ModelServer() as model:
        model.always = stream(chunk("Hel"), gate, chunk("lo"), chunk(finish="stop"))
        async with serving(tmp_path, DATABASE_URL=database_url, OPENAI_BASE_URL=model.url) as server:
            ada = await server.api.user()
            assert ada.token
            read, unread = await ada.conversation(), await ada.conversation()
            async with ada.events(f"/conversations/{unread}/chat", {"content": "Hi"}, EVENTS) as events:
                await events.until("Hel")
            async with ada.events(f"/conversations/{read}/chat", {"content": "Hi"}, EVENTS) as events:
                await events.until("Hel")
                server.send(signal.SIGTERM)
                gate.open()
                rest = await events.rest()
            assert (await server.ended()).code == 0
    assert text_of(rest) == "lo"
    assert rest[-1].type == "reply.completed"
    assert (await messages_of(tmp_path, database_url, read, ada.token))[-1] == rest[-1].data["message"]
    reply = (await messages_of(tmp_path, database_url, unread, ada.token))[-1]
    assert (reply["content"], reply["status"]) == ("Hello", "complete")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_reply_that_is_cut_off_is_interrupted_with_its_text(
    database_url: str, tmp_path: Path, number: int
) -> None:
    """By the end of the grace, or by the end of the process: then with what had reached the log."""
    async with ModelServer() as model:
        model.script(stream(chunk("Hel"), STALL))
        environ = {"DATABASE_URL": database_url, "OPENAI_BASE_URL": model.url, "SHUTDOWN_GRACE": "0"}
        async with serving(tmp_path, **environ) as server:
            ada = await server.api.user()
            assert ada.token
            conversation = await ada.conversation()
            async with ada.events(f"/conversations/{conversation}/chat", {"content": "Hi"}, EVENTS) as events:
                await events.until("Hel")
            while not (await ada.messages(conversation))[-1]["content"]:
                pass  # until the log has it
            assert (await server.stop(number)).code == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    reply = (await messages_of(tmp_path, database_url, conversation, ada.token))[-1]
    assert (reply["content"], reply["status"]) == ("Hel", "interrupted")


# ---- what is logged --------------------------------------------------------------------------------------

LOGGED = {"event", "level", "logger", "timestamp", "request_id", "method", "path", "status", "ms", "address"}
SECRET_KEY, SEALING_KEY = "s" * 40, "kWb1p0S3yHqgM2xq0v6yCw8T9d3m5uX7nLr4oJ1aBcE="
SERVERS_KEY, USERS_KEY = "sk-servers-0123456789", "sk-users-0123456789"
RIGHT, WRONG, CUT = "right-horse-battery", "wrong-horse-battery", "cut-horse-battery"
QUESTION, ANSWER, REFUSAL = "what-is-asked", "what-is-said", "what-the-endpoint-says"


@pytest.mark.parametrize("form", ["json", "console"])
async def test_the_log_has_a_line_for_every_request_and_no_secret(tmp_path: Path, form: str) -> None:
    async with ModelServer() as model:
        model.script(says(ANSWER), plain(401, json.dumps({"error": {"message": REFUSAL}})))
        environ = {
            "LOG_FORMAT": form,
            "DEBUG": "true",
            "OPENAI_API_KEY": SERVERS_KEY,
            "OPENAI_BASE_URL": model.url,
            "SECRET_KEY": SECRET_KEY,
            "ENCRYPTION_KEYS": SEALING_KEY,
        }
        async with serving(tmp_path, **environ) as server:
            tokens = await talk(server.api, model.url)
            ended = await server.stop()
        sent = [request.headers["authorization"] for request in model.requests]
        assert sent == [f"Bearer {SERVERS_KEY}", f"Bearer {USERS_KEY}"]

    keys = [SECRET_KEY, SEALING_KEY, SERVERS_KEY, USERS_KEY]
    for secret in (*keys, RIGHT, WRONG, CUT, QUESTION, ANSWER, *tokens):
        assert secret not in ended.stdout + ended.stderr
    lines = [line for line in ended.stderr.splitlines() if "chatcore.request" in line]
    refused = "status=401" if form == "console" else '"status": 401'
    assert sum("/auth/login" in line and refused in line for line in lines) == 1
    assert sum("tried-1" in line for line in lines) == 1
    if form == "json":
        check_json_log(ended.stderr.splitlines())


def check_json_log(lines: list[str]) -> None:
    entries = [json.loads(line) for line in lines]
    requests = [entry for entry in entries if entry["logger"] == "chatcore.request"]
    for entry in requests:
        assert set(entry) == LOGGED
        assert (entry["event"], entry["level"], entry["address"]) == ("request", "info", "127.0.0.1")
    (tried,) = [entry for entry in requests if entry["request_id"] == "tried-1"]
    assert (tried["method"], tried["path"], tried["status"]) == ("GET", "/conversations/1", 200)


async def talk(api: Api, model_url: str) -> list[str]:
    """Sends every kind of secret, and returns those that came back."""
    first = await api.register("ada", RIGHT)
    (await api.post("/auth/login", {"username": "ada", "password": WRONG})).problem(401, "invalid_credentials")
    (await api.call("POST", "/auth/login", f'{{"password": "{CUT}'.encode())).problem(400, "validation_failed")
    (await api.post("/auth/login", {"password": [CUT]})).problem(400, "validation_failed", "password")
    second = (await api.post("/auth/refresh", {"refresh_token": first["refresh_token"]})).ok()
    ada = api.with_token(second["access_token"])
    conversation = await ada.conversation()
    for status in (200, 502):
        answer = await ada.post(f"/conversations/{conversation}/chat", {"content": QUESTION})
        assert answer.status == status, answer
        config = {"model_url": model_url, "model_name": "own", "api_key": USERS_KEY}
        (await ada.post("/auth/config/create", config)).ok(201)
    (await ada.get(f"/conversations/{conversation}?q={QUESTION}", {"X-Request-ID": "tried-1"})).ok()
    (await ada.post(f"/auth/logout?refresh_token={second['refresh_token']}")).ok()
    (await ada.get("/auth/me")).problem(401, "unauthenticated")
    return [tokens[name] for tokens in (first, second) for name in ("access_token", "refresh_token")]
