"""What other products export becomes conversations here, with all branches, and nothing is left out without a word."""

import json
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import histories as made
from chatcore import ExportOwnData, ImportConversations, Imported, Message, OwnConversation, Role, Status, UserId
from chatcore.authority import Vouched
from chatcore.entities import Failure
from chatcore.errors import ValidationFailed
from chatcore.histories import Format, Histories, as_markdown, as_openai
from chatcore.histories import archive as archive_module
from chatcore.use_cases import read_import
from chatcore.use_cases.own_data import Line
from histories import (
    SHOWN,
    TALK,
    TALKS,
    chatgpt,
    deepseek,
    deepseek_node,
    hidden,
    image,
    joint,
    libre_message,
    librechat,
    node,
    open_webui,
    raw,
    thoughts,
    tool_call,
    tool_result,
    web_message,
)
from unit.world import World

NOW = datetime(2026, 1, 1, tzinfo=UTC)
THEN = datetime(2025, 5, 4, 3, 2, 1, 250_000, tzinfo=UTC)


async def pieces(content: bytes, step: int = 1000) -> AsyncGenerator[bytes, None]:
    for at in range(0, len(content), step):
        yield content[at : at + step]


def histories(**more: Any) -> Histories:
    return Histories(now=lambda: NOW, **more)


async def lines_of(content: bytes, format_: Format = Format.AUTO, *, step: int = 1000, **more: Any) -> list[Line]:
    return [line async for line in histories(**more).lines(pieces(content, step), format_)]


class Brought:
    """What an owner has after an import, and its report."""

    def __init__(self, world: World, owner: UserId, imported: Imported) -> None:
        self.world = world
        self.owner = owner
        self.imported = imported
        self.conversations = list[OwnConversation]()
        self.messages = list[Message]()

    async def read(self) -> "Brought":
        caller = await self.world.caller(await self.world.sign_in_again("ada"))
        async for thing in ExportOwnData(unit_of_work=self.world.storage)(by=caller, branches=True):
            if isinstance(thing, OwnConversation):
                self.conversations.append(thing)
            elif isinstance(thing, Message):
                self.messages.append(thing)
        return self

    def tree(self) -> dict[str, str | None]:
        """Each text, and the one before it."""
        texts = {message.id: message.content for message in self.messages}
        return {m.content: None if m.parent_id is None else texts[m.parent_id] for m in self.messages}

    def texts(self) -> list[str]:
        return [message.content for message in self.messages]

    async def shown(self) -> list[Message]:
        (own,) = self.conversations
        history = await self.world.read_history(owner=self.owner, conversation_id=own.conversation.id)
        return list(history.messages)

    @property
    def left_out(self) -> dict[str, int]:
        (taken,) = self.imported.taken
        return dict(taken.left_out)


async def brought(world: World, content: bytes, format_: Format = Format.AUTO, **more: Any) -> Brought:
    if not world.owners:
        world.owners.append(await world.owner("ada"))
    owner = world.owners[0]
    lines = histories(**more).lines(pieces(content), format_)
    imported = await ImportConversations(unit_of_work=world.storage, clock=world.clock)(by=Vouched(owner), lines=lines)
    return await Brought(world, owner, imported).read()


async def of_chatgpt(world: World, *nodes: dict[str, Any], **more: Any) -> Brought:
    return await brought(world, raw([chatgpt(joint("root", None), *nodes, **more)]))


# ---- trees -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", TALKS.values(), ids=TALKS)
async def test_all_branches_are_there_and_the_one_that_was_shown_is_shown(world: World, content: bytes) -> None:
    bring = await brought(world, content)
    assert (bring.imported.conversations, bring.imported.messages, bring.imported.refusals) == (1, 7, 0)
    assert bring.tree() == TALK
    assert [message.content for message in await bring.shown()] == SHOWN
    (own,) = bring.conversations
    assert (own.conversation.title, own.conversation.titled_by_user) == ("Paris", True)
    assert {message.role for message in bring.messages} == {Role.USER, Role.ASSISTANT}
    assert all(message.status is Status.COMPLETE for message in bring.messages)
    assert all(abs(message.created_at - THEN) < timedelta(seconds=1) for message in bring.messages)
    assert abs(own.conversation.created_at - THEN) < timedelta(seconds=1)
    models = {message.model for message in bring.messages if message.role is Role.ASSISTANT}
    assert models <= {"gpt-5", "llama3.1:8b", "gpt-4o", "deepseek-reasoner"}
    assert len(models) == 1


@pytest.mark.parametrize("step", [1, 2, 100_000])
async def test_it_does_not_matter_how_the_bytes_come(step: int) -> None:
    whole = await lines_of(TALKS["chatgpt, escaped"])
    assert await lines_of(TALKS["chatgpt, escaped"], step=step) == whole
    assert await lines_of(b"\xef\xbb\xbf" + TALKS["chatgpt, escaped"], step=step) == whole


@pytest.mark.parametrize("content", TALKS.values(), ids=TALKS)
async def test_there_and_back_it_is_the_same_tree(world: World, content: bytes) -> None:
    """As ChatGPT would export it, and in from that."""
    first = await brought(world, content)
    out = await openai_of(world)
    other = World()
    second = await brought(other, out)
    assert second.imported.refusals == 0
    assert plain(second.messages) == plain(first.messages)
    assert [m.content for m in await second.shown()] == [m.content for m in await first.shown()]
    assert second.conversations[0].conversation.created_at == first.conversations[0].conversation.created_at


def plain(messages: Sequence[Message]) -> list[Any]:
    numbers = {message.id: number for number, message in enumerate(messages)}
    return [
        (m.role, m.content, m.reasoning, m.status, m.model, m.created_at, m.parent_id and numbers[m.parent_id])
        for m in messages
    ]


async def openai_of(world: World, name: str = "ada") -> bytes:
    caller = await world.caller(await world.sign_in_again(name))
    things = ExportOwnData(unit_of_work=world.storage)(by=caller, branches=True)
    return b"".join([piece async for piece in as_openai(things)])


async def test_many_conversations_and_shards_come_in_their_order(world: World) -> None:
    talks = [chatgpt(node("q", None, text=str(n)), title=str(n)) for n in range(25)]
    bring = await brought(world, made.sharded(talks[:10], talks[10:20], talks[20:]))
    assert [own.conversation.title for own in bring.conversations] == [str(n) for n in range(25)]
    assert [taken.title for taken in bring.imported.taken] == [str(n) for n in range(25)]
    assert bring.imported.refusals == 0


async def test_a_tree_that_is_broken_is_taken_as_far_as_it_goes(world: World) -> None:
    """A parent that is not there, one that is itself, and parents in a circle."""
    a, b = node("a", "b", text="A"), node("b", "a", text="B")
    bring = await of_chatgpt(world, node("x", "nowhere", text="X"), node("y", "y", text="Y"), a, b, current="b")
    assert bring.tree() == {"X": None, "Y": None, "A": None, "B": "A"}


async def test_children_may_stand_before_their_parents(world: World) -> None:
    talk = made.chatgpt_talk()
    talk["mapping"] = dict(reversed(talk["mapping"].items()))
    bring = await brought(world, raw([talk]))
    assert bring.tree() == TALK
    assert [message.content for message in await bring.shown()] == SHOWN


@pytest.mark.parametrize("nested", [False, True])
async def test_a_long_tree_of_one_branch(nested: bool) -> None:
    """Nothing goes down into it by recursion."""
    messages = [libre_message(str(n), str(n - 1) if n else None, "user", f"text {n}") for n in range(2000)]
    content = raw(librechat(*messages))
    if nested:
        inner = b"".join(raw(message)[:-1] + b',"children":[' for message in messages) + b"]}" * len(messages)
        content = raw(librechat(nested="messages")).replace(b'"messages":[]', b'"messages":[' + inner + b"]")
    _, *lines, _ = [line.thing for line in await lines_of(content)]
    said = [line for line in lines if isinstance(line, Message)]
    assert [message.content for message in said] == [f"text {n}" for n in range(2000)]
    assert [message.parent_id for message in said] == [None, *range(1, 2000)]


# ---- ChatGPT ---------------------------------------------------------------------------------------------


async def test_an_answer_is_one_message_with_its_thoughts_and_tools(world: World) -> None:
    recap = {"content_type": "reasoning_recap", "content": "Thought for 8s"}
    bring = await of_chatgpt(
        world,
        node("q", "root", text="How many?"),
        node("empty", "q", "assistant", "", end_turn=None),
        thoughts("t", "empty", ("Counting", "I have to count."), ("", "Slowly.")),
        tool_call("c", "t", "python", "print(```7```)"),
        tool_result("r", "c", "python", "7"),
        node("recap", "r", "assistant", content=recap, end_turn=False),
        node("a", "recap", "assistant", "Seven."),
        node("q2", "a", text="Sure?"),
        node("a2", "q2", "assistant", "Yes."),
    )
    assert [message.role for message in bring.messages] == [Role.USER, Role.ASSISTANT, Role.USER, Role.ASSISTANT]
    answer = bring.messages[1]
    assert answer.reasoning == "Counting\n\nI have to count.\n\nSlowly.\n\nThought for 8s"
    assert answer.content == (
        "[Tool call: python]\n\n````\nprint(```7```)\n````\n\n[Tool result: python]\n\n```\n7\n```\n\nSeven."
    )
    assert bring.messages[2].parent_id == answer.id
    assert bring.left_out == {"empty message": 1}


async def test_a_fork_within_an_answer_is_one(world: World) -> None:
    bring = await of_chatgpt(
        world,
        node("q", "root", text="How many?"),
        thoughts("t", "q", ("", "Hm.")),
        node("a1", "t", "assistant", "Seven."),
        node("a2", "t", "assistant", "Eight."),
        current="a1",
    )
    assert [(m.reasoning, m.content) for m in bring.messages] == [
        (None, "How many?"),
        ("Hm.", ""),
        (None, "Seven."),
        (None, "Eight."),
    ]
    assert [m.content for m in await bring.shown()] == ["How many?", "", "Seven."]


async def test_two_answers_in_a_row_are_two(world: World) -> None:
    bring = await of_chatgpt(world, node("a", "root", "assistant", "One."), node("b", "a", "assistant", "Two."))
    assert bring.texts() == ["One.", "Two."]


async def test_images_and_files_leave_a_note(world: World) -> None:
    painted = {**image("file-service://file-9"), "metadata": {"dalle": {"prompt": "A unicorn"}}}
    voice = {"content_type": "audio_transcription", "text": "Hello there", "direction": "in"}
    sound = {"content_type": "audio_asset_pointer", "asset_pointer": "sediment://file_2", "format": "wav"}
    both = {"content_type": "real_time_user_audio_video_asset_pointer", "audio_asset_pointer": sound}
    attachments = [
        {"id": "file_0001", "name": "photo.jpg", "mime_type": "image/jpeg"},
        {"id": "file_3", "name": "plan.pdf", "mime_type": "application/pdf", "size": 9},
    ]
    bring = await of_chatgpt(
        world,
        node(
            "q",
            "root",
            content={"content_type": "multimodal_text", "parts": [image(), "What is it?", voice, sound, both]},
            metadata={"attachments": attachments},
        ),
        node(
            "a",
            "q",
            "tool",
            author={"role": "tool", "name": "dalle.text2im"},
            content={"content_type": "multimodal_text", "parts": [painted]},
        ),
    )
    question, answer = bring.texts()
    assert question == (
        "[Image: sediment://file_0001, 708×1536]\nWhat is it?\nHello there\n[Audio: sediment://file_2]\n"
        "[Audio: sediment://file_2]\n\n[File: plan.pdf]"
    )
    assert answer == "[Tool result: dalle.text2im]\n\n[Image: file-service://file-9, 708×1536, A unicorn]"
    assert bring.left_out == {"image": 2, "audio": 2, "file": 1}


UNUSUAL = {
    "a quotation": (
        {"content_type": "tether_quote", "url": "https://a.test", "domain": "a", "text": "Quoted", "title": "T"},
        ["Quoted", "T", "https://a.test"],
    ),
    "a page": (
        {"content_type": "tether_browsing_display", "result": "A page", "summary": "Short"},
        ["A page", "Short"],
    ),
    "an error": ({"content_type": "system_error", "name": "E", "text": "It broke"}, ["It broke"]),
    "something new": ({"content_type": "hologram", "light": {"seen": "a cat"}}, ["hologram", "a cat"]),
    "something new with a text": ({"content_type": "hologram", "text": "a cat"}, ["a cat"]),
    "something new between texts": (
        {"content_type": "multimodal_text", "parts": ["Before", {"content_type": "smell", "of": "roses"}, "After"]},
        ["Before", "smell", "roses", "After"],
    ),
    "an old part": ({"content_type": "code", "parts": ["print(1)"]}, ["print(1)"]),
    "thoughts in parts": ({"content_type": "thoughts", "parts": ["Hm"]}, []),
    "a widget's value": ({"content_type": "text", "parts": [{"a": "b"}]}, ['"a": "b"']),
}


@pytest.mark.parametrize(("content", "texts"), UNUSUAL.values(), ids=UNUSUAL)
async def test_what_is_unusual_is_text(world: World, content: Any, texts: list[str]) -> None:
    bring = await of_chatgpt(world, node("a", "root", "assistant", content=content))
    (message,) = bring.messages
    for text in texts:
        assert text in message.content
    assert texts or message.reasoning == "Hm"


async def test_what_was_hidden_and_what_was_deleted_is_told_and_what_follows_stays_in_its_place(world: World) -> None:
    instructions = {"content_type": "user_editable_context", "user_profile": "An SRE.", "user_instructions": "Short."}
    bring = await of_chatgpt(
        world,
        hidden("s", "root"),
        node("c", "s", content=instructions, metadata={"is_visually_hidden_from_conversation": True}),
        node("q", "c", text="Hello"),
        hidden("h", "q", "tool", "secret"),
        joint("deleted", "h"),
        node("a", "deleted", "assistant", "Hi", weight=0.0),
        hidden("late", "a", "user", "x"),
        current="late",
    )
    assert bring.texts() == ["Hello", "Hi"]
    assert [m.content for m in await bring.shown()] == ["Hello", "Hi"]
    assert bring.left_out == {"empty message": 1, "custom instructions": 1, "hidden message": 2}


async def test_citations_are_links(world: World) -> None:
    marked = "\ue200cite\ue202turn0search1\ue201"
    references = [{"matched_text": marked, "type": "grouped_webpages", "alt": "([Site](https://a.test))"}]
    bring = await of_chatgpt(
        world,
        node(
            "a",
            "root",
            "assistant",
            f"So it is {marked}, and so {marked}.",
            metadata={"content_references": references},
        ),
    )
    assert bring.texts() == ["So it is ([Site](https://a.test)), and so ."]


@pytest.mark.parametrize(
    ("status", "kept"),
    [
        ("finished_successfully", Status.COMPLETE),
        ("in_progress", Status.INTERRUPTED),
        ("finished_partial_completion", Status.STOPPED),
        ("something", Status.COMPLETE),
    ],
)
async def test_an_answer_that_was_not_finished_is_known_for_it(world: World, status: str, kept: Status) -> None:
    bring = await of_chatgpt(
        world, node("q", "root", text="Q", status=status), node("a", "q", "assistant", "A", status=status)
    )
    assert [m.status for m in bring.messages] == [Status.COMPLETE, kept]


# ---- Open WebUI ------------------------------------------------------------------------------------------

REASONING = (
    '<details type="reasoning" done="true" duration="5">\n<summary>Thought for 5 seconds</summary>\n'
    "&gt; I have to\n&gt; count.\n</details>\n"
)
TOOL = (
    '<details type="tool_calls" done="true" id="c1" name="get_weather" '
    'arguments="{&quot;city&quot;: &quot;Paris&quot;}" result="&quot;18C&quot;" files="" embeds="">\n'
    "<summary>Tool Executed</summary>\n</details>\n"
)


async def test_reasoning_and_tools_of_open_webui(world: World) -> None:
    kept = "<details><summary>More</summary>of the answer</details>"
    bring = await brought(
        world,
        raw(
            [
                open_webui(
                    web_message(
                        "q", None, "user", "How many?", files=[{"type": "image", "url": "data:image/png;base64,AA"}]
                    ),
                    web_message(
                        "a",
                        "q",
                        "assistant",
                        REASONING + TOOL + "Seven.\n" + kept,
                        sources=[{"source": {"name": "plan.pdf"}, "document": ["x" * 99], "metadata": [{}]}],
                    ),
                    params={"system": "Be short."},
                )
            ]
        ),
    )
    question, answer = bring.messages
    assert question.content == "[Image]\n\nHow many?"
    assert answer.reasoning == "I have to\ncount."
    assert answer.content == (
        '[Tool call: get_weather]\n\n```\n{"city": "Paris"}\n```\n\n```\n"18C"\n```\n\nSeven.\n'
        + kept
        + "\n\n[Sources: plan.pdf]"
    )
    assert bring.left_out == {"image": 1, "system prompt": 1}


async def test_the_newer_form_of_open_webui_and_parts(world: World) -> None:
    output = [
        {"type": "reasoning", "content": [{"type": "output_text", "text": "Hm."}]},
        {"type": "function_call", "name": "get_weather", "arguments": "{}", "call_id": "1"},
        {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_text", "text": "18C"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "It is 18C."}]},
    ]
    parts = [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": "data:x"}}]
    bring = await brought(
        world,
        raw([open_webui(web_message("q", None, "user", parts), web_message("a", "q", "assistant", "", output=output))]),
    )
    question, answer = bring.messages
    assert question.content == "Look\n[Image]"
    assert answer.reasoning == "Hm."
    assert answer.content == "[Tool call: get_weather]\n\n```\n{}\n```\n\n[Tool result]\n\n```\n18C\n```\n\nIt is 18C."


@pytest.mark.parametrize("error", ["Too slow", {"content": "Too slow"}, {"message": "Too slow"}])
async def test_failed_and_unfinished_answers_of_open_webui(world: World, error: Any) -> None:
    bring = await brought(
        world,
        raw(
            [
                open_webui(
                    web_message("q", None, "user", "Q"),
                    web_message("a", "q", "assistant", "", error=error),
                    web_message("b", "q", "assistant", "Half", done=False),
                )
            ]
        ),
    )
    _, failed, half = bring.messages
    assert (failed.status, failed.error) == (Status.FAILED, Failure(code="imported", detail="Too slow"))
    assert (half.status, half.content) == (Status.INTERRUPTED, "Half")


async def test_chats_from_before_there_were_branches(world: World) -> None:
    chat = {"title": "Old", "messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}
    bring = await brought(world, raw([{"id": 1, "chat": chat, "title": "Old"}]))
    assert [(m.role, m.content) for m in bring.messages] == [(Role.USER, "Q"), (Role.ASSISTANT, "A")]
    assert bring.messages[1].parent_id == bring.messages[0].id
    assert bring.conversations[0].conversation.created_at == NOW


# ---- LibreChat -------------------------------------------------------------------------------------------


async def test_the_parts_of_librechat(world: World) -> None:
    call = {"name": "search", "args": '{"q": 1}', "output": "Found it", "type": "tool_call"}
    interpreter = {"type": "code_interpreter", "code_interpreter": {"input": "print(7)", "outputs": []}}
    content = [
        {"type": "think", "think": "Hm."},
        {"type": "text", "text": {"value": "Let me look."}},
        {"type": "tool_call", "tool_call": call},
        {"type": "tool_call", "tool_call": interpreter},
        {"type": "image_file", "image_file": {"filename": "cat.png", "filepath": "/images/cat.png"}},
        {"type": "hologram", "of": "a cat"},
        {"type": "text", "text": "Done."},
        None,
    ]
    bring = await brought(
        world,
        raw(
            librechat(
                libre_message("q", None, "user", "Look", files=[{"type": "application/pdf", "filename": "plan.pdf"}]),
                libre_message("a", "q", "assistant", "", content=content),
                libre_message("b", "a", "assistant", ":::thinking\nI think\n:::\n\nSo it is."),
                options={"promptPrefix": "Be short."},
            )
        ),
    )
    question, answer, older = bring.messages
    assert question.content == "[File: plan.pdf]\n\nLook"
    assert answer.reasoning == "Hm."
    assert answer.content == (
        'Let me look.\n\n[Tool call: search]\n\n```\n{"q": 1}\n```\n\n```\nFound it\n```\n\n'
        "[Tool call: code_interpreter]\n\n```\nprint(7)\n```\n\n[Image: cat.png]\n\n"
        '{\n  "type": "hologram",\n  "of": "a cat"\n}\n\nDone.'
    )
    assert (older.reasoning, older.content) == ("I think", "So it is.")
    assert bring.left_out == {"file": 1, "image": 1, "system prompt": 1}


async def test_failed_and_stopped_answers_of_librechat(world: World) -> None:
    bring = await brought(
        world,
        raw(
            librechat(
                libre_message("q", None, "user", "Q"),
                libre_message("a", "q", "assistant", "It is down", error=True),
                libre_message("b", "q", "assistant", None, content=[{"type": "error", "error": "Too slow"}]),
                libre_message("c", "q", "assistant", "Half", unfinished=True),
            )
        ),
    )
    _, down, slow, half = bring.messages
    assert [m.status for m in (down, slow, half)] == [Status.FAILED, Status.FAILED, Status.STOPPED]
    assert [m.error and m.error.detail for m in (down, slow)] == ["It is down", "Too slow"]


# ---- what is not taken -----------------------------------------------------------------------------------


async def test_the_fragments_of_deepseek(world: World) -> None:
    came = await brought(
        world,
        raw(
            [
                deepseek(
                    deepseek_node("1", "root", ("REQUEST", "Hello?"), files=["a.pdf"]),
                    deepseek_node("2", "1", ("SEARCH", ""), ("THINK", "Hm"), ("RESPONSE", "Hello"), ("RESPONSE", "!")),
                    deepseek_node("3", "2"),
                )
            ]
        ),
    )
    asked, answer = came.messages
    assert (asked.role, asked.content, asked.model) == (Role.USER, "[File: a.pdf]\n\nHello?", None)
    assert (answer.role, answer.reasoning, answer.content) == (Role.ASSISTANT, "Hm", "Hello\n\n!")
    assert (answer.model, answer.created_at) == ("deepseek-reasoner", THEN)
    assert came.left_out == {"file": 1, "search": 1, "empty message": 1}


async def test_a_conversation_without_messages_is_refused_and_no_other(world: World) -> None:
    broken = {"title": "Corrupted", "create_time": 1, "id": "x"}
    bring = await brought(world, raw([made.chatgpt_talk(), broken, 5, None, made.chatgpt_talk()]))
    assert bring.imported.conversations == 2
    assert [(refusal.title, refusal.reason.partition(":")[0]) for refusal in bring.imported.refused] == [
        ("Corrupted", "has no messages"),
        ("", "has no messages"),
        ("", "has no messages"),
    ]


async def test_too_many_messages_refuse_their_conversation_by_its_title(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_import, "MAX_MESSAGES", 10)
    many = [node(str(n), str(n - 1), text="x") for n in range(11)]
    bring = await brought(world, raw([chatgpt(*many, title="Many"), made.chatgpt_talk()]))
    assert [(refusal.title, refusal.line) for refusal in bring.imported.refused] == [("Many", None)]
    assert bring.imported.conversations == 1


@pytest.mark.parametrize("cut", [1, 100, 500])
async def test_what_is_complete_before_a_cut_is_imported(world: World, cut: int) -> None:
    bring = await brought(world, raw([made.chatgpt_talk(), made.chatgpt_talk()])[:-cut])
    assert bring.imported.conversations == (2 if cut == 1 else 1)
    assert bring.imported.refusals == 1
    assert "cut off" in bring.imported.refused[0].reason


NONE = {
    "nothing": b"",
    "blanks": b"  \n",
    "a number": b"5",
    "no JSON": b"nonsense",
    "another's": raw([{"uuid": 1, "chat_messages": []}]),
    "an empty object": b"{}",
    "deep": b"[" * 100_000,
    "an archive that is none": b"PK\x03\x04nonsense",
}


@pytest.mark.parametrize("content", NONE.values(), ids=NONE)
async def test_what_is_no_history_is_refused(content: bytes) -> None:
    with pytest.raises(ValidationFailed):
        await lines_of(content)


@pytest.mark.parametrize("format_", [Format.CHATGPT, Format.OPENWEBUI, Format.LIBRECHAT])
async def test_a_format_that_is_named_is_the_one(world: World, format_: Format) -> None:
    content = {Format.CHATGPT: "chatgpt", Format.OPENWEBUI: "openwebui", Format.LIBRECHAT: "librechat"}
    bring = await brought(world, TALKS[content[format_]], format_)
    assert bring.imported.messages == 7
    other = await brought(World(), TALKS["librechat" if format_ is Format.CHATGPT else "chatgpt"], format_)
    assert (other.imported.conversations, other.imported.refusals) == (0, 1)


async def test_an_export_without_conversations_is_empty(world: World) -> None:
    bring = await brought(world, b"[]")
    assert (bring.imported.conversations, bring.imported.refusals) == (0, 0)


# ---- archives --------------------------------------------------------------------------------------------


async def test_an_archive_that_unpacks_to_too_much_is_read_no_further(world: World) -> None:
    talks = [raw([chatgpt(node("q", None, text="x" * 100_000), title=str(n))]) for n in range(5)]
    packed = made.archive({f"conversations-{n:03}.json": talk for n, talk in enumerate(talks)})
    bring = await brought(world, packed, longest=350_000)
    assert bring.imported.conversations == 3
    assert {refusal.reason for refusal in bring.imported.refused} == {"is more than may be unpacked of one archive"}


async def test_an_archive_with_too_many_files_is_refused_before_they_are_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(archive_module, "LARGEST_DIRECTORY", 2000)
    with pytest.raises(ValidationFailed):
        await lines_of(made.archive({f"{n}.json": b"[]" for n in range(100)}))
    assert await lines_of(made.archive({f"{n}.json": b"[]" for n in range(10)}))


async def test_a_file_of_an_archive_that_is_damaged_is_refused_and_no_other(world: World) -> None:
    good, bad = raw([made.chatgpt_talk()]), raw([chatgpt(node("q", None, text="DAMAGED"))])
    packed = made.archive({"conversations-000.json": good, "conversations-001.json": bad}, compression=0)
    bring = await brought(world, packed.replace(b"DAMAGED", b"changed"))
    assert bring.imported.conversations == 1
    assert [(refusal.title, refusal.reason) for refusal in bring.imported.refused] == [
        ("conversations-001.json", "is damaged in the archive")
    ]


async def test_other_json_in_an_archive_is_refused_by_name(world: World) -> None:
    packed = made.archive({"a.json": raw(made.librechat_talk()), "b.json": b'{"x": 1}'})
    bring = await brought(world, packed)
    assert bring.imported.conversations == 1
    assert [refusal.title for refusal in bring.imported.refused] == ["b.json"]


# ---- out -------------------------------------------------------------------------------------------------


async def test_what_chatgpts_readers_look_for_is_there(world: World) -> None:
    await of_chatgpt(
        world,
        node("q", "root", text="Q"),
        thoughts("t", "q", ("", "Hm.")),
        node("a", "t", "assistant", "A"),
        node("q2", "a", text="Q2"),
    )
    (conversation,) = json.loads(await openai_of(world))
    mapping, at, texts = conversation["mapping"], conversation["current_node"], list[str]()
    while at is not None:
        here = mapping[at]
        parent = here["parent"]
        assert parent is None or at in mapping[parent]["children"]
        if here["message"]:
            texts.append("".join(here["message"]["content"].get("parts", ["(thoughts)"])))
        at = parent
    assert texts == ["Q2", "A", "(thoughts)", "Q"]
    assert mapping.keys() == {id_ for each in mapping.values() for id_ in each["children"]} | {"root"}
    assert conversation["title"] == "Paris"


async def test_markdown_has_every_message_and_says_where_a_branch_begins(world: World) -> None:
    await brought(world, TALKS["chatgpt"])
    caller = await world.caller(await world.sign_in_again("ada"))
    things = ExportOwnData(unit_of_work=world.storage)(by=caller, branches=True)
    text = b"".join([piece async for piece in as_markdown(things)]).decode()
    assert (
        text.index("# Paris") < text.index("## 1. User, 2025-05-04 03:02 UTC") < text.index("## 3. Assistant (gpt-5)")
    )
    for said in TALK:
        assert text.count(f"\n{said}\n") == 1
    assert "## 4. Assistant (gpt-5), 2025-05-04 03:02 UTC\n\n*Follows message 1.*\n\nParis it is." in text
    assert "*Another beginning.*\n\nTo Rome" in text
    assert "Rome.\n\n*The branch that is shown ends here.*" in text


async def test_nothing_at_all_is_exported_well(world: World) -> None:
    await world.owner("ada")
    assert json.loads(await openai_of(world)) == []
