"""A server with a scripted model, and what its users say to it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from integration.http_app import Api
from integration.model_server import ModelServer
from integration.processes import Server, serving
from integration.tcp_proxy import TcpProxy


@dataclass(frozen=True)
class House:
    server: Server
    model: ModelServer
    user: Api
    url: str

    @property
    def key(self) -> str:
        token = self.user.token
        assert token is not None
        return token

    def at(self, path: str) -> dict[str, str]:
        """Where a client calls, and with what."""
        return {"URL": self.url + path, "KEY": self.key}


@asynccontextmanager
async def house_of(folder: Path, **environ: str) -> AsyncIterator[House]:
    async with ModelServer() as model:
        own = {"OPENAI_API_KEY": "key", "OPENAI_BASE_URL": model.url, "OPENAI_MODEL": "scripted"}
        async with serving(folder, **own, **environ) as server:
            yield House(server, model, await server.api.user(), server.url)


@asynccontextmanager
async def on_the_way(house: House) -> AsyncIterator[tuple[House, asyncio.Event]]:
    """The house behind a proxy, and the event that its first answer has passed there."""
    address = urlsplit(house.server.url)
    async with TcpProxy(address.hostname or "", address.port or 0) as proxy:
        yield replace(house, url=f"http://127.0.0.1:{proxy.port}"), proxy.answered


def ui_message(text: str, *, name: str = "mine", role: str = "user") -> dict[str, Any]:
    return {"id": name, "role": role, "parts": [{"type": "text", "text": text}]}


def sending(chat: str, *messages: dict[str, Any], trigger: str = "submit-message", **more: str) -> str:
    """What `DefaultChatTransport.sendMessages` takes."""
    return json.dumps({"chatId": chat, "messages": messages, "trigger": trigger, **more})


def text_of(message: dict[str, Any]) -> str:
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")
