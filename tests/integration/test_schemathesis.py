"""Whatever Schemathesis makes up from the OpenAPI document, valid and invalid: the application keeps what it says
there, and never fails.

    FUZZ_EXAMPLES   generated requests per operation, besides the ones that every run makes from the examples and the
                    schemas' bounds. If it is set, they differ from run to run; `make fuzz` sets it.
"""

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from itertools import count
from threading import Thread
from typing import Any, Generic, TypeVar

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis.errors import FlakyStrategyDefinition
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import negative_data_rejection
from schemathesis.specs.openapi.schemas import OpenApiSchema

from chatcore import CreateAdmin
from chatcore.ports import LLMGateway, PasswordHasher
from chatcore_app import Settings
from chatcore_http import create_app
from chatcore_http.app import api_routers
from chatcore_http.openapi import describe
from chatcore_memory import PlainPasswords, ScriptedModel
from integration.databases import on_one, only_servers
from integration.http_app import Api, client_of, provided, serving, settings_for

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "5"))
EVERY_RUN_ALIKE = "FUZZ_EXAMPLES" not in os.environ
HOW = settings(
    max_examples=EXAMPLES,
    derandomize=EVERY_RUN_ALIKE,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

pytestmark = pytest.mark.once

T = TypeVar("T")


# ---- the application, in a thread, since the tool waits for its answers ------------------------------------


class InAThread(Generic[T]):
    """What an asynchronous context manager yields, and its event loop."""

    def __init__(self, thing: T, loop: asyncio.AbstractEventLoop) -> None:
        self.thing = thing
        self._loop = loop

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


@contextmanager
def in_a_thread(manager: AbstractAsyncContextManager[T]) -> Iterator[InAThread[T]]:
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    try:
        thing = asyncio.run_coroutine_threadsafe(manager.__aenter__(), loop).result()
        try:
            yield InAThread(thing, loop)
        finally:
            asyncio.run_coroutine_threadsafe(manager.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@dataclass(frozen=True, slots=True)
class User:
    api: Api
    things: dict[str, Any]
    """What is theirs, by the name that a path or a body has for it; an administrator's user is somebody else."""


class Users:
    """Somebody for each operation, who may do it; for one that ends a session or deletes something, somebody new for
    each request."""

    def __init__(self, url: str, stranger: Api) -> None:
        self.url = url
        self.stranger = stranger
        self._numbers = count(1)
        self._by_operation: dict[str, User] = {}

    async def for_(self, operation: str) -> User:
        if operation.endswith(("/logout", "/delete", "/password", "/refresh", "/revoke")):
            return await self.new(admin=operation.startswith("/admin"))
        if operation not in self._by_operation:
            self._by_operation[operation] = await self.new(admin=operation.startswith("/admin"))
        return self._by_operation[operation]

    async def new(self, *, admin: bool) -> User:
        """With a configuration, and a conversation in which a reply was written."""
        name = f"user{next(self._numbers)}"
        tokens = await self.stranger.register(name)
        api = self.stranger.with_token(tokens["access_token"])
        user_id = tokens["user"]["id"]
        if admin:
            assert self.stranger.container
            await (await self.stranger.container.get(CreateAdmin)).promote(name=name)
            user_id = (await self.stranger.register(f"user{next(self._numbers)}"))["user"]["id"]
        config = {"model_url": "https://own.test/v1", "model_name": "own", "api_key": "sk-0123456789ab"}
        conversation_id = await api.conversation()
        (await api.post(f"/conversations/{conversation_id}/chat", {"content": "Hello"})).ok()
        things = {
            "config_id": (await api.post("/auth/config/create", config)).ok(201)["id"],
            "conversation_id": conversation_id,
            "session_id": (await api.get("/auth/sessions")).ok()["items"][0]["id"],
            "refresh_token": tokens["refresh_token"],
            "user_id": user_id,
        }
        return User(api, things)


@asynccontextmanager
async def users_of(settings: Settings) -> AsyncIterator[Users]:
    model, passwords = provided(LLMGateway, ScriptedModel("Hello")), provided(PasswordHasher, PlainPasswords())
    app = create_app(settings, model, passwords)
    async with serving(app) as url, client_of(url) as stranger:
        stranger.container = app.state.dishka_container
        yield Users(url, stranger)


@pytest.fixture(scope="module")
def users(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InAThread[Users]]:
    settings = settings_for(tmp_path_factory.mktemp("data"), DATABASE_URL=database_url)
    with in_a_thread(users_of(settings)) as users:
        yield users


# ---- what the tool reads and checks ------------------------------------------------------------------------


def shown(document: dict[str, Any]) -> dict[str, Any]:
    """The document as the tool reads it."""
    document = json.loads(json.dumps(document))  # where no two places share a thing
    for operations in document["paths"].values():
        for operation in operations.values():
            for response in operation["responses"].values():
                if stream := response.get("content", {}).get("text/event-stream"):
                    stream["schema"] = one_event(stream["schema"]["contentSchema"])
    return document


def one_event(schema: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI 3.1 describes a stream as one text; the tool asks for the schema of each event."""
    text = {"type": "string"}
    data = {**text, "contentMediaType": "application/json", "contentSchema": schema}
    return {
        "type": "object",
        "properties": {"event": text, "id": text, "data": data},
        "required": ["event", "id", "data"],
    }


@schemathesis.serializer("application/jsonl", "application/zip")
def as_text(_: object, value: object) -> bytes:
    return str(value).encode(errors="replace")


DOCUMENT = shown(describe(Settings(), api_routers(Settings())))


def schema_of(*modes: GenerationMode) -> OpenApiSchema:
    schema = schemathesis.openapi.from_dict(deepcopy(DOCUMENT))  # a stateful run writes links into it
    schema.config.generation.update(with_security_parameters=False, modes=list(modes))
    schema.config.checks.positive_data_acceptance.enabled = False  # not every rule can be said in a schema
    schema.config.checks.negative_data_rejection.expected_statuses += ["413"]  # what is too long makes a body too large
    return schema


schema = schema_of(*GenerationMode)
valid = schema_of(GenerationMode.POSITIVE)


async def test_the_document_is_the_one_that_is_served(users: InAThread[Users]) -> None:
    served = users.run(users.thing.stranger.get("/openapi.json"))
    assert shown(served.ok()) == DOCUMENT


@on_one
@schema.parametrize()
@HOW
@pytest.mark.timeout(120 if EVERY_RUN_ALIKE else 0)
def test_the_application_keeps_what_the_document_says(case: schemathesis.Case[Any], users: InAThread[Users]) -> None:
    check_kept(case, users)


@only_servers
@valid.parametrize()
@HOW
@pytest.mark.timeout(120 if EVERY_RUN_ALIKE else 0)
def test_so_it_does_on_a_server(case: schemathesis.Case[Any], users: InAThread[Users]) -> None:
    """What is not valid is refused before any database is asked."""
    check_kept(case, users)


def check_kept(case: schemathesis.Case[Any], users: InAThread[Users]) -> None:
    user = users.run(users.thing.for_(case.operation.path))
    give_own(case, user.things)
    # null is as good as no body, and an import tells of each line that it does not take
    any_body = case.body is None or case.operation.path.endswith("/import")
    case.call_and_validate(
        users.thing.url,
        headers={"Authorization": f"Bearer {user.api.token}"},
        excluded_checks=[negative_data_rejection] if any_body else [],
    )


def test_every_check_that_the_tool_has_is_on() -> None:
    """Those of a newer version too."""
    checks = schema.config.checks
    off = {name for name in CHECKS.get_all_names() if not checks.get_by_name(name=name).enabled}
    assert off == {"positive_data_acceptance"}
    assert {"ignored_auth", "use_after_free", "ensure_resource_availability"} < set(CHECKS.get_all_names())


@pytest.mark.parametrize("who", ["user", "admin"])
@pytest.mark.timeout(120 if EVERY_RUN_ALIKE else 0)
def test_nor_does_it_when_one_request_follows_from_another(users: InAThread[Users], who: str) -> None:
    """What is made is asked for, changed and deleted, by the links that the tool finds in the document."""
    answered, failures = Counter[int](), list[Exception]()

    class Machine(schema.as_state_machine()):  # type: ignore[misc]
        def setup(self) -> None:
            self.user = users.run(users.thing.new(admin=who == "admin"))

        def get_call_kwargs(self, case: schemathesis.Case[Any]) -> dict[str, Any]:
            return {"base_url": users.thing.url, "headers": {"Authorization": f"Bearer {self.user.api.token}"}}

        def validate_response(self, *given: Any, **more: Any) -> None:
            try:
                super().validate_response(*given, **more)
            except Exception as failure:
                failures.append(failure)
                raise

        def after_call(self, response: Any, case: schemathesis.Case[Any]) -> None:
            answered[response.status_code] += 1

    # What is there has grown when the tool begins once more: it may have to do something else then, and gives up.
    with suppress(FlakyStrategyDefinition):
        Machine.run(settings=settings(HOW, stateful_step_count=12))
    assert not failures
    assert answered[200]


def give_own(case: schemathesis.Case[Any], things: dict[str, Any]) -> None:
    """What is made up belongs to nobody. Where something valid was meant, it becomes the user's own."""
    assert case.meta
    if not case.meta.is_negative_at(ParameterLocation.PATH):
        case.path_parameters.update(common(things, case.path_parameters))
    if isinstance(case.body, dict) and not case.meta.is_negative_at(ParameterLocation.BODY):
        case.body.update(common(things, case.body))


def common(things: dict[str, Any], places: Iterable[str]) -> dict[str, Any]:
    return {name: things[name] for name in places if name in things}
