"""`Chat` and `UseCases`, as an embedding program has them."""

import pytest

from chatcore import USE_CASES, Chat, ChatDefaults, Register, SendMessage, SessionPolicy, UseCases, Vouched
from chatcore.issuing import SessionIssuer
from chatcore_memory import HandClock, MemoryDatabase, PlainCipher, PlainPasswords, PlainSigner, ScriptedModel
from unit.world import PASSWORD, SERVER_MODEL, World, read


def test_each_use_case_is_named_after_its_class(world: World) -> None:
    for name, kind in USE_CASES.items():
        assert name.replace("_", "") == kind.__name__.lower()


async def test_a_chat_has_all_that_its_parts_allow() -> None:
    clock = HandClock()
    database = MemoryDatabase(clock)
    async with Chat(
        store=database,
        gateway=ScriptedModel("Hello"),
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
