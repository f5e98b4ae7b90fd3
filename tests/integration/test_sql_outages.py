"""The database goes and comes back, behind a wire that refuses, breaks or goes silent: clients are told to try again
in bounded time, and nothing has to be restarted.
"""

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import event, make_url

from chatcore.errors import Unavailable
from chatcore.ports import LLMGateway, UnitOfWorkFactory
from chatcore_app import Readiness
from chatcore_memory import ScriptedModel, Stall
from chatcore_sql import Database
from chatcore_sql import database as module
from integration.databases import empty, idle, nobody_in_a_transaction, only_servers
from integration.http_app import EVENTS, Answer, Api, api_of, provided, settings_for
from integration.tcp_proxy import TcpProxy

PATIENCE = 20  # seconds, far more than any answer here may take, and far less than for ever
POOL = 3

pytestmark = only_servers


@pytest.fixture
async def wire(database_url: str) -> AsyncIterator[TcpProxy]:
    server = make_url(database_url)
    assert server.host
    async with TcpProxy(server.host, server.port or {"mysql": 3306}.get(server.get_backend_name(), 5432)) as wire:
        yield wire


@pytest.fixture
async def database(database_url: str, wire: TcpProxy, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """Behind the wire, and less patient than in earnest."""
    monkeypatch.setattr(module, "CONNECT_TIMEOUT", 1)
    monkeypatch.setattr(module, "POOL_TIMEOUT", 1)
    monkeypatch.setattr("chatcore_sql.statements.ANSWER_WITHIN", 2)
    await empty(database_url)
    through = make_url(database_url).set(host="127.0.0.1", port=wire.port).render_as_string(hide_password=False)
    async with Database(through, pool_size=POOL) as database:
        yield database
    assert idle(database)


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel("Hello")


@pytest.fixture
async def ada(tmp_path: Path, database: Database, model: ScriptedModel) -> AsyncIterator[Api]:
    async with api_of(
        settings_for(tmp_path),
        provided(LLMGateway, model),
        provided(UnitOfWorkFactory, database.unit_of_work),
        provided(Readiness, Readiness({"database": database.check})),
    ) as api:
        yield await api.user("ada")


async def ask_everything(ada: Api, conversation: int) -> list[Answer]:
    """All at once, and more than there are connections."""
    path = f"/conversations/{conversation}"
    async with asyncio.timeout(PATIENCE):
        return await asyncio.gather(
            *(ada.get("/conversations") for _ in range(2 * POOL)),
            *(ada.post(f"{path}/rename", {"title": "Other"}) for _ in range(POOL)),
            ada.post("/conversations/create"),
            ada.post(f"{path}/chat", {"content": "Hi"}),
            ada.get(path),
            ada.get("/ready"),
        )


async def recovers(ada: Api, conversation: int, database: Database, database_url: str) -> None:
    (await ada.get("/ready")).ok()
    chat = (await ada.post(f"/conversations/{conversation}/chat", {"content": "Back?"})).ok()
    assert chat["reply"]["content"] == "Hello"
    assert all(answer.status in (200, 201) for answer in await ask_everything(ada, conversation))
    assert all(message["status"] == "complete" for message in await ada.messages(conversation))
    await becomes_idle(database)
    await nobody_in_a_transaction(database_url)


async def becomes_idle(database: Database) -> None:
    """No connection is lost. What looks around in the background has one for a moment every now and then."""
    async with asyncio.timeout(PATIENCE):
        while not idle(database):
            await asyncio.sleep(0.005)


async def test_refused(ada: Api, wire: TcpProxy, database: Database, database_url: str) -> None:
    conversation = await ada.conversation()
    for _ in range(2):
        await wire.refuse()
        for answer in await ask_everything(ada, conversation):
            answer.unavailable()
        await becomes_idle(database)
        assert (await ada.get("/health")).status == 200
        await wire.heal()
        await recovers(ada, conversation, database, database_url)


async def test_cut(ada: Api, wire: TcpProxy, database: Database, database_url: str) -> None:
    """Connections break, new ones can be made: nobody has to notice who was not in the middle of something."""
    conversation = await ada.conversation()
    for _ in range(3):
        await ask_everything(ada, conversation)
        await wire.cut()
        await recovers(ada, conversation, database, database_url)


async def test_cut_in_the_middle(ada: Api, wire: TcpProxy, database: Database, database_url: str) -> None:
    conversation = await ada.conversation()
    for pause in (0.0, 0.005, 0.01, 0.02, 0.05):
        asking = asyncio.create_task(ask_everything(ada, conversation))
        await asyncio.sleep(pause)
        await wire.cut()
        for answer in await asking:
            assert answer.status in (200, 201, 409, 503), answer
    async with asyncio.timeout(PATIENCE):  # what was being written comes to its end
        while any(message["status"] == "writing" for message in await ada.messages(conversation)):
            await asyncio.sleep(0.05)
    chat = (await ada.post(f"/conversations/{conversation}/chat", {"content": "Back?"})).ok()
    assert chat["reply"]["content"] == "Hello"
    await becomes_idle(database)
    await nobody_in_a_transaction(database_url)


async def test_connections_that_are_closed_and_reset_all_the_time(ada: Api, wire: TcpProxy, database: Database) -> None:
    """240 requests, each change of a conversation of its own: whoever asks is told to try again, and is right to."""
    conversations = [await ada.conversation() for _ in range(8)]
    answers = list[Answer]()
    wire.break_every = 71  # more pieces than a reply's end takes on a new connection, else it would never get through
    for _ in range(10):
        path = f"/conversations/{await until_created(ada)}"
        asked = [
            ada.post(f"{path}/chat", {"content": "Hi"}),
            *(ada.get("/conversations") for _ in range(5)),
            *(ada.get(f"/conversations/{it}") for it in conversations),
            *(ada.post(f"/conversations/{it}/rename", {"title": "Other"}) for it in conversations),
            *(ada.get("/ready") for _ in range(2)),
        ]
        async with asyncio.timeout(PATIENCE):
            answers += await asyncio.gather(*asked)
    wire.break_every = None
    assert len(answers) == 240
    assert {answer.status for answer in answers} == {200, 503}, [each for each in answers if each.status >= 500]
    for answer in answers:
        if answer.status == 503:
            answer.unavailable()
    assert all(answer.status in (200, 201) for answer in await ask_everything(ada, conversations[0]))
    await becomes_idle(database)


async def until_created(ada: Api) -> int:
    async with asyncio.timeout(PATIENCE):
        while (answer := await ada.post("/conversations/create")).status != 201:
            answer.unavailable()
    created: int = answer.ok(201)["id"]
    return created


@pytest.mark.parametrize(
    "error", [RuntimeError("Transport does not expose socket instance"), IndexError(), struct.error()]
)
async def test_hung_up_while_greeting(database: Database, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a balancer does that has no server left. Drivers have no error of their own for it."""

    def hang_up(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(database._reading.engine, "connect", hang_up)
        with pytest.raises(Unavailable):
            await database.check()
    await database.check()


async def test_silent(ada: Api, wire: TcpProxy, database: Database, database_url: str) -> None:
    conversation = await ada.conversation()
    for _ in range(2):
        wire.swallow()
        for _ in range(2):  # first on connections that were good, then on new ones
            for answer in await ask_everything(ada, conversation):
                answer.unavailable()
        await becomes_idle(database)
        await wire.heal()
        await recovers(ada, conversation, database, database_url)


async def test_a_reply_survives_silence(ada: Api, wire: TcpProxy, database: Database, model: ScriptedModel) -> None:
    conversation = await ada.conversation()
    stall = Stall()
    model.then("Hel", stall, "lo")
    async with ada.events(f"/conversations/{conversation}/chat", {"content": "Hi"}, EVENTS) as events:
        await events.until("Hel")
        wire.swallow()
        stall.release()
        await events.until("lo")
        (await ada.get("/conversations")).unavailable()
        await wire.heal()
        async with asyncio.timeout(PATIENCE):
            (end,) = await events.rest()
    assert (end.type, end.data["message"]["content"]) == ("reply.completed", "Hello")
    assert (await ada.messages(conversation))[1] == end.data["message"]


@pytest.mark.parametrize("answers", [False, True], ids=["question", "answer"])
async def test_a_commit_that_is_lost_on_its_way(
    ada: Api, wire: TcpProxy, database: Database, database_url: str, model: ScriptedModel, answers: bool
) -> None:
    """Whether it took place or not, it is not run again, and nothing is left that says `writing`."""
    conversation = await ada.conversation()
    path = f"/conversations/{conversation}/chat"
    (await ada.post(path, {"content": "Hi"})).ok()

    def lose(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement == "COMMIT":
            wire.swallow(answers=answers)

    event.listen(database._writing.engine, "before_cursor_execute", lose)
    async with asyncio.timeout(PATIENCE):
        (await ada.post(path, {"content": "Lost?"})).unavailable()
    event.remove(database._writing.engine, "before_cursor_execute", lose)
    await wire.heal()
    async with asyncio.timeout(PATIENCE):
        while (again := await ada.post(path, {"content": "Again"})).status == 409:
            await asyncio.sleep(0.05)
    assert again.ok()["reply"]["content"] == "Hello"
    said = [(message["content"], message["status"]) for message in await ada.messages(conversation)]
    lost = [("Lost?", "complete"), ("", "interrupted")] if answers else []
    assert said == [("Hi", "complete"), ("Hello", "complete"), *lost, ("Again", "complete"), ("Hello", "complete")]
    assert len(model.calls) == 2
    await becomes_idle(database)
    await nobody_in_a_transaction(database_url)
