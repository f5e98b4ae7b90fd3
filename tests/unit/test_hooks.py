"""Hooks of an embedding program."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from chatcore import Ask, Chat, ChatOptions, Delta, Hooks, HookWork, Message, Prompt, PromptMessage, Purpose, Sent, Turn
from chatcore.entities import FinishReason, Role, Status, Usage
from chatcore.errors import Contention, NotFound, Refused, Unavailable, ValidationFailed
from chatcore.use_cases.chat_values import ChatDefaults
from chatcore_memory import HandClock, MemoryDatabase, ScriptedModel, Stall
from unit.world import SERVER_MODEL


class Watching(Hooks):
    """Notes what is called, and fails where it is told to."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.turns: list[Turn] = []
        self.failing: dict[str, list[BaseException]] = {}

    def note(self, name: str, turn: Turn | None = None) -> None:
        self.called.append(name)
        if turn is not None:
            self.turns.append(turn)
        if errors := self.failing.get(name):
            raise errors.pop(0)

    async def before_send(self, ask: Ask) -> Ask:
        self.note("before_send")
        return ask

    async def stored(self, work: HookWork, sent: Sent) -> None:
        await work.execute("stored", {"reply": sent.reply.id})
        self.note("stored")

    async def prompt(self, turn: Turn, prompt: Prompt) -> Prompt:
        self.note("prompt", turn)
        return prompt

    async def delta(self, turn: Turn, delta: Delta) -> Delta | None:
        self.note("delta", turn)
        return delta

    async def ended(self, work: HookWork, turn: Turn, reply: Message) -> None:
        await work.execute("ended", {"reply": reply.id, "text": reply.content})
        self.note("ended", turn)

    async def after_end(self, turn: Turn, reply: Message) -> None:
        self.note("after_end", turn)


class Program:
    """A program that embeds chatcore, with its hooks."""

    def __init__(self, hooks: Hooks, *answer: str, **more: Any) -> None:
        self.hooks = hooks
        self.clock = HandClock()
        self.database = MemoryDatabase(self.clock)
        self.model = ScriptedModel(*(answer or ("Hel", "lo")))
        self.more = more

    def chat(self) -> Chat:
        return Chat(
            store=self.database, gateway=self.model, model=SERVER_MODEL, hooks=self.hooks, clock=self.clock, **self.more
        )

    @property
    def executed(self) -> list[Any]:
        return [statement for statement, _ in self.database.executed]

    async def answered(self, content: str = "Hello?") -> Message:
        """Send a message, wait for the end of its reply, and for the hooks after it."""
        async with self.chat() as chat:
            me = await chat.of("alice", tenant="acme")
            sent = await me.send(content)
            return await (await me.reply(sent.conversation_id)).ended()


async def test_each_is_called_in_its_order_with_the_turn() -> None:
    hooks = Watching()
    program = Program(hooks)
    reply = await program.answered()
    assert hooks.called == ["before_send", "stored", "prompt", "delta", "delta", "ended", "after_end"]
    assert program.executed == ["stored", "ended"]
    assert {turn.purpose for turn in hooks.turns} == {Purpose.REPLY}
    assert len(set(map(repr, hooks.turns))) == 1
    turn = hooks.turns[0]
    assert (turn.owner, turn.user, turn.tenant) == (reply.user_id, "alice", "acme")
    assert (turn.conversation_id, turn.message_id, turn.reply_id) == (reply.conversation_id, reply.parent_id, reply.id)
    assert program.model.calls[0].prompt.turn == turn


async def test_metadata_is_stored_and_told(caplog: pytest.LogCaptureFixture) -> None:
    hooks, metadata = Watching(), {"source": "app 🦄", "empty": ""}
    program = Program(hooks)
    async with program.chat() as chat:
        me = await chat.of("alice")
        sent = await me.send("Hello?", metadata=metadata)
        await (await me.reply(sent.conversation_id)).ended()
        assert {turn.metadata["source"] for turn in hooks.turns} == {"app 🦄"}
        hooks.turns.clear()
        again = await me.regenerate(sent.conversation_id)
        await (await me.reply(sent.conversation_id)).ended()
        assert {turn.metadata["source"] for turn in hooks.turns} == {"app 🦄"}
        assert again.message.metadata == metadata
        with pytest.raises(ValidationFailed):
            await me.send("Hello?", metadata={str(number): "" for number in range(17)})


def test_what_is_not_overridden_is_not_called() -> None:
    class Some(Hooks):
        async def prompt(self, turn: Turn, prompt: Prompt) -> Prompt:
            return prompt

    assert [Some().overrides(hook) for hook in (Hooks.prompt, Hooks.delta, Hooks.ended)] == [True, False, False]
    assert not Hooks().overrides(Hooks.prompt)


async def test_before_send_changes_or_refuses() -> None:
    class Rules(Hooks):
        async def before_send(self, ask: Ask) -> Ask:
            if "forbidden" in (ask.content or ""):
                raise Refused("Not here.", code="house_rules")
            return replace(ask, content="changed " * (100_000 if "long" in (ask.content or "") else 1))

    program = Program(Rules())
    async with program.chat() as chat:
        me = await chat.of("alice")
        with pytest.raises(Refused) as refused:
            await me.send("something forbidden")
        assert (refused.value.code, refused.value.status) == ("house_rules", 403)
        with pytest.raises(ValidationFailed):  # what a hook makes keeps the rules, too
            await me.send("something long")
        assert (await me.conversations()).items == []
        sent = await me.send("Hello?")
        assert sent.message.content == "changed "


async def test_an_answer_again_and_an_edit_are_asked_for_as_well() -> None:
    asked = list[str | None]()

    class Asked(Hooks):
        async def before_send(self, ask: Ask) -> Ask:
            asked.append(ask.content)
            return ask

    program = Program(Asked())
    async with program.chat() as chat:
        me = await chat.of("alice")
        sent = await me.send("Hello?")
        await (await me.reply(sent.conversation_id)).ended()
        await me.regenerate(sent.conversation_id)
        await (await me.reply(sent.conversation_id)).ended()
        await me.edit(sent.conversation_id, sent.message.id, "Hi?")
    assert asked == ["Hello?", None, "Hi?"]


async def test_stored_undoes_the_send() -> None:
    hooks = Watching()
    hooks.failing["stored"] = [Refused("No credit.", code="no_credit")]
    program = Program(hooks)
    async with program.chat() as chat:
        me = await chat.of("alice")
        with pytest.raises(Refused, match="No credit"):
            await me.send("Hello?")
        assert (await me.conversations()).items == []
    assert program.executed == []
    assert program.model.calls == []


async def test_prompt_changes_what_the_model_is_asked() -> None:
    class Retrieval(Hooks):
        async def prompt(self, turn: Turn, prompt: Prompt) -> Prompt:
            found = PromptMessage(Role.SYSTEM, f"found for {turn.user} ({turn.purpose})")
            return replace(prompt, messages=[found, *prompt.messages])

    program = Program(Retrieval(), defaults=ChatDefaults(model_titles=True))
    async with program.chat() as chat:
        me = await chat.of("alice")
        sent = await me.send("Hello?", to=(await me.create()).id)
        await (await me.reply(sent.conversation_id)).ended()
        while len(program.model.calls) < 2:
            await asyncio.sleep(0)
    said = {call.prompt.turn and call.prompt.turn.purpose: call.prompt.messages[0].text for call in program.model.calls}
    assert said == {Purpose.REPLY: "found for alice (reply)", Purpose.TITLE: "found for alice (title)"}


@pytest.mark.parametrize(
    ("error", "code"),
    [(Refused("Too personal.", code="redacted"), "redacted"), (LookupError("a bug"), "internal")],
)
@pytest.mark.parametrize("hook", ["prompt", "delta"])
async def test_a_hook_that_fails_fails_the_reply(hook: str, error: Exception, code: str) -> None:
    hooks = Watching()
    hooks.failing[hook] = [error]
    reply = await Program(hooks).answered()
    assert reply.status is Status.FAILED
    assert reply.error is not None
    assert reply.error.code == code
    assert "a bug" not in reply.error.detail


async def test_delta_moderates() -> None:
    class Moderation(Hooks):
        async def delta(self, turn: Turn, delta: Delta) -> Delta | None:
            return None if "bad" in delta.text else replace(delta, text=delta.text.upper())

    program = Program(Moderation())
    usage = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    program.model.then("good ", Delta(text="bad ", usage=usage), "end", Delta(finish_reason=FinishReason.LENGTH))
    reply = await program.answered()
    assert (reply.content, reply.usage, reply.finish_reason) == ("GOOD END", usage, FinishReason.LENGTH)


@pytest.mark.parametrize(("failures", "called"), [(0, 1), (1, 2), (2, 3), (3, 3), (9, 3)])
@pytest.mark.parametrize("error", [LookupError, Unavailable, TimeoutError, NotFound, asyncio.CancelledError])
async def test_no_error_of_ended_leaves_a_reply_without_its_end(
    failures: int, called: int, error: Callable[[], BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    hooks = Watching()
    hooks.failing["ended"] = [error() for _ in range(failures)]
    program = Program(hooks)
    reply = await program.answered()
    assert (reply.status, reply.content) == (Status.COMPLETE, "Hello")
    assert hooks.called.count("ended") == called
    assert program.executed == (["stored", "ended"] if failures < 3 else ["stored"])
    assert hooks.called.count("after_end") == 1
    failed = [it for it in caplog.records if it.levelno == logging.ERROR]
    assert len(failed) == min(failures, 3) + (failures >= 3)


async def test_ended_waits_for_a_database_that_is_gone() -> None:
    class Billing(Watching):
        async def ended(self, work: HookWork, turn: Turn, reply: Message) -> None:
            self.called.append("trying")
            if self.called.count("trying") < 6:
                with program.database.outage():
                    await work.execute("bill")
            await super().ended(work, turn, reply)

    program = Program(Billing())
    with program.database.outage():
        pass
    reply = await program.answered()
    assert reply.status is Status.COMPLETE


async def test_a_reply_of_a_dead_process_ends_with_the_hook_of_another() -> None:
    hooks, stall = Watching(), Stall()
    program = Program(hooks)
    program.model.then("Hel", stall)
    dead = program.chat()
    await dead.__aenter__()
    me = await dead.of("alice", tenant="acme")
    sent = await me.send("Hello?", metadata={"source": "app"})
    await stall.reached()
    while not await _logged(program, sent):
        await asyncio.sleep(0.01)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:  # nothing is said any more
        task.cancel()
    await asyncio.sleep(0)
    hooks.called.clear()
    hooks.turns.clear()
    async with program.chat() as chat:
        stored = (await (await chat.of("alice", tenant="acme")).history(sent.conversation_id)).messages[-1]
        assert (stored.status, stored.content) == (Status.INTERRUPTED, "Hel")
        assert stored.usage == Usage(prompt_tokens=2, completion_tokens=1, total_tokens=3, estimated=True)
    assert hooks.called == ["ended", "after_end"]
    turn = hooks.turns[0]
    assert turn.metadata == {"source": "app"}
    assert (turn.user, turn.tenant, turn.message_id, turn.reply_id) == ("alice", "acme", sent.message.id, sent.reply.id)


async def _logged(program: Program, sent: Sent) -> bool:
    async with program.database.unit_of_work(read_only=True) as work:
        return bool(await work.reply_log.read(sent.reply.user_id, sent.reply.id))


async def test_after_end_may_fail_or_take_its_time(caplog: pytest.LogCaptureFixture) -> None:
    hooks = Watching()
    hooks.failing["after_end"] = [LookupError("a bug")]
    reply = await Program(hooks).answered()
    assert reply.status is Status.COMPLETE
    assert "after_end" in caplog.text


async def test_options_may_be_changed() -> None:
    class Cool(Hooks):
        async def before_send(self, ask: Ask) -> Ask:
            return replace(ask, options=ChatOptions(temperature=0.0))

    program = Program(Cool())
    await program.answered()
    assert program.model.calls[0].prompt.temperature == 0.0


async def test_what_delta_returns_is_made_fit_to_store() -> None:
    class Odd(Hooks):
        async def delta(self, turn: Turn, delta: Delta) -> Delta | None:
            return replace(delta, text=delta.text + "\0\ud83d")

    reply = await Program(Odd(), "Hel").answered()
    assert (reply.status, reply.content) == (Status.COMPLETE, "Hel\ufffd\ufffd")


async def test_titles_are_moderated() -> None:
    class Moderation(Hooks):
        async def delta(self, turn: Turn, delta: Delta) -> Delta | None:
            return replace(delta, text=delta.text.replace("bad", "***"))

    program = Program(Moderation(), defaults=ChatDefaults(model_titles=True))
    program.model.then("bad answer")
    program.model.then("A bad title")
    async with program.chat() as chat:
        me = await chat.of("alice")
        conversation = await me.create()
        sent = await me.send("Hello?", to=conversation.id)
        assert (await (await me.reply(sent.conversation_id)).ended()).content == "*** answer"
        while (title := (await me.history(conversation.id)).conversation.title) == "Hello?":
            await asyncio.sleep(0.001)
    assert title == "A *** title"


async def test_stored_has_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Hooks):
        async def stored(self, work: HookWork, sent: Sent) -> None:
            await asyncio.sleep(60)

    monkeypatch.setattr("chatcore.hooks.HOOK_WITHIN", 0.01)
    async with Program(Slow()).chat() as chat:
        me = await chat.of("alice")
        with pytest.raises(Unavailable, match="too long"):
            await me.send("Hello?")
        assert (await me.conversations()).items == []


@pytest.mark.parametrize("kind", ["swallowed", "contended"])
async def test_whatever_the_hook_does_to_the_transaction_the_reply_ends(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatcore.shielding._FIRST_PAUSE", 0.0)

    class Spoiling(Hooks):
        async def ended(self, work: HookWork, turn: Turn, reply: Message) -> None:
            if kind == "contended":
                raise Contention
            with suppress(RuntimeError):
                await work.commit()
                await work.commit()

    reply = await Program(Spoiling()).answered()
    assert (reply.status, reply.content) == (Status.COMPLETE, "Hello")
