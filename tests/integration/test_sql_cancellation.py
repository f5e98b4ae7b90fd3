"""Two hundred requests are cancelled in flight. Then everybody reads what is theirs, and the pool is whole."""

import asyncio
import random
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from chatcore import (
    ChatDefaults,
    Conversation,
    CreateConversation,
    ListConversations,
    ReadHistory,
    RenameConversation,
    Replies,
    Status,
    UseCases,
    User,
    Vouched,
)
from chatcore.errors import ConversationBusy
from chatcore.ports import Cipher, Clock, LLMGateway, UnitOfWorkFactory
from chatcore_app import Readiness
from chatcore_demo import DEMO_ENDPOINT
from chatcore_memory import HandClock, PlainCipher, ScriptedModel
from chatcore_sql import Database
from chatcore_testing.contracts.storage.base import stored_conversation, stored_user
from integration.databases import idle, nobody_in_a_transaction
from integration.http_app import Api, api_of, encoded, provided, settings_for

REQUESTS = 200
USERS = 10
ANSWER = "Hello"


async def whole(database: Database, database_url: str) -> None:
    """Every connection comes back to its pool, and none is in a transaction."""
    async with asyncio.timeout(30):
        while not idle(database):
            await asyncio.sleep(0.01)
    if database_url.startswith("sqlite"):
        with sqlite3.connect(database_url.removeprefix("sqlite:///"), timeout=0, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
        other.close()
    else:
        await nobody_in_a_transaction(database_url)


@dataclass(frozen=True)
class Own:
    """A user with a conversation, whose title and messages begin with the name."""

    user: User
    conversation: Conversation


class Tasks:
    def __init__(self, database: Database, replies: Replies, clock: HandClock) -> None:
        unit_of_work = database.unit_of_work
        self.list = ListConversations(unit_of_work=unit_of_work)
        self.history = ReadHistory(unit_of_work=unit_of_work)
        self.create = CreateConversation(unit_of_work=unit_of_work, clock=clock)
        self.rename = RenameConversation(unit_of_work=unit_of_work, clock=clock)
        self.send = UseCases(
            {
                UnitOfWorkFactory: unit_of_work,
                Replies: replies,
                Cipher: PlainCipher(),
                Clock: clock,
                ChatDefaults: ChatDefaults(model=DEMO_ENDPOINT),
            }
        ).send_message

    def calls(self, own: Own) -> list[Callable[[], Awaitable[object]]]:
        owner, conversation, name = own.user.id, own.conversation.id, own.user.username
        return [
            lambda: self.list(owner=owner),
            lambda: self.history(owner=owner, conversation_id=conversation),
            lambda: self.create(by=Vouched(owner), title=f"{name} again"),
            lambda: self.rename(by=Vouched(owner), conversation_id=conversation, title=f"{name} renamed"),
            lambda: self.send(by=Vouched(owner), conversation_id=conversation, content=f"{name} asks"),
        ]

    async def check(self, own: Own) -> None:
        """Reads are the user's own, and no message is without its reply."""
        name = own.user.username
        listed = await self.list(owner=own.user.id, limit=100)
        assert all(each.user_id == own.user.id and each.title.startswith(name) for each in listed.items)
        history = await self.history(owner=own.user.id, conversation_id=own.conversation.id, limit=200)
        assert history.conversation.id == own.conversation.id
        said = [(message.content, message.status) for message in history.messages]
        pair = [(f"{name} asks", Status.COMPLETE), (ANSWER, Status.COMPLETE)]
        assert said == pair * (len(said) // 2)


@pytest.mark.parametrize("seed", range(3))
async def test_use_cases_that_are_cancelled(database: Database, database_url: str, seed: int) -> None:
    chance, clock = random.Random(seed), HandClock()
    users = [await stored_user(database.unit_of_work, f"user{number:03}") for number in range(USERS)]
    owns = [Own(user, await stored_conversation(database.unit_of_work, user, user.username)) for user in users]
    async with Replies(unit_of_work=database.unit_of_work, gateway=ScriptedModel(ANSWER), clock=clock) as replies:
        use_cases = Tasks(database, replies, clock)

        async def cancelled(call: Callable[[], Awaitable[object]], after: float) -> bool:
            task = asyncio.ensure_future(call())
            await asyncio.sleep(after)
            task.cancel()
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(outcome, Exception) and not isinstance(outcome, ConversationBusy):
                raise outcome
            return isinstance(outcome, asyncio.CancelledError)

        calls = [chance.choice(use_cases.calls(chance.choice(owns))) for _ in range(REQUESTS)]
        outcomes = await asyncio.gather(*(cancelled(call, chance.uniform(0, 0.05)) for call in calls))
        assert outcomes.count(True) > REQUESTS // 4
        await replies.drain()
        await whole(database, database_url)
        for _ in range(3):
            await asyncio.gather(*(use_cases.check(own) for own in owns))
    await whole(database, database_url)


# ---- over HTTP -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Client:
    api: Api
    name: str
    conversation: int

    def requests(self) -> list[tuple[str, str, object]]:
        path = f"/conversations/{self.conversation}"
        return [
            ("GET", "/conversations?limit=100", None),
            ("GET", path, None),
            ("GET", "/auth/me", None),
            ("POST", "/conversations/create", {"title": f"{self.name} again"}),
            ("POST", f"{path}/rename", {"title": f"{self.name} renamed"}),
            ("POST", f"{path}/chat", {"content": f"{self.name} asks"}),
            ("POST", f"{path}/chat", {"content": f"{self.name} asks", "stream": True}),
        ]

    async def check(self) -> None:
        assert (await self.api.get("/auth/me")).ok()["username"] == self.name
        listed = (await self.api.get("/conversations?limit=100")).ok()["items"]
        assert listed
        assert all(each["title"].startswith(self.name) for each in listed)
        messages = await self.api.messages(self.conversation)
        said = [(message["content"], message["status"]) for message in messages]
        assert said == [(f"{self.name} asks", "complete"), (ANSWER, "complete")] * (len(said) // 2)


async def drop(api: Api, method: str, path: str, body: object, after: float) -> None:
    """Sends the whole request, and resets the connection before or while it is answered."""
    port = api.http._base_url.port if api.http._base_url else None
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    content = encoded(body) or b""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {api.token}\r\n"
    writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    await writer.drain()
    await asyncio.sleep(after)
    writer.transport.abort()


async def test_clients_that_drop(database: Database, database_url: str, tmp_path: Path) -> None:
    chance = random.Random(1)
    async with api_of(
        settings_for(tmp_path),
        provided(LLMGateway, ScriptedModel(ANSWER)),
        provided(UnitOfWorkFactory, database.unit_of_work),
        provided(Readiness, Readiness({"database": database.check})),
    ) as api:
        clients = list[Client]()
        for number in range(USERS):
            name = f"user{number:03}"
            user = await api.user(name)
            clients.append(Client(user, name, await user.conversation(name)))
        dropped = list[Awaitable[None]]()
        for _ in range(REQUESTS):
            client = chance.choice(clients)
            dropped.append(drop(client.api, *chance.choice(client.requests()), chance.uniform(0, 0.3)))
        await asyncio.gather(*dropped)
        await whole(database, database_url)
        for client in clients:  # what they asked for goes on without them; its end is the last of it
            await ended(client)
        for _ in range(3):
            await asyncio.gather(*(client.check() for client in clients))
        await whole(database, database_url)


async def ended(client: Client) -> None:
    async with asyncio.timeout(30):
        while any(message["status"] == "writing" for message in await client.api.messages(client.conversation)):
            await asyncio.sleep(0.05)
