"""Each of examples/, in a process of its own, under a real server."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from aiohttp import ClientConnectionError, ClientResponse, ClientSession, ClientTimeout

from integration.test_examples import free_port

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SERVER = Path(__file__).with_name("embedding_server.py")
SAID = "You asked: “Why?” I am the demo model"

UVICORN = ("uvicorn", "--port", "{port}", "--log-level", "warning")
HYPERCORN = ("hypercorn", "--workers", "0", "--bind", "127.0.0.1:{port}")

ASKED = [
    ("fastapi_app:app", UVICORN),
    ("starlette_app:app", UVICORN),
    ("litestar_plugin:app", UVICORN),
    ("django_app:application", UVICORN),
    ("quart_app:app", HYPERCORN),
    ("flask_app", ("flask", "--app", "flask_app", "run", "--port", "{port}")),
]
ROUTED = [
    *((example, server, "") for example, server in ASKED[1:]),
    ("mounted:app", UVICORN, "/tools/chat"),
    ("own_identity:app", UVICORN, "/tools/chat"),
]
STOPPED = [
    ("fastapi_app:app", UVICORN, "/ask"),
    ("fastapi_app:app", HYPERCORN, "/ask"),
    ("starlette_app:app", UVICORN, "/ask"),
    ("litestar_plugin:app", UVICORN, "/ask"),
    ("django_app:application", UVICORN, "/ask"),
    ("quart_app:app", HYPERCORN, "/ask"),
    ("flask_app", ("integration.flask_server", "{port}"), "/ask"),
    ("mounted:app", UVICORN, "/tools/chat/conversations/{id}/chat"),
    ("mounted:app", HYPERCORN, "/tools/chat/conversations/{id}/chat"),
    ("own_identity:app", UVICORN, "/tools/chat/conversations/{id}/chat"),
    ("own_identity:app", HYPERCORN, "/tools/chat/conversations/{id}/chat"),
]


@asynccontextmanager
async def served(
    folder: Path, example: str, server: tuple[str, ...], *, pause: float = 0.001
) -> AsyncGenerator[tuple[ClientSession, "subprocess.Popen[bytes]"], None]:
    """A client that is alice, and the server's process."""
    port = free_port()
    arguments = [each.format(port=port) for each in server]
    command = [sys.executable, str(SERVER), *arguments, *([] if example == "flask_app" else [example])]
    environ = {
        **os.environ,
        "PYTHONPATH": f"{EXAMPLES}{os.pathsep}{ROOT / 'tests'}",
        "PAUSE": str(pause),
        "DATABASE_URL": "",
    }
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log)
    try:
        await listening(process, port, folder)
        async with ClientSession(
            f"http://127.0.0.1:{port}", headers={"X-User": "alice"}, timeout=ClientTimeout(total=40)
        ) as client:
            yield client, process
    finally:
        process.kill()
        process.wait()
        print((folder / "log").read_text())  # shown if the test has failed


async def listening(process: "subprocess.Popen[bytes]", port: int, folder: Path) -> None:
    for _ in range(300):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            assert process.poll() is None, (folder / "log").read_text()
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise TimeoutError


def events_in(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in re.findall(r"^data: (.*)$", text, re.MULTILINE)]


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(event["text"] for event in events if event["type"] == "reply.delta")


async def read_until(response: ClientResponse, said: bytes) -> str:
    read = b""
    while said not in read:
        piece = await response.content.readany()
        assert piece, read
        read += piece
    return read.decode()


def check_stream(response: ClientResponse) -> None:
    assert response.status == 200
    assert response.content_type == "text/event-stream"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(("name", "most"), [("plain", 13), ("fastapi_app", 21)])
def test_how_many_lines_it_takes(name: str, most: int) -> None:
    code = (EXAMPLES / f"{name}.py").read_text().split('"""', 2)[2]
    assert len([line for line in code.splitlines() if line.strip()]) <= most


@pytest.mark.parametrize("name", ["fastapi", "starlette", "litestar", "django", "flask", "quart"])
def test_a_frameworks_module_has_at_most_60_lines(name: str) -> None:
    assert len((ROOT / f"src/entrypoints/chatcore_{name}/__init__.py").read_text().splitlines()) <= 60


def test_every_example_is_run_here() -> None:
    run = {example.partition(":")[0] for example in (*(each[0] for each in ASKED), *(each[0] for each in ROUTED))}
    assert {path.stem for path in EXAMPLES.glob("*.py")} >= run | {"plain"}


def test_a_plain_program(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "plain.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "You asked: “Why is the sky blue?”" in done.stdout


@pytest.mark.parametrize(("example", "server"), ASKED)
async def test_a_reply_is_streamed_to_its_end(tmp_path: Path, example: str, server: tuple[str, ...]) -> None:
    async with served(tmp_path, example, server) as (client, _):
        async with client.post("/ask", json={"content": "Why?"}) as response:
            check_stream(response)
            events = events_in(await response.text())
        assert events[0]["type"] == "reply.started"
        assert events[-1]["type"] == "reply.completed"
        assert SAID in text_of(events)
        async with client.post("/ask", json={"content": ""}) as refused:
            assert (refused.status, refused.content_type) == (400, "application/problem+json")
            assert (await refused.json(content_type=None))["code"] == "validation_failed"


async def test_fastapi_resumes_and_stops(tmp_path: Path) -> None:
    async with served(tmp_path, "fastapi_app:app", UVICORN, pause=0.1) as (client, _):
        async with client.post("/ask", json={"content": "Why?"}) as response:
            before = events_in((await read_until(response, b"asked")).rpartition("\n\n")[0])
        last, conversation = before[-1], before[0]["conversation_id"]
        place = {"Last-Event-ID": f"{last['reply_id']}:{last['offset']}"}
        async with client.get(f"/replies/{conversation}", headers=place) as response:
            check_stream(response)
            after = await read_until(response, b"demo ")
            async with client.post(f"/replies/{conversation}/stop") as stopped:
                content = (await stopped.json())["content"]
            events = events_in(after + await response.text())
        assert events[-1]["type"] == "reply.stopped"
        assert text_of(before) + text_of(events) == content
        async with client.get(
            f"/replies/{conversation}", headers={"Last-Event-ID": f"{last['reply_id']}:{events[-1]['offset']}"}
        ) as response:
            assert (response.status, await response.text()) == (204, "")
        async with client.get(f"/replies/{conversation}", headers={"X-User": "bob"}) as refused:
            assert (refused.status, refused.content_type) == (404, "application/problem+json")


@pytest.mark.parametrize(("example", "server", "prefix"), ROUTED)
async def test_the_conversation_routes(tmp_path: Path, example: str, server: tuple[str, ...], prefix: str) -> None:
    async with served(tmp_path, example, server) as (client, _):
        here = f"{prefix}/conversations"
        async with client.post(f"{here}/create", json={"title": "Mine"}) as response:
            assert response.status == 201
            conversation = (await response.json())["id"]
        async with client.post(f"{here}/{conversation}/chat", json={"content": "Why?"}) as response:
            assert response.status == 200, await response.text()
            reply = (await response.json())["reply"]
        assert SAID in reply["content"]
        async with client.get(here) as response:
            assert [each["title"] for each in (await response.json())["items"]] == ["Mine"]
        async with client.get(f"{here}/{conversation}/reply", params={"after": 5}) as response:
            check_stream(response)
            assert text_of(events_in(await response.text())) == reply["content"][5:]
        ended = {"Last-Event-ID": f"{reply['id']}:{len(reply['content'])}"}
        async with client.get(f"{here}/{conversation}/reply", headers=ended) as response:
            assert response.status == 204
        async with client.get(f"{here}/search", params={"q": "why"}) as response:
            assert {hit["conversation"]["id"] for hit in (await response.json())["items"]} == {conversation}
        async with client.get(f"{here}/{conversation}", headers={"X-User": "bob"}) as response:
            assert (response.status, response.content_type) == (404, "application/problem+json")
        async with ClientSession() as stranger, stranger.get(response.url) as response:
            assert (response.status, response.content_type) == (401, "application/problem+json")


@pytest.mark.parametrize(("example", "server", "where"), STOPPED)
async def test_readers_are_told_at_sigterm_and_the_reply_is_written_to_its_end(
    tmp_path: Path, example: str, server: tuple[str, ...], where: str
) -> None:
    async with served(tmp_path, example, server, pause=0.06) as (client, process):
        if "{id}" in where:
            async with client.post(f"{where.partition('/{id}')[0]}/create") as response:
                where = where.format(id=(await response.json())["id"])
        async with client.post(where, json={"content": "Why?"}, headers={"Accept": "text/event-stream"}) as response:
            check_stream(response)
            await read_until(response, b"asked")
            process.send_signal(signal.SIGTERM)
            begun = monotonic()
            with_end = ""
            try:
                with_end = await response.text()
            except ClientConnectionError:
                pytest.fail("The connection was dropped.")
            assert monotonic() - begun < 2, "readers are told at once"
            assert with_end.endswith("this server shuts down; read on elsewhere\n\n"), with_end
        while process.poll() is None:
            assert monotonic() - begun < 20
            await asyncio.sleep(0.05)
    assert stored(tmp_path) == "complete"


def stored(folder: Path) -> str:
    """The status of the only reply in the database."""
    import sqlite3

    (path,) = [*folder.glob("*.db"), *folder.glob("var/*.db")]
    with sqlite3.connect(path) as database:
        (status,) = database.execute("SELECT status FROM messages WHERE role = 'assistant'").fetchone()
    database.close()
    return str(status)
