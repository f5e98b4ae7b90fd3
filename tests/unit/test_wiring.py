"""`Chat` and `UseCases`, as an embedding program has them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import chatcore
from chatcore import USE_CASES, Chat, ChatDefaults, Register, SendMessage, SessionPolicy, UseCases, Vouched
from chatcore.issuing import SessionIssuer
from chatcore.ports import ModelEndpoint, OpenAnswer
from chatcore_memory import (
    HandClock,
    MemoryDatabase,
    PlainCipher,
    PlainPasswords,
    PlainSigner,
    ScriptedModel,
    ScriptedRelay,
)
from unit.world import PASSWORD, SERVER_MODEL, World, read

SOURCE = Path(__file__).parents[2] / "src"


class Everything(ScriptedModel):
    """A gateway that is a relay, too."""

    async def relay(self, endpoint: ModelEndpoint, path: str, body: bytes) -> OpenAnswer:
        return await ScriptedRelay(b"{}").relay(endpoint, path, body)


def test_each_use_case_is_named_after_its_class(world: World) -> None:
    for name, kind in USE_CASES.items():
        assert name.replace("_", "") == kind.__name__.lower()


async def test_a_chat_has_all_that_its_parts_allow() -> None:
    clock = HandClock()
    database = MemoryDatabase(clock)
    async with Chat(
        store=database,
        gateway=Everything("Hello"),
        cipher=PlainCipher(),
        clock=clock,
        passwords=PlainPasswords(),
        signer=PlainSigner(),
        session_policy=SessionPolicy(refresh_secret=b"refresh secret"),
        defaults=ChatDefaults(model=SERVER_MODEL),
    ) as chat:
        do = chat.use_cases
        for name, kind in USE_CASES.items():
            assert isinstance(getattr(do, name), kind)
        assert do.sign_in.sessions is do.register.sessions is do.refresh.sessions
        ada = await do.register(username="ada", email=None, password=PASSWORD)
        me = Vouched(ada.user.id)
        conversation = await do.create_conversation(by=me)
        sent = await do.send_message(by=me, conversation_id=conversation.id, content="Hello?")
        told = await read(do.follow_reply(owner=ada.user.id, conversation_id=conversation.id, reply_id=sent.reply.id))
        assert told.text == "Hello"


async def test_what_a_use_case_lacks_is_named() -> None:
    clock = HandClock()
    do = Chat(store=MemoryDatabase(clock), gateway=ScriptedModel(), cipher=PlainCipher()).use_cases
    assert isinstance(do.send_message, SendMessage)
    with pytest.raises(LookupError, match="Register needs PasswordHasher"):
        _ = do.register
    with pytest.raises(AttributeError, match="'regster'"):
        _ = do.regster  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def test_what_has_a_default_keeps_it_unless_there_is_a_part(world: World) -> None:
    others = UseCases(world.parts())
    assert others.search_conversations.connections is not world.search_conversations.connections
    assert others.search_conversations.limits is world.limits
    assert isinstance(others.register, Register)
    assert isinstance(others.register.sessions, SessionIssuer)


def test_what_is_not_used_is_not_imported() -> None:
    """Nor is anything but Python, whatever is used."""
    said = (
        "import sys; before = set(sys.modules); import chatcore; print(*sorted(set(sys.modules) - before)); "
        "[getattr(chatcore, name) for name in chatcore.__all__]; "
        "print(*{name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    )
    done = subprocess.run([sys.executable, "-S", "-c", said], cwd=SOURCE, capture_output=True, text=True, check=True)
    first, all_of_it = done.stdout.splitlines()
    assert "chatcore" in first.split()
    assert not [name for name in first.split() if name.startswith(("chatcore.", "asyncio"))]
    assert set(all_of_it.split()) <= {"chatcore", "__main__"}


def test_all_names_are_there() -> None:
    listed = re.findall(
        r"^    from chatcore\.[\w.]+ import (\w+) as \1$", (SOURCE / "chatcore/__init__.py").read_text(), re.MULTILINE
    )
    assert sorted(listed) == sorted(vars(chatcore)["__all__"])
    for name in listed:
        assert getattr(chatcore, name) is not None
    assert chatcore.__version__
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = chatcore.nonsense  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType, reportUnknownMemberType]
