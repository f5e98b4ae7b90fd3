"""What each hot route sends to the database, as the drivers see it, is what docs/statements.md says."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from asyncpg.prepared_stmt import PreparedStatement  # type: ignore[import-untyped]
from sqlalchemy import event, text

from chatcore.ports import LLMGateway, ModelRelay
from chatcore_memory import ScriptedModel, ScriptedRelay
from chatcore_sql import Database
from chatcore_sql.statements import SingleReads
from integration.databases import empty
from integration.http_app import EVENTS, PASSWORD, Answer, Api, api_of, provided, settings_for
from integration.protocol_requests import REQUESTS as PROTOCOL_REQUESTS
from integration.protocol_requests import things_of
from integration.routes import CHAT_CLIENTS, PROTOCOLS, STORED

DOCUMENT = Path(__file__).parents[2] / "docs" / "statements.md"
ROW = re.compile(r"^\| `([A-Z]+ \S+)` \| (\d+) \|", re.MULTILINE)
ROUTES = {route: int(count) for route, count in ROW.findall(DOCUMENT.read_text(encoding="utf-8"))}

BY_CLOCK = [
    r"BEGIN.*\nINSERT INTO reply_log .*\nCOMMIT",
    r"SELECT sessions\.id FROM sessions .*sessions\.id IN ",
    r"SELECT workers\.id FROM workers WHERE workers\.renewed_at < ",
    r"SELECT messages\.id, .* conversations\.writing_worker_id IS NOT NULL AND workers\.id IS NULL ",
]

_RUN = "_PreparedStatement__do_execute"


class Sent:
    """The statements that reach a driver's connections, from the moment that each is made; but not what goes over the
    one that is kept for what is urgent, the heart of the process."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.statements = list[str]()
        self._asyncpg = list[Any]()
        self.database = database
        run: Any = vars(PreparedStatement)[_RUN]

        async def run_and_tell(prepared: Any, executor: Any) -> Any:
            if prepared._connection in self._asyncpg:
                self.statements.append(prepared.get_query())
            return await run(prepared, executor)

        monkeypatch.setattr(PreparedStatement, _RUN, run_and_tell)  # asyncpg's loggers hear nothing of these
        for engine in {database._reading.engine, database._writing.engine}:
            event.listen(engine, "connect", self._listen)

    def _listen(self, connection: Any, _: object) -> None:
        driver = connection.driver_connection
        if hasattr(driver, "add_query_logger"):  # asyncpg
            self._asyncpg.append(driver)
            driver.add_query_logger(lambda record: self.statements.append(record.query))
        elif hasattr(driver, "_execute_command"):  # asyncmy: commands also those that are no queries, such as a ping
            inner = driver._execute_command

            async def execute_command(command: int, statement: Any) -> Any:
                self.statements.append(
                    statement.decode(errors="replace") if isinstance(statement, bytes) else statement
                )
                return await inner(command, statement)

            driver._execute_command = execute_command
        else:  # aiosqlite
            driver._conn.set_trace_callback(self._traced)

    def _traced(self, statement: str) -> None:
        if statement.startswith("-- ") or (statement.startswith("DELETE") and statement in self.statements[-1:]):
            return  # what SQLite does for a foreign key, after which it tells of the DELETE itself once more
        self.statements.append(statement)

    def of_requests(self) -> list[str]:
        """Without what a clock has sent meanwhile: SQLite's log, the look at live streams' sessions, and those for
        workers that are silent and for what dead ones have left."""
        sent = "\n".join(re.sub(r"\s+", " ", statement) for statement in self.statements)
        for by_clock in BY_CLOCK:
            sent = re.sub(f"^{by_clock}.*\\n?", "", sent, flags=re.MULTILINE)
        return sent.splitlines()


@pytest.fixture
async def sent_and_api(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Sent, Api]]:
    await empty(database_url)
    async with Database(database_url, pool_size=1) as database:
        sent = Sent(database, monkeypatch)
        model = provided(LLMGateway, ScriptedModel("Hello"))
        relay = provided(ModelRelay, ScriptedRelay(b"{}"))
        async with api_of(settings_for(tmp_path), provided(Database, database), model, relay) as api:
            yield sent, api


Request = Callable[[Api, int, Any], Awaitable[Answer]]

REQUESTS: Mapping[str, Request] = {
    "GET /conversations": lambda api, _, __: api.get("/conversations"),
    "GET /conversations/{conversation_id}": lambda api, it, _: api.get(f"/conversations/{it}"),
    "GET /conversations/{conversation_id}/reply": lambda api, it, _: api.get(f"/conversations/{it}/reply", EVENTS),
    "GET /conversations/search": lambda api, _, __: api.get("/conversations/search?q=hello"),
    "GET /auth/me": lambda api, _, __: api.get("/auth/me"),
    "GET /auth/config": lambda api, _, __: api.get("/auth/config"),
    "GET /auth/keys": lambda api, _, __: api.get("/auth/keys"),
    "POST /auth/keys/create": lambda api, _, __: api.post("/auth/keys/create", {"name": "phone"}),
    "POST /auth/keys/{key_id}/revoke": lambda api, _, known: api.post(f"/auth/keys/{known['key']['id']}/revoke"),
    "GET /auth/sessions": lambda api, _, __: api.get("/auth/sessions"),
    "POST /auth/login": lambda api, _, __: api.post("/auth/login", {"username": "ada", "password": PASSWORD}),
    "POST /auth/refresh": lambda api, _, tokens: api.post("/auth/refresh", {"refresh_token": tokens["refresh_token"]}),
    "POST /auth/logout": lambda api, _, __: api.post("/auth/logout"),
    "POST /conversations/create": lambda api, _, __: api.post("/conversations/create", {"title": "x"}),
    "POST /conversations/{conversation_id}/rename": lambda api, it, _: api.post(
        f"/conversations/{it}/rename", {"title": "y"}
    ),
    "POST /conversations/{conversation_id}/delete": lambda api, it, _: api.post(f"/conversations/{it}/delete"),
    "POST /conversations/{conversation_id}/chat": lambda api, it, _: api.post(
        f"/conversations/{it}/chat", {"content": "Hi"}, EVENTS
    ),
    "POST /conversations/{conversation_id}/regenerate": lambda api, it, _: api.post(
        f"/conversations/{it}/regenerate", None, EVENTS
    ),
    "POST /conversations/{conversation_id}/messages/{message_id}/edit": lambda api, it, known: api.post(
        f"/conversations/{it}/messages/{known['messages'][2]['id']}/edit", {"content": "Hi"}, EVENTS
    ),
    "POST /conversations/{conversation_id}/branch": lambda api, it, known: api.post(
        f"/conversations/{it}/branch", {"message_id": known["messages"][3]["siblings"][0]}
    ),
    "POST /conversations/{conversation_id}/stop": lambda api, it, _: api.post(f"/conversations/{it}/stop"),
    "POST /v1/chats/{chat_id}/message": lambda api, it, _: api.post(
        f"/v1/chats/{it}/message", {"role": "user", "content": "Hi"}
    ),
    "POST /files": lambda api, _, __: api.call("POST", "/files", b"Another file."),
    "GET /files": lambda api, _, __: api.get("/files"),
    "GET /files/{file_id}/content": lambda api, _, known: api.get(f"/files/{known['file']['id']}/content"),
    "POST /files/{file_id}/delete": lambda api, _, known: api.post(f"/files/{known['file']['id']}/delete"),
    "GET /health": lambda api, _, __: api.get("/health"),
    "GET /ready": lambda api, _, __: api.get("/ready"),
}


def test_the_document_has_each_route_once() -> None:
    assert ROUTES.keys() == {*REQUESTS, *PROTOCOL_REQUESTS}
    of_protocols = {f"{method} {path}" for method, path in {**PROTOCOLS, **STORED, **CHAT_CLIENTS} if method != "WS"}
    assert PROTOCOL_REQUESTS.keys() == of_protocols - {"GET /v1/models/{model_id}"}
    assert max(ROUTES["GET /conversations"], ROUTES["GET /conversations/{conversation_id}"]) <= 2


@pytest.mark.parametrize("route", REQUESTS)
async def test_a_route_sends_what_the_document_says(sent_and_api: tuple[Sent, Api], route: str) -> None:
    sent, api = sent_and_api
    tokens = await api.register("ada")
    api = api.with_token(tokens["access_token"])
    conversation = await api.conversation("x")
    for _ in range(2):  # so that there are messages, and connections
        await api.post(f"/conversations/{conversation}/chat", {"content": "Hi"}, EVENTS)
    await api.post(f"/conversations/{conversation}/regenerate", None, EVENTS)
    messages, key, file = await api.messages(conversation), await api.key(), await api.file()
    known = {**tokens, "messages": messages, "key": key, "file": file}
    sent.statements.clear()
    answer = await REQUESTS[route](api, conversation, known)
    assert answer.status in (200, 201, 204), answer
    statements = sent.of_requests()
    assert len(statements) == ROUTES[route], "\n".join(statements)
    if route.startswith("GET"):
        assert all(statement.startswith("SELECT") for statement in statements), statements


@pytest.mark.parametrize("route", PROTOCOL_REQUESTS)
async def test_a_route_of_another_protocol_sends_what_the_document_says(
    sent_and_api: tuple[Sent, Api], route: str
) -> None:
    sent, api = sent_and_api
    api = api.with_token((await api.register("ada"))["access_token"])
    things = await things_of(api)
    sent.statements.clear()
    answer = await PROTOCOL_REQUESTS[route](api, things)
    assert answer.status in (200, 204), answer
    statements = sent.of_requests()
    assert len(statements) == ROUTES[route], "\n".join(statements)
    if route.startswith("GET"):
        assert all(statement.startswith("SELECT") for statement in statements), statements


@pytest.mark.parametrize("database_url", ["mysql"], indirect=True)
@pytest.mark.parametrize("route", ["GET /conversations", "POST /conversations/{conversation_id}/chat"])
async def test_the_server_counts_the_same(sent_and_api: tuple[Sent, Api], route: str) -> None:
    """On the only connection: nothing is sent that the driver's recorder does not see."""
    sent, api = sent_and_api
    tokens = await api.register("ada")
    api = api.with_token(tokens["access_token"])
    conversation = await api.conversation("x")

    async def questions() -> int:
        row = await SingleReads(sent.database._reading).first(text("SHOW SESSION STATUS LIKE 'Questions'"))
        assert row is not None
        return int(row[1])

    before = await questions()
    sent.statements.clear()
    await REQUESTS[route](api, conversation, tokens)
    assert await questions() - before == len(sent.statements)  # which the last question itself is one of
