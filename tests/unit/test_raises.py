"""What the use cases declare is true: each raises every error of `raises`, and keeps every one of its `bounds`. That it
raises no other is heard in all tests (`raised.py`)."""

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from datetime import UTC, datetime
from typing import Any, get_type_hints

import pytest

from chatcore import (
    AddMessage,
    AuthenticateKey,
    Caller,
    ChatDefaults,
    ChatOptions,
    Conversation,
    ConversationId,
    CreateAdmin,
    DeleteAccount,
    Earlier,
    EraseMessage,
    FileLimits,
    ImportConversations,
    ListConversations,
    ListCursor,
    Message,
    OwnConversation,
    OwnerId,
    Profile,
    Rate,
    RateLimits,
    Role,
    Scope,
    StepUp,
    StopReply,
    errors,
)
from chatcore.bounds import Bound, Count, Images, OneOf, Pairs, Range, Text
from chatcore.entities import Image, KeyGrant, Request
from chatcore.errors import ChatcoreError, ValidationFailed
from chatcore.hooks import Hooks
from chatcore.ports import NewUser, Prompt, RateLimiter, Turn
from chatcore.use_cases import api_keys, model_configs
from chatcore.use_cases.own_data import EndOfExport, Line
from chatcore.use_cases.relay import ModelChoice
from chatcore.use_cases.user_import import UserRow
from chatcore_memory import PlainCipher, ScriptedRelay, Stall
from raised import USE_CASES
from unit.world import PASSWORD, SERVER_MODEL, Process, World

UNKNOWN = 999_999
INSIDE = {"options": ChatOptions, "profile": Profile}
"""Parameters whose fields have bounds."""


class NeverAgain(RateLimiter):
    async def hit(self, rate: Rate, *who: str) -> int | None:
        return 60


async def lines() -> AsyncIterator[Line]:
    then = datetime(2025, 1, 1, tzinfo=UTC)
    conversation = Conversation(
        id=ConversationId(1), user_id=OwnerId(0), title="Plans", created_at=then, updated_at=then
    )
    yield Line(1, OwnConversation(conversation, None))
    yield Line(2, EndOfExport())


async def no_export() -> AsyncIterator[Line]:
    raise ValidationFailed(detail="These are no lines of an export.")
    yield Line(1, EndOfExport())  # pragma: no cover


async def said(data: bytes = b"The sky is blue.") -> AsyncGenerator[bytes, None]:
    yield data


def requested(reply: Message) -> Request:
    return Request(
        user_id=reply.user_id,
        conversation_id=reply.conversation_id,
        reply_id=reply.id,
        kind="response",
        body={},
        created_at=reply.created_at,
    )


@dataclass
class Scene:
    """An administrator with a conversation and a configuration, another user, and how any use case is made and called
    there."""

    world: World
    process: Process
    made_of: dict[str, Any]
    given: dict[str, Any]
    enter: Callable[[AbstractContextManager[None]], None]

    async def call(self, use_case: Any, **more: Any) -> object:
        """Whatever it needs is given, and `more`."""
        needed = {
            name: self.given[name]
            for name, parameter in parameters_of(use_case).items()
            if parameter.default is inspect.Parameter.empty
        }
        answer = self._made(use_case)(**{**needed, **more})
        return await answer if inspect.isawaitable(answer) else await drained(answer)

    def _made(self, kind: Any) -> Any:
        """With its helper objects, which are made of the same."""
        parts = {each.name: self.made_of[each.name] for each in fields(kind) if each.name in self.made_of}
        types = get_type_hints(kind)
        absent = [each.name for each in fields(kind) if each.name not in parts and each.default is MISSING]
        helpers = (name for name in absent if is_dataclass(types[name]))
        return kind(**parts, **{name: self._made(types[name]) for name in helpers})


def parameters_of(use_case: Any) -> Mapping[str, inspect.Parameter]:
    return {name: each for name, each in inspect.signature(use_case.__call__).parameters.items() if name != "self"}


async def drained(things: AsyncGenerator[Any, None]) -> list[Any]:
    return [thing async for thing in things]


@pytest.fixture
async def scene(world: World) -> AsyncIterator[Scene]:
    async with world.process(grace=0) as process:
        stack = ExitStack()
        ada, bob = await world.signed_in("ada"), await world.signed_in("bob")
        accounts: dict[str, Any] = {"unit_of_work": world.storage, "clock": world.clock}
        accounts |= {"passwords": world.passwords, "policy": world.password_policy}
        await CreateAdmin(**accounts).promote(name="ada")
        caller = await world.caller(ada)
        chat, config = await process.chat_of(ada.user.id), await world.config(ada.user.id)
        sent = await chat.send()
        await chat.end()
        async with world.storage() as work:
            await work.requests.add(requested(sent.reply))
            await work.commit()
        made_of = accounts | {
            "gateway": world.model,
            "cipher": world.cipher,
            "signer": world.signer,
            "sessions": world.issuer,
            "step_up": world.step_up,
            "note_use": world.authenticate.note_use,
            "replies": process.replies,
            "defaults": ChatDefaults(model=SERVER_MODEL),
            "read_history": world.read_history,
            "relay": ScriptedRelay(b"{}"),
            "choice": ModelChoice(unit_of_work=world.storage, defaults=ChatDefaults(model=SERVER_MODEL)),
        }
        by = {"by": caller, "caller": caller, "owner": ada.user.id, "session_id": caller.session.id}
        ids = {
            "conversation_id": chat.id,
            "message_id": sent.message.id,
            "number": 0,
            "config_id": config.id,
            "user_id": bob.user.id,
        }
        model = {"model_url": "https://own.test/v1", "model_name": "own", "api_key": "sk-0123456789"}
        account = {"username": "eve", "email": "eve@example.org", "password": PASSWORD, "name": "ada"}
        tokens = {"access_token": ada.access_token, "refresh_token": ada.refresh_token}
        created = await world.create_api_key(caller=caller, name="laptop")
        keys = {"key": created.key, "key_id": created.session.id, "needs": Scope.CHAT}
        file = await world.upload_file(by=caller, name="notes.txt", data=said())
        ids |= {"reply_id": sent.reply.id, "file_id": file.id}
        more = {
            "kind": "response",
            "metadata": {"a": "b"},
            "content": "Hi?",
            "title": "Plans",
            "q": "Hi",
            "data": said(b"More."),
            "items": [Earlier(Role.USER, "Hi")],
            "role": "admin",
            "lines": lines(),
        }
        call = {"model": f"config:{config.id}", "path": "/embeddings", "body": lambda _: b"{}"}
        rows = [UserRow(1, NewUser(username="eve", password_hash="0" * 64))]
        yield Scene(
            world,
            process,
            made_of,
            {**by, **ids, **model, **account, **tokens, **keys, **more, "rows": rows, "user": "7", **call},
            stack.enter_context,
        )
        stack.close()
        world.storage.cut = False


# ---- errors ----------------------------------------------------------------------------------------------

Provoked = Callable[[Scene, Any], Awaitable[dict[str, Any]]]
PROVOKED: dict[type[ChatcoreError], Provoked] = {}
"""How each error is brought about; with what the use case is to be called then."""


def provokes(error: type[ChatcoreError]) -> Callable[[Provoked], Provoked]:
    def note(provoked: Provoked) -> Provoked:
        PROVOKED[error] = provoked
        return provoked

    return note


@provokes(errors.Unavailable)
async def gone(scene: Scene, _: Any) -> dict[str, Any]:
    scene.world.storage.cut = True
    return {}


@provokes(errors.Unauthenticated)
async def signed_out(scene: Scene, use_case: Any) -> dict[str, Any]:
    await scene.world.sign_out(caller=scene.given["caller"])
    return {"key": f"ck-{'x' * 43}"} if use_case is AuthenticateKey else {}


@provokes(errors.AccountDisabled)
async def disabled(scene: Scene, _: Any) -> dict[str, Any]:
    async with scene.world.storage() as work:
        await work.administration.set_active(scene.given["owner"], False, now=scene.world.clock.now())
        await work.commit()
    return {}


@provokes(errors.Forbidden)
async def demoted(scene: Scene, _: Any) -> dict[str, Any]:
    async with scene.world.storage() as work:
        await work.administration.revoke(scene.given["owner"], "admin", now=scene.world.clock.now())
        await work.commit()
    return {}


@provokes(errors.InsufficientScope)
async def by_a_key_that_opens_nothing(scene: Scene, use_case: Any) -> dict[str, Any]:
    caller: Caller = scene.given["caller"]
    grant = KeyGrant(name="laptop", hint="", scopes=frozenset(), digest=b"")
    key = replace(caller, session=replace(caller.session, key=grant))
    given = {"by": key, "caller": key, "needs": None}
    return {name: value for name, value in given.items() if name in parameters_of(use_case)}


@provokes(errors.ValidationFailed)
async def out_of_bounds(_: Scene, use_case: Any) -> dict[str, Any]:
    if use_case is ImportConversations:
        return {"lines": no_export()}
    name, bound = next(iter(use_case.bounds.items()))
    return called_with(use_case, name, breaking(bound)[0])


@provokes(errors.NotFound)
async def unknown(_: Scene, use_case: Any) -> dict[str, Any]:
    ids = ("conversation_id", "config_id", "user_id", "session_id", "key_id", "name", "reply_id", "file_id")
    found = [name for name in ids if name in parameters_of(use_case)]
    return {name: "nobody" if name in ("name", "session_id", "key_id") else UNKNOWN for name in found[:1]}


@provokes(errors.RateLimited)
async def too_often(scene: Scene, use_case: Any) -> dict[str, Any]:
    reading = scene.process.replies._readers._holding  # pyright: ignore[reportPrivateUsage]
    scene.enter(reading.one_more(scene.given["owner"], weight=2**40))
    rate = Rate(1, 60)
    limits = RateLimits(limiter=NeverAgain(), sign_in=rate, register=rate, send=rate, search=rate, key=rate)
    scene.made_of |= {
        "limits": limits,
        "step_up": StepUp(passwords=scene.world.passwords, policy=scene.world.password_policy, limits=limits),
    }
    return {"current_password": PASSWORD} if "current_password" in parameters_of(use_case) else {}


@provokes(errors.InvalidCredentials)
async def another_password(_: Scene, use_case: Any) -> dict[str, Any]:
    return {"current_password" if "current_password" in parameters_of(use_case) else "password": "wrong"}


@provokes(errors.InsufficientUserAuthentication)
async def long_ago(scene: Scene, _: Any) -> dict[str, Any]:
    scene.world.clock.advance(360)
    return {}


@provokes(errors.UsernameTaken)
async def name_of_another(_: Scene, __: Any) -> dict[str, Any]:
    return {"username": "bob"}


@provokes(errors.EmailTaken)
async def address_of_another(_: Scene, __: Any) -> dict[str, Any]:
    return {"email": "bob@example.org"}


@provokes(errors.LastAdmin)
async def of_the_last(scene: Scene, use_case: Any) -> dict[str, Any]:
    return {} if use_case is DeleteAccount else {"user_id": scene.given["owner"]}


@provokes(errors.StorageFull)
async def full(scene: Scene, _: Any) -> dict[str, Any]:
    scene.world.database._store.max_storage = 0  # pyright: ignore[reportPrivateUsage]
    return {}


@provokes(errors.ConversationBusy)
async def writing(scene: Scene, use_case: Any) -> dict[str, Any]:
    scene.world.model.then("Hel", Stall())
    where = {name: scene.given[name] for name in ("by", "conversation_id", "content")}
    sent = await scene.process.send_message(**where)
    return {"message_id": sent.reply.id} if use_case is EraseMessage else {}


@provokes(errors.ModelNotConfigured)
async def sealed_with_a_lost_key(scene: Scene, _: Any) -> dict[str, Any]:
    scene.made_of["cipher"] = PlainCipher("another")
    return {}


@provokes(errors.IdempotencyKeyReused)
async def sent_before(scene: Scene, use_case: Any) -> dict[str, Any]:
    await scene.call(use_case, content="One", idempotency_key="key")
    return {"content": "Two", "idempotency_key": "key"}


@provokes(errors.TooManyModelConfigs)
async def one_is_too_many(_: Scene, __: Any) -> dict[str, Any]:
    pytest.MonkeyPatch().setattr(model_configs, "MAX_CONFIGS", 1)
    return {}


@provokes(errors.TooManyApiKeys)
async def two_are_too_many(_: Scene, __: Any) -> dict[str, Any]:
    pytest.MonkeyPatch().setattr(api_keys, "MAX_KEYS", 1)
    return {}


@provokes(errors.TooManyFiles)
async def none_may_be_stored(scene: Scene, _: Any) -> dict[str, Any]:
    scene.made_of["file_limits"] = FileLimits(files=0)
    return {}


@provokes(errors.FileTooLarge)
async def longer_than_it_may_be(scene: Scene, _: Any) -> dict[str, Any]:
    scene.made_of["file_limits"] = FileLimits(size=1)
    return {}


@provokes(errors.UnknownModel)
async def of_nobody(_: Scene, __: Any) -> dict[str, Any]:
    return {"model": "nobody's"}


@provokes(errors.Refused)
async def refused_by_a_hook(scene: Scene, _: Any) -> dict[str, Any]:
    class Moderating(Hooks):
        async def prompt(self, turn: Turn, prompt: Prompt) -> Prompt:
            return prompt

    scene.made_of["hooks"] = Moderating()
    return {}


def answered_with(error: type[errors.ModelError]) -> Provoked:
    async def fails(scene: Scene, _: Any) -> dict[str, Any]:
        scene.made_of["relay"] = ScriptedRelay(error())
        return {}

    return fails


PROVOKED |= {error: answered_with(error) for error in errors.ModelError.__subclasses__()}
DECLARED = [(use_case, error) for use_case in USE_CASES for error in dict.fromkeys(use_case.raises)]


@pytest.mark.parametrize(("use_case", "error"), DECLARED, ids=lambda each: each.__name__)
async def test_whatever_is_declared_is_raised(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, use_case: Any, error: type[ChatcoreError]
) -> None:
    monkeypatch.setattr(model_configs, "MAX_CONFIGS", model_configs.MAX_CONFIGS)  # is put back
    monkeypatch.setattr(api_keys, "MAX_KEYS", api_keys.MAX_KEYS)
    if use_case is AddMessage:
        scene.given["role"] = Role.USER
    if use_case is StopReply:
        await writing(scene, use_case)
    more = await PROVOKED[error](scene, use_case)
    with pytest.raises(ChatcoreError) as raised:
        await call_of(scene, use_case, error, more)
    assert raised.value.code == error.code


def call_of(scene: Scene, use_case: Any, error: type[ChatcoreError], more: dict[str, Any]) -> Awaitable[object]:
    if (use_case, error) == (CreateAdmin, errors.NotFound):
        parts = {each.name: scene.made_of[each.name] for each in fields(CreateAdmin)}
        return CreateAdmin(**parts).promote(name="nobody")
    if (use_case, error) == (ListConversations, errors.RateLimited):
        walking = scene.world.list_conversations
        scene.enter(walking.walks.one_more(scene.given["owner"], weight=2**40))
        now = scene.world.clock.now()
        return walking(owner=scene.given["owner"], cursor=ListCursor(now, now, scene.given["conversation_id"]))
    return scene.call(use_case, **more)


# ---- bounds ----------------------------------------------------------------------------------------------

BOUNDED = [(use_case, name) for use_case in USE_CASES for name in getattr(use_case, "bounds", {})]


def breaking(bound: Bound[Any]) -> list[Any]:
    match bound:
        case Range(minimum, maximum):
            return [minimum - 1, maximum + 1]
        case Count(minimum, maximum):
            return [[Earlier(Role.USER, "Hi")] * (maximum + 1)]
        case OneOf():
            return ["?"]
        case Text(minimum, maximum):
            return ["x" * (maximum + 1), *[""] * (minimum > 0)]
        case Pairs(most, name, value):
            many = {str(number): "" for number in range(most + 1)}
            return [many, {"": "x"}, {"x" * (name + 1): "x"}, {"x": "x" * (value + 1)}, {"x": "\0"}, {"x": 1}]
        case Images(most=most, size=size):
            large = bytes(size)
            wrong = [Image("image/tiff", b"x"), Image("image/png", b""), Image("image/png", large + b"x")]
            wrong += [Image("image/png", b"x", "sharp")]
            return [[Image("image/png", b"x")] * (most + 1), [Image("image/png", large)] * 5, *([it] for it in wrong)]
        case _:
            raise AssertionError(bound)


def keeping(bound: Bound[Any]) -> Iterator[Any]:
    if isinstance(bound, Range):
        yield from (int(bound.minimum), int(bound.maximum))
    elif isinstance(bound, Count):
        yield from ([Earlier(Role.USER, "Hi")] * number for number in (bound.minimum, bound.maximum))
    elif isinstance(bound, Pairs):
        yield from ({}, {f"{number:{bound.name}}": "x" * bound.value for number in range(bound.most)})
    elif isinstance(bound, Images):
        yield from ([], [Image(kind, b"x", "low") for kind in bound.kinds], [Image("image/gif", bytes(bound.size))] * 4)
    elif type(bound) is Text:
        yield from ("x" * bound.maximum, "x" * bound.minimum)


def called_with(use_case: Any, name: str, value: object) -> dict[str, Any]:
    """The bounded value as a parameter, or inside one."""
    if name in parameters_of(use_case):
        return {name: value}
    inside = next(each for each in INSIDE if each in parameters_of(use_case))
    return {inside: INSIDE[inside](**{name: value})}


@pytest.mark.parametrize(("use_case", "name"), BOUNDED, ids=lambda each: getattr(each, "__name__", each))
async def test_a_bound_is_where_it_is_said_to_be(scene: Scene, use_case: Any, name: str) -> None:
    if use_case is AddMessage:
        scene.given["role"] = Role.USER
    bound = use_case.bounds[name]
    for value in breaking(bound):
        with pytest.raises(ValidationFailed) as raised:
            await scene.call(use_case, **called_with(use_case, name, value))
        assert [error.field for error in raised.value.errors] == [name]
    for value in keeping(bound):
        assert not isinstance(
            await refusal_of(scene.call(use_case, **called_with(use_case, name, value))), ValidationFailed
        )


async def refusal_of(call: Awaitable[object]) -> ChatcoreError | None:
    """For another reason, it may be."""
    try:
        await call
    except ChatcoreError as refusal:
        return refusal
    return None


# ---- declarations ----------------------------------------------------------------------------------------


def test_every_use_case_declares_what_it_raises() -> None:
    assert len(USE_CASES) > 40
    for use_case in USE_CASES:
        assert errors.Unavailable in use_case.raises
        assert not hasattr(use_case, "bounds") or errors.ValidationFailed in use_case.raises
