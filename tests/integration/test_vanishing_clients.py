"""A thousand clients that are gone from one moment to the next leave nothing behind in the server's process."""

import asyncio
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from integration.http_app import Api
from integration.model_server import CUT, DONE, Gate, ModelServer, chunk, stream
from integration.processes import Server, serving

REPLIES = 60
READERS = 14  # of each reply, beside the one who sent the question
SOCKETS = 100
CLIENTS = REPLIES * (1 + READERS) + SOCKETS
WITHIN = 30  # seconds from the replies' end
FEW = 60  # open files: those of the database and its readers' threads, and what is a process's own
REST = "lo" * 20_000

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what a process has open is read from /proc")

COUNT_ON_SIGNAL = """
import asyncio, gc, os, pathlib, signal

def count(*_):
    gc.collect()
    objects = gc.get_objects()
    tasks = sum(isinstance(it, asyncio.Task) and not it.done() for it in objects)
    new = pathlib.Path("counted.new")
    new.write_text(f"{len(objects)} {tasks}")
    new.rename("counted")

signal.signal(signal.SIGUSR1, count)
"""
"""What every Python imports that finds it on its path: the server tells, and is the one that is shipped."""


@dataclass(frozen=True)
class Load:
    files: int
    tasks: int
    objects: int
    memory: int
    """Bytes."""


class Process:
    def __init__(self, server: Server, folder: Path) -> None:
        self._proc = Path(f"/proc/{server.pid}")
        self._server = server
        self._counted = folder / "counted"

    async def load(self) -> Load:
        self._counted.unlink(missing_ok=True)
        self._server.send(signal.SIGUSR1)
        async with asyncio.timeout(10):
            while not self._counted.exists():
                await asyncio.sleep(0.05)
        objects, tasks = map(int, self._counted.read_text().split())
        pages = int((self._proc / "statm").read_text().split()[1])
        return Load(len(list((self._proc / "fd").iterdir())), tasks, objects, pages * os.sysconf("SC_PAGESIZE"))

    async def at_rest(self) -> Load:
        """When only the log's task is left, and the connections of a handful of requests."""
        async with asyncio.timeout(WITHIN):
            while (load := await self.load()).tasks > 1 or load.files > FEW:
                await asyncio.sleep(0.5)
        return load


class Client:
    """A connection on which a reply has begun to come."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def vanish(self, *, reset: bool) -> None:
        """Without reading on; with a TCP reset, or as the system ends the connections of a process that has died."""
        if reset:
            connection: socket.socket = self._writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


class Crowd:
    def __init__(self, url: str, token: str) -> None:
        self._host, self._port = urlsplit(url).hostname, urlsplit(url).port
        self._token = token

    async def sending(self, conversation: int) -> Client:
        body = json.dumps({"content": "Hi", "stream": True})
        return await self._reading(self._request("POST", f"/conversations/{conversation}/chat", body))

    async def attached(self, conversation: int) -> Client:
        return await self._reading(self._request("GET", f"/conversations/{conversation}/reply"))

    async def on_a_socket(self, conversation: int) -> Client:
        handshake = "".join(
            f"{line}\r\n"
            for line in (
                f"GET /conversations/ws/{conversation} HTTP/1.1",
                f"Host: {self._host}",
                "Connection: Upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                f"Sec-WebSocket-Protocol: chatcore.v1, bearer.{self._token}",
                "",
            )
        )
        attach = b'{"type": "attach"}'
        frame = bytes([0x81, 0x80 | len(attach)]) + bytes(4) + attach  # a mask of zeros changes nothing
        return await self._reading(handshake.encode(), frame)

    def _request(self, method: str, path: str, body: str = "") -> bytes:
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nAuthorization: Bearer {self._token}\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()

    async def _reading(self, request: bytes, then: bytes = b"") -> Client:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        writer.write(request)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(then)
        await reader.readuntil(b'"text":"Hel"')
        return Client(writer)


class Scene:
    """Replies in these conversations, so many more readers of each, and so many on sockets."""

    def __init__(self, model: ModelServer, crowd: Crowd, conversations: Sequence[int]) -> None:
        self._model = model
        self._crowd = crowd
        self._conversations = conversations

    async def begin(self, *, readers: int, sockets: int) -> None:
        """Returns when the model has begun to speak to all of them."""
        crowd, conversations = self._crowd, self._conversations
        self._gate = Gate()
        # A connection that is cut after the last word is not kept for another question.
        self._model.always = stream(chunk("Hel"), self._gate, chunk(REST), chunk(finish="stop"), DONE, CUT)
        self._clients = [await crowd.sending(each) for each in conversations]
        for _ in range(readers):
            self._clients += await asyncio.gather(*(crowd.attached(each) for each in conversations))
        for number in range(sockets):
            self._clients.append(await crowd.on_a_socket(conversations[number % len(conversations)]))

    async def vanish(self, api: Api) -> None:
        """All clients at once, and then the model says the rest to nobody. Returns when the replies have ended."""
        for number, client in enumerate(self._clients):
            client.vanish(reset=number % 2 == 0)
        self._gate.open()
        for each in self._conversations:
            while (reply := (await api.messages(each))[-1])["status"] == "writing":
                await asyncio.sleep(0.1)
            assert (reply["status"], reply["content"]) == ("complete", "Hel" + REST)


@pytest.mark.timeout(120)
async def test_a_thousand_clients_vanish_in_mid_stream(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(COUNT_ON_SIGNAL)
    async with (
        ModelServer() as model,
        serving(tmp_path, OPENAI_BASE_URL=model.url, MAX_REPLIES_PER_USER="1000", PYTHONPATH=str(tmp_path)) as server,
    ):
        api = await server.api.user()
        assert api.token
        conversations = [await api.conversation() for _ in range(REPLIES)]
        scene, process = Scene(model, Crowd(server.url, api.token), conversations), Process(server, tmp_path)
        loads = list[Load]()
        for _ in range(2):  # whatever a process keeps for the next crowd, the first one leaves to the second
            await scene.begin(readers=READERS, sockets=SOCKETS)
            during = await process.load()
            assert min(during.files, during.tasks) > CLIENTS
            await scene.vanish(api)
            loads.append(await process.at_rest())
        before, after = loads
        assert after.files - before.files < 10
        assert after.objects - before.objects < CLIENTS
        assert after.memory - before.memory < CLIENTS * 8 * 1024
