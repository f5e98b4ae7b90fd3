"""Each user's own model endpoints."""

import pytest

from chatcore import ModelConfigId, UserId
from chatcore.errors import NotFound, ValidationFailed
from unit.world import World

URL, KEY = "https://own.test/v1", "sk-proj-0123456789abcd"
NOWHERE = ModelConfigId(999)


@pytest.fixture
async def ada(world: World) -> UserId:
    return await world.owner("ada")


@pytest.fixture
async def bob(world: World) -> UserId:
    return await world.owner("bob")


async def test_a_configuration_is_stored_with_its_key_sealed(world: World, ada: UserId) -> None:
    config = await world.create_config(owner=ada, model_url=URL, model_name="gpt 🦄", api_key=KEY)
    assert (config.user_id, config.model_url, config.model_name, config.api_key_hint) == (ada, URL, "gpt 🦄", "abcd")
    assert config.created_at == config.updated_at == world.clock.now()
    assert await world.list_configs(owner=ada) == [config]
    assert KEY not in config.sealed_key
    assert world.cipher.open(config.sealed_key, owner=ada, config_id=config.id) == KEY


async def test_neither_key_nor_seal_shows_in_a_representation(world: World, ada: UserId) -> None:
    config = await world.create_config(owner=ada, model_url=URL, model_name="gpt", api_key=KEY)
    assert KEY not in repr(config)
    assert config.sealed_key not in repr(config)


async def test_a_key_may_be_empty(world: World, ada: UserId) -> None:
    config = await world.create_config(owner=ada, model_url=URL, model_name="gpt", api_key="")
    assert (config.sealed_key, config.api_key_hint) == ("", "")


async def test_a_key_is_sealed_for_its_owner_and_its_configuration(world: World, ada: UserId, bob: UserId) -> None:
    first, second = [await world.config(ada, name, KEY) for name in ("first", "second")]
    assert first.sealed_key != second.sealed_key
    for owner, config_id in ((bob, first.id), (ada, second.id)):
        with pytest.raises(ValueError, match="does not open"):
            world.cipher.open(first.sealed_key, owner=owner, config_id=config_id)


async def test_the_newest_comes_first(world: World, ada: UserId) -> None:
    names = ["one", "two", "three"]
    for name in names:
        await world.config(ada, name)
    assert [config.model_name for config in await world.list_configs(owner=ada)] == names[::-1]


async def test_an_update_changes_what_is_given_and_keeps_the_rest(world: World, ada: UserId) -> None:
    config = await world.config(ada, "gpt", KEY)
    world.clock.advance(60)
    named = await world.update_config(owner=ada, config_id=config.id, model_name="new")
    assert (named.model_name, named.model_url, named.sealed_key) == ("new", config.model_url, config.sealed_key)
    assert (named.created_at, named.updated_at) == (config.created_at, world.clock.now())
    moved = await world.update_config(owner=ada, config_id=config.id, model_url="http://other.test")
    assert (moved.model_name, moved.model_url, moved.api_key_hint) == ("new", "http://other.test", "abcd")
    keyed = await world.update_config(owner=ada, config_id=config.id, api_key="sk-another-key-wxyz")
    assert (keyed.model_url, keyed.api_key_hint) == ("http://other.test", "wxyz")
    assert world.cipher.open(keyed.sealed_key, owner=ada, config_id=config.id) == "sk-another-key-wxyz"
    assert await world.list_configs(owner=ada) == [keyed]


async def test_a_key_can_be_taken_away(world: World, ada: UserId) -> None:
    config = await world.config(ada, "gpt", KEY)
    updated = await world.update_config(owner=ada, config_id=config.id, api_key="")
    assert (updated.sealed_key, updated.api_key_hint) == ("", "")


async def test_a_configuration_is_forgotten(world: World, ada: UserId) -> None:
    config = await world.config(ada)
    await world.delete_config(owner=ada, config_id=config.id)
    assert await world.list_configs(owner=ada) == []
    with pytest.raises(NotFound):
        await world.delete_config(owner=ada, config_id=config.id)


async def test_conversations_outlive_their_configuration(world: World, ada: UserId) -> None:
    config = await world.config(ada)
    conversation = await world.create_conversation(owner=ada, config_id=config.id)
    await world.delete_config(owner=ada, config_id=config.id)
    page = await world.list_conversations(owner=ada)
    assert [(found.id, found.config_id) for found in page.items] == [(conversation.id, None)]


async def test_anothers_and_a_missing_one_look_the_same(world: World, ada: UserId, bob: UserId) -> None:
    adas = await world.config(ada, "gpt", KEY)
    details: set[str] = set()
    for config_id in (adas.id, NOWHERE):
        for attempt in (
            world.update_config(owner=bob, config_id=config_id, model_url="http://evil.test"),
            world.delete_config(owner=bob, config_id=config_id),
            world.create_conversation(owner=bob, config_id=config_id),
        ):
            with pytest.raises(NotFound) as raised:
                await attempt
            details.add(raised.value.detail)
    assert details == {"There is no such model configuration."}
    assert await world.list_configs(owner=bob) == []
    assert await world.list_configs(owner=ada) == [adas]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_url", "ftp://own.test"),
        ("model_url", ""),
        ("model_name", ""),
        ("model_name", "  "),
        ("model_name", "x" * 201),
        ("model_name", "a\0b"),
        ("api_key", "x" * 4097),
        ("api_key", "sk 1"),
        ("api_key", "sk\n1"),
        ("api_key", "sk\r\nHost: evil.test"),
        ("api_key", "schlüssel"),
        ("api_key", "\ud800"),
        ("api_key", "sk\x7f"),
    ],
)
async def test_a_value_that_breaks_a_rule_is_named(world: World, ada: UserId, field: str, value: str) -> None:
    config = await world.config(ada)
    with pytest.raises(ValidationFailed) as created:
        await world.create_config(owner=ada, **{"model_url": URL, "model_name": "gpt", "api_key": KEY} | {field: value})
    with pytest.raises(ValidationFailed) as updated:
        await world.update_config(owner=ada, config_id=config.id, **{field: value})
    for error in (created.value, updated.value):
        assert [broken.field for broken in error.errors] == [field]
        assert not value.strip() or value not in error.detail
    assert await world.list_configs(owner=ada) == [config]


async def test_every_broken_rule_is_named_at_once(world: World, ada: UserId) -> None:
    with pytest.raises(ValidationFailed) as raised:
        await world.create_config(owner=ada, model_url="x", model_name="", api_key=" ")
    assert [error.field for error in raised.value.errors] == ["model_url", "model_name", "api_key"]


async def test_bounds_that_hold(world: World, ada: UserId) -> None:
    config = await world.create_config(owner=ada, model_url=URL, model_name="🦄" * 200, api_key="k" * 4096)
    assert len(config.model_name) == 200
    assert world.cipher.open(config.sealed_key, owner=ada, config_id=config.id) == "k" * 4096
