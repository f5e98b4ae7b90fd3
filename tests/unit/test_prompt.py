"""What of a conversation is sent to the model."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from random import Random

import pytest

from chatcore import ConversationId, Message, MessageId, OwnerId, PromptLimits, Role, Status
from chatcore.entities import SPOKEN
from chatcore.ports import PromptMessage
from chatcore.prompt import build_prompt

ROOMY = PromptLimits()


def user(content: str) -> Message:
    return spoken(Role.USER, content, Status.COMPLETE)


def reply(content: str, status: Status = Status.COMPLETE) -> Message:
    return spoken(Role.ASSISTANT, content, status)


def system(content: str) -> Message:
    return spoken(Role.SYSTEM, content, Status.COMPLETE)


def spoken(role: Role, content: str, status: Status) -> Message:
    return Message(
        id=MessageId(2),
        parent_id=MessageId(1),
        user_id=OwnerId(1),
        conversation_id=ConversationId(1),
        role=role,
        content=content,
        reasoning="never sent" if role is Role.ASSISTANT else None,
        status=status,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def sent(history: Sequence[Message], limits: PromptLimits = ROOMY, system: str = "") -> list[str]:
    return [message.text for message in build_prompt(history, system=system, limits=limits)]


def test_a_conversation_is_sent_with_its_roles() -> None:
    prompt = build_prompt([user("one"), reply("two"), user("three")], system="Be kind.", limits=ROOMY)
    assert prompt == (
        PromptMessage(Role.SYSTEM, "Be kind."),
        PromptMessage(Role.USER, "one"),
        PromptMessage(Role.ASSISTANT, "two"),
        PromptMessage(Role.USER, "three"),
    )


def test_an_empty_system_prompt_is_not_sent() -> None:
    assert sent([user("one")], system="") == ["one"]


@pytest.mark.parametrize("status", [Status.FAILED, Status.WRITING])
def test_replies_that_came_to_nothing_are_skipped(status: Status) -> None:
    assert sent([user("one"), reply("half", status), user("two")]) == ["one\n\ntwo"]


@pytest.mark.parametrize("status", [Status.COMPLETE, Status.STOPPED, Status.INTERRUPTED])
def test_replies_that_said_something_are_sent_and_empty_ones_skipped(status: Status) -> None:
    assert sent([user("one"), reply("half", status), user("two"), reply("", status), user("three")]) == [
        "one",
        "half",
        "two\n\nthree",
    ]


def test_the_last_message_is_sent_whatever_its_length() -> None:
    limits = PromptLimits(max_messages=1, max_chars=1)
    assert sent([user("one"), reply("two"), user("x" * 100)], limits, "system") == ["system", "x" * 100]


def test_the_budget_is_used_to_the_last_character() -> None:
    history = [user("12345"), reply("1234"), user("123")]
    assert sent(history, PromptLimits(max_chars=12)) == ["12345", "1234", "123"]
    assert sent(history, PromptLimits(max_chars=11)) == ["123"]
    assert sent(history, PromptLimits(max_messages=3)) == ["12345", "1234", "123"]
    assert sent(history, PromptLimits(max_messages=2)) == ["123"]


def test_characters_are_code_points() -> None:
    history = [user("🦄🦄"), user("🦄")]
    assert sent(history, PromptLimits(max_chars=3)) == ["🦄🦄\n\n🦄"]


def test_what_was_skipped_costs_nothing() -> None:
    history = [user("one"), reply("x" * 100, Status.FAILED), user("two")]
    assert sent(history, PromptLimits(max_messages=2, max_chars=6)) == ["one\n\ntwo"]


def test_nothing_older_comes_in_where_something_did_not_fit() -> None:
    assert sent([user("a"), user("x" * 100), user("b")], PromptLimits(max_chars=50)) == ["b"]


def test_a_system_message_of_the_history_stays_in_its_place() -> None:
    prompt = build_prompt([system("one"), user("two"), system("three"), user("four")], system="first", limits=ROOMY)
    assert [(message.role, message.content) for message in prompt] == [
        (Role.SYSTEM, "first\n\none"),
        (Role.USER, "two"),
        (Role.SYSTEM, "three"),
        (Role.USER, "four"),
    ]


def test_an_answer_to_what_was_cut_off_is_not_sent_though_a_system_message_stands_before_it() -> None:
    history = [user("one"), system("two"), reply("three"), reply("four"), user("five"), reply("six"), user("seven")]
    assert sent(history, PromptLimits(max_messages=6)) == ["two", "five", "six", "seven"]


def test_what_an_assistant_says_first_answers_nothing_that_was_cut_off() -> None:
    greeting = replace(reply("welcome"), parent_id=None)
    history = [greeting, user("one"), reply("two"), user("three")]
    assert sent(history) == ["welcome", "one", "two", "three"]
    assert sent(history, PromptLimits(max_messages=3)) == ["one", "two", "three"]


@pytest.mark.parametrize("seed", range(200))
def test_of_any_conversation_the_longest_end_that_fits_is_sent(seed: int) -> None:
    random = Random(seed)
    history = [
        reply("x" * random.randint(0, 9), random.choice(list(Status)))
        if random.random() < 0.5
        else user("x" * random.randint(1, 9))
        for _ in range(random.randint(0, 20))
    ]
    history.append(user("last" * random.randint(1, 9)))
    limits = PromptLimits(max_messages=random.randint(1, 12), max_chars=random.randint(1, 80))
    said = [m for m in history if m.content and m.status in SPOKEN]

    def may_be_sent(end: Sequence[Message]) -> bool:
        fits = len(end) <= limits.max_messages and sum(len(m.content) for m in end) <= limits.max_chars
        return len(end) == 1 or (fits and end[0].role is Role.USER)

    longest = next(said[first:] for first in range(len(said)) if may_be_sent(said[first:]))
    system, *prompt = build_prompt(history, system="system", limits=limits)
    assert system == PromptMessage(Role.SYSTEM, "system")
    assert prompt == joined(longest)


def joined(messages: Sequence[Message]) -> list[PromptMessage]:
    prompt = list[PromptMessage]()
    for message in messages:
        if prompt and prompt[-1].role is message.role:
            prompt[-1] = PromptMessage(message.role, f"{prompt[-1].content}\n\n{message.content}")
        else:
            prompt.append(PromptMessage(message.role, message.content))
    return prompt


@pytest.mark.parametrize("seed", range(20))
def test_roles_always_alternate(seed: int) -> None:
    """There are models that refuse any other conversation, and a failed reply would make it unusable for ever."""
    random = Random(seed)
    makers = (user, system, lambda content: reply(content, random.choice(list(Status))), lambda _: reply(""))
    history = [random.choice(makers)(f"{number}") for number in range(30)] + [user("last")]
    roles = [message.role for message in build_prompt(history, system="system", limits=ROOMY)]
    assert all(one is not other for one, other in pairwise(roles))


def test_reasoning_in_tags_is_not_sent() -> None:
    history = [user("one"), reply("<think>Hm</think>two"), user("three"), reply("<think>Hm"), user("<think>four")]
    assert sent(history) == ["one", "two", "three\n\n<think>four"]
