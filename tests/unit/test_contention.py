"""A unit of work that the database gave up for another's sake is run again, a few times, and has happened once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from chatcore import Caller, Conversation, ModelConfig, SignedIn, Status, Vouched
from chatcore.errors import Contention, NotFound, Unauthenticated, Unavailable
from chatcore.shielding import TRIES, retry_on_contention
from chatcore_memory import Stall
from unit.world import PASSWORD, World, everything_has_ended


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatcore.shielding._FIRST_PAUSE", 0.0)


# ---- what is repeated ------------------------------------------------------------------------------------


class Work:
    """Fails in these ways, one after the other, before it succeeds."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0

    @retry_on_contention
    async def __call__(self, result: str) -> str:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return result


@pytest.mark.parametrize("times", range(TRIES))
async def test_contention_is_tried_again(times: int) -> None:
    work = Work(*(Contention() for _ in range(times)))
    assert await work("result") == "result"
    assert work.calls == times + 1


async def test_but_not_for_ever() -> None:
    work = Work(*(Contention() for _ in range(TRIES)))
    with pytest.raises(Contention):
        await work("result")
    assert work.calls == TRIES


async def test_nothing_is_begun_again_after_a_long_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatcore.shielding.REPEAT_WITHIN", -1.0)
    work = Work(Contention())
    with pytest.raises(Contention):
        await work("result")
    assert work.calls == 1


@pytest.mark.parametrize("failure", [Unavailable(), NotFound(), ZeroDivisionError()])
async def test_nothing_else_is_tried_again(failure: Exception) -> None:
    work = Work(failure)
    with pytest.raises(type(failure)):
        await work("result")
    assert work.calls == 1


async def test_a_pause_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatcore.shielding._FIRST_PAUSE", 1000.0)
    task = asyncio.create_task(Work(Contention())("result"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# ---- the use cases ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """Three users; the first has a conversation and two configurations, and signed in twice."""

    world: World
    ada: SignedIn
    caller: Caller
    second: SignedIn
    grace: SignedIn
    other: Caller
    joan: SignedIn
    config: ModelConfig
    doomed: ModelConfig
    conversation: Conversation

    @property
    def by(self) -> Vouched:
        return Vouched(self.ada.user.id)


@pytest.fixture
async def scene(world: World) -> Scene:
    ada, grace, joan = [await world.signed_in(name) for name in ("ada", "grace", "joan")]
    caller, other = await world.caller(ada), await world.caller(grace)
    second = await world.sign_in(name="ada", password=PASSWORD)
    config, doomed = await world.config(ada.user.id), await world.config(ada.user.id)
    conversation = await world.create_conversation(by=Vouched(ada.user.id))
    return Scene(world, ada, caller, second, grace, other, joan, config, doomed, conversation)


async def later(scene: Scene) -> object:
    """So much later that the session's use is noted again."""
    scene.world.clock.advance(120)
    return await scene.world.caller(scene.ada)


CALLS: dict[str, Callable[[Scene], Awaitable[object]]] = {
    "register": lambda it: it.world.register(username="new", password=PASSWORD),
    "sign in": lambda it: it.world.sign_in(name="ada", password=PASSWORD),
    "refresh": lambda it: it.world.refreshed(it.joan),
    "sign out": lambda it: it.world.sign_out(caller=it.other, refresh_token=it.grace.refresh_token),
    "revoke session": lambda it: it.world.revoke_session(caller=it.caller, session_id=it.second.session.id),
    "revoke others": lambda it: it.world.revoke_other_sessions(caller=it.caller),
    "change username": lambda it: it.world.change_username(caller=it.caller, username="lovelace"),
    "change email": lambda it: it.world.change_email(
        caller=it.caller, email="new@example.org", current_password=PASSWORD
    ),
    "change password": lambda it: it.world.change_password(caller=it.caller, password="another horse"),
    "create config": lambda it: it.world.config(it.ada.user.id),
    "update config": lambda it: it.world.update_model_config(by=it.by, config_id=it.config.id, model_name="other"),
    "delete config": lambda it: it.world.delete_model_config(by=it.by, config_id=it.doomed.id),
    "create conversation": lambda it: it.world.create_conversation(by=it.by, config_id=it.config.id),
    "rename": lambda it: it.world.rename_conversation(by=it.by, conversation_id=it.conversation.id, title="x"),
    "authenticate": later,
}
"""Every use case that writes and needs no `Replies`, once each."""


@pytest.mark.parametrize("after", range(5))
@pytest.mark.parametrize("name", CALLS)
async def test_a_use_case_gets_through(scene: Scene, name: str, after: int) -> None:
    world = scene.world
    commits = world.storage.commits
    world.database.contend(TRIES - 1, after=after)
    await CALLS[name](scene)
    assert world.storage.commits == commits + 1


@pytest.mark.parametrize("name", CALLS)
async def test_a_use_case_that_never_gets_through_is_unavailable(scene: Scene, name: str) -> None:
    world = scene.world
    commits = world.storage.commits
    world.database.contend(TRIES)
    with pytest.raises(Contention):
        await CALLS[name](scene)
    assert world.storage.commits == commits
    await CALLS[name](scene)
    assert world.storage.commits == commits + 1


# ---- replies ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", range(9))
async def test_a_message_is_sent_once(world: World, after: int) -> None:
    async with world.process() as process:
        chat = await process.chat()
        world.database.contend(TRIES - 1, after=after)
        sent = await chat.send("Hello?", key="key")
        world.database.contend(0)
        again = await chat.send("Hello?", key="key")
        assert (again.message, again.reply.id) == (sent.message, sent.reply.id)
        assert (await chat.end()).content == "Hello world"
        assert [message.id for message in await chat.messages()] == [sent.message.id, sent.reply.id]
        assert len(world.model.calls) == 1
        await everything_has_ended(chat)


async def test_a_message_that_cannot_be_sent_leaves_nothing(world: World) -> None:
    async with world.process() as process:
        chat = await process.chat()
        world.database.contend(TRIES, after=5)
        with pytest.raises(Contention):
            await chat.send()
        assert list(await chat.messages()) == []
        assert process.replies.writing_now == 0
        assert (await chat.ask()).content == "Hello world"


@pytest.mark.parametrize("after", [False, True])
async def test_a_commit_whose_outcome_is_unknown_is_not_tried_again(world: World, after: bool) -> None:
    async with world.process() as process:
        chat = await process.chat()
        world.storage.fail_once(after=after)
        with pytest.raises(Unavailable):
            await chat.send()
    assert len(await chat.messages()) == (2 if after else 0)
    assert world.model.calls == []


@pytest.mark.parametrize("after", range(4))
async def test_the_log_and_the_end_of_a_reply_get_through(world: World, after: int) -> None:
    async with world.process() as process:
        chat = await process.chat()
        stall = Stall()
        world.model.then("Hel", stall, "lo")
        sent = await chat.send()
        world.database.contend(TRIES - 1, after=after)
        await stall.reached()
        stall.release()
        end = await chat.end()
        assert (end.id, end.content, end.status) == (sent.reply.id, "Hello", Status.COMPLETE)
        await everything_has_ended(chat)


@pytest.mark.parametrize("after", range(4))
async def test_conversations_and_accounts_are_deleted(world: World, after: int) -> None:
    async with world.process() as process:
        caller = await world.caller(await world.signed_in())
        chat = await process.chat_of(caller.user.id)
        world.database.contend(TRIES - 1, after=after)
        await chat.delete()
        world.database.contend(TRIES - 1, after=after)
        await process.delete_account(caller=caller)
        with pytest.raises(Unauthenticated):
            await process.delete_account(caller=caller)
