"""Each user's own model endpoints."""

import asyncio
from dataclasses import replace

import pytest

from chatcore import CheckModelConfig, ModelConfigId, ModelEndpoint, Rate, RateLimits, UserId, Vouched
from chatcore.entities import Failure, FinishReason
from chatcore.errors import (
    ModelError,
    ModelNotConfigured,
    ModelNotFound,
    ModelProtocolError,
    ModelRefused,
    ModelTimeout,
    ModelUnauthorized,
    ModelUnavailable,
    NotFound,
    RateLimited,
    TooManyModelConfigs,
    ValidationFailed,
)
from chatcore.ports import Delta, Purpose
from chatcore.use_cases import model_configs
from chatcore_memory import MemoryLimiter, PlainCipher, Stall
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
    config = await world.create_model_config(by=Vouched(ada), model_url=URL, model_name="gpt 🦄", api_key=KEY)
    assert (config.user_id, config.model_url, config.model_name, config.api_key_hint) == (ada, URL, "gpt 🦄", "abcd")
    assert config.created_at == config.updated_at == world.clock.now()
    assert (await world.list_model_configs(owner=ada)).items == [config]
    assert KEY not in config.sealed_key
    assert world.cipher.open(config.sealed_key, owner=ada, config_id=config.id) == KEY


async def test_neither_key_nor_seal_shows_in_a_representation(world: World, ada: UserId) -> None:
    config = await world.create_model_config(by=Vouched(ada), model_url=URL, model_name="gpt", api_key=KEY)
    assert KEY not in repr(config)
    assert config.sealed_key not in repr(config)


async def test_a_user_may_have_so_many(world: World, ada: UserId, bob: UserId, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_configs, "MAX_CONFIGS", 2)
    first, _ = [
        await world.create_model_config(by=Vouched(ada), model_url=URL, model_name="gpt", api_key="") for _ in range(2)
    ]
    with pytest.raises(TooManyModelConfigs):
        await world.create_model_config(by=Vouched(ada), model_url=URL, model_name="gpt", api_key="")
    await world.create_model_config(by=Vouched(bob), model_url=URL, model_name="gpt", api_key="")
    await world.delete_model_config(by=Vouched(ada), config_id=first.id)
    await world.create_model_config(by=Vouched(ada), model_url=URL, model_name="gpt", api_key="")


async def test_a_key_may_be_empty(world: World, ada: UserId) -> None:
    config = await world.create_model_config(by=Vouched(ada), model_url=URL, model_name="gpt", api_key="")
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
    assert [config.model_name for config in (await world.list_model_configs(owner=ada)).items] == names[::-1]


async def test_an_update_changes_what_is_given_and_keeps_the_rest(world: World, ada: UserId) -> None:
    config = await world.config(ada, "gpt", KEY)
    world.clock.advance(60)
    named = await world.update_model_config(by=Vouched(ada), config_id=config.id, model_name="new")
    assert (named.model_name, named.model_url, named.sealed_key) == ("new", config.model_url, config.sealed_key)
    assert (named.created_at, named.updated_at) == (config.created_at, world.clock.now())
    moved = await world.update_model_config(by=Vouched(ada), config_id=config.id, model_url="https://own.test/v2")
    assert (moved.model_name, moved.model_url, moved.api_key_hint) == ("new", "https://own.test/v2", "abcd")
    keyed = await world.update_model_config(by=Vouched(ada), config_id=config.id, api_key="sk-another-key-wxyz")
    assert (keyed.model_url, keyed.api_key_hint) == ("https://own.test/v2", "wxyz")
    assert world.cipher.open(keyed.sealed_key, owner=ada, config_id=config.id) == "sk-another-key-wxyz"
    assert (await world.list_model_configs(owner=ada)).items == [keyed]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("https://own.test/v1", "https://own.test/v1"),
        ("https://own.test/v1", "https://own.test/v2/more/"),
        ("https://own.test/v1", "https://own.test"),
        ("https://own.test/v1", "https://OWN.Test/v1"),
        ("https://own.test/v1", "HTTPS://own.test/v1"),
        ("https://own.test/v1", "https://own.test:443/v1"),
        ("http://own.test:80/v1", "http://own.test/v1"),
        ("http://own.test:8000/v1", "http://OWN.test:8000/v2"),
        ("http://[::1]:80/v1", "http://[::1]/v1"),
    ],
)
async def test_a_url_of_the_same_origin_keeps_the_key(world: World, ada: UserId, before: str, after: str) -> None:
    config = await world.create_model_config(by=Vouched(ada), model_url=before, model_name="gpt", api_key=KEY)
    updated = await world.update_model_config(by=Vouched(ada), config_id=config.id, model_url=after)
    assert (updated.model_url, updated.api_key_hint) == (after, "abcd")
    assert world.cipher.open(updated.sealed_key, owner=ada, config_id=config.id) == KEY
    assert (await world.list_model_configs(owner=ada)).items == [updated]


ELSEWHERE = [
    "http://own.test/v1",
    "https://own.test:8443/v1",
    "https://own.test:80/v1",
    "https://other.test/v1",
    "https://evil.own.test/v1",
    "https://own.test.evil.test/v1",
    "https://own/v1",
    "http://[::1]/v1",
]


@pytest.mark.parametrize("url", ELSEWHERE)
async def test_a_url_of_another_origin_forgets_the_key(world: World, ada: UserId, url: str) -> None:
    config = await world.create_model_config(by=Vouched(ada), model_url=URL, model_name="gpt", api_key=KEY)
    updated = await world.update_model_config(by=Vouched(ada), config_id=config.id, model_url=url)
    assert (updated.model_url, updated.sealed_key, updated.api_key_hint) == (url, "", "")
    assert (await world.list_model_configs(owner=ada)).items == [updated]
    back = await world.update_model_config(by=Vouched(ada), config_id=config.id, model_url=URL)
    assert (back.sealed_key, back.api_key_hint) == ("", "")


@pytest.mark.parametrize("url", ELSEWHERE)
async def test_a_key_that_is_sent_along_goes_to_the_other_origin(world: World, ada: UserId, url: str) -> None:
    config = await world.create_model_config(by=Vouched(ada), model_url=URL, model_name="gpt", api_key=KEY)
    updated = await world.update_model_config(
        by=Vouched(ada), config_id=config.id, model_url=url, api_key="sk-other-0123-wxyz"
    )
    assert (updated.model_url, updated.api_key_hint) == (url, "wxyz")
    assert world.cipher.open(updated.sealed_key, owner=ada, config_id=config.id) == "sk-other-0123-wxyz"


async def test_the_same_url_twice_keeps_what_was_never_there(world: World, ada: UserId) -> None:
    config = await world.create_model_config(by=Vouched(ada), model_url=URL, model_name="gpt", api_key="")
    updated = await world.update_model_config(by=Vouched(ada), config_id=config.id, model_url="https://other.test")
    assert (updated.sealed_key, updated.api_key_hint) == ("", "")


# ---- the check -------------------------------------------------------------------------------------------


async def test_a_model_that_answers_is_asked_for_one_token_and_its_endpoint_for_its_models(
    world: World, ada: UserId
) -> None:
    config = await world.config(ada, "gpt", KEY)
    world.model.offers = ["gpt-b", "gpt-a"]
    checked = await world.check_model_config(by=Vouched(ada), config_id=config.id)
    assert (checked.models, checked.failure) == (["gpt-a", "gpt-b"], None)
    (call,) = world.model.calls
    assert call.endpoint == ModelEndpoint(url=config.model_url, model="gpt", api_key=KEY, trusted=False)
    assert (call.endpoint.owner, call.prompt.max_tokens) == (ada, 1)


async def test_an_endpoint_without_a_key_is_asked_without_one(world: World, ada: UserId) -> None:
    config = await world.config(ada, "gpt", "")
    await world.check_model_config(by=Vouched(ada), config_id=config.id)
    assert world.model.calls[0].endpoint.api_key == ""


@pytest.mark.parametrize(
    "error", [ModelUnauthorized("No."), ModelNotFound(), ModelTimeout(), ModelUnavailable(), ModelProtocolError()]
)
async def test_why_the_model_does_not_answer_is_the_answer_though_its_models_are_public(
    world: World, ada: UserId, error: ModelError
) -> None:
    config = await world.config(ada)
    world.model.then(error)
    checked = await world.check_model_config(by=Vouched(ada), config_id=config.id)
    assert (list(checked.models), checked.failure) == ([], Failure(code=error.code, detail=error.detail))
    assert world.model.checks == []


@pytest.mark.parametrize("unlisted", [ModelNotFound(), ModelRefused(), ModelUnauthorized(), ModelTimeout()])
async def test_an_endpoint_need_not_tell_its_models(world: World, ada: UserId, unlisted: ModelError) -> None:
    config = await world.config(ada, "gpt", KEY)
    world.model.offers = unlisted
    checked = await world.check_model_config(by=Vouched(ada), config_id=config.id)
    assert (list(checked.models), checked.failure) == ([], None)


async def test_a_model_that_says_more_than_it_was_asked_for_is_left(world: World, ada: UserId) -> None:
    config = await world.config(ada)
    world.model.then("Hel", Stall())
    checked = await world.check_model_config(by=Vouched(ada), config_id=config.id)
    assert checked.failure is None
    assert world.model.calls[0].ending == "closed"


async def test_a_gateway_knows_whose_check_it_is(world: World, ada: UserId) -> None:
    config = await world.config(ada)
    await world.check_model_config(by=Vouched(ada, "alice", "acme"), config_id=config.id)
    turn = world.model.calls[0].prompt.turn
    assert turn
    assert (turn.purpose, turn.owner, turn.user, turn.tenant) == (Purpose.CHECK, ada, "alice", "acme")


async def test_a_model_that_has_no_word_to_say_answers_too(world: World, ada: UserId) -> None:
    config = await world.config(ada)
    world.model.then(Delta(finish_reason=FinishReason.LENGTH))
    assert (await world.check_model_config(by=Vouched(ada), config_id=config.id)).failure is None


@pytest.mark.parametrize("blank", [" ", "\n", "\t"])
async def test_what_was_pasted_is_put_right(world: World, ada: UserId, blank: str) -> None:
    config = await world.create_model_config(
        by=Vouched(ada),
        model_url=f"{blank}https://example.org/v1/chat/completions{blank}",
        model_name=f"{blank}gpt{blank}",
        api_key=f"{KEY}{blank}",
    )
    assert (config.model_url, config.model_name) == ("https://example.org/v1", "gpt")
    changed = await world.update_model_config(
        by=Vouched(ada),
        config_id=config.id,
        model_url="https://example.org/v2/models ",
        model_name="\ngpt-2",
        api_key=None,
    )
    assert (changed.model_url, changed.model_name) == ("https://example.org/v2", "gpt-2")


async def test_a_check_holds_no_database_connection(world: World, ada: UserId) -> None:
    config = await world.config(ada)
    stall = Stall()
    world.model.offers = ModelNotFound()
    world.model.then(stall)
    checking = asyncio.create_task(world.check_model_config(by=Vouched(ada), config_id=config.id))
    await stall.reached()
    with world.database.outage():
        stall.release()
        assert (await checking).failure is None


async def test_so_many_checks_go_on_at_once_and_no_more(world: World, ada: UserId, bob: UserId) -> None:
    config, other = await world.config(ada), await world.config(bob)
    world.model.offers = ModelNotFound()
    stalls = [Stall() for _ in range(4)]
    for stall in stalls:
        world.model.then(stall)
    checking = [asyncio.create_task(world.check_model_config(by=Vouched(ada), config_id=config.id)) for _ in stalls]
    for stall in stalls:
        await stall.reached()
    with pytest.raises(RateLimited):
        await world.check_model_config(by=Vouched(ada), config_id=config.id)
    assert len(world.model.calls) == 4
    assert (await world.check_model_config(by=Vouched(bob), config_id=other.id)).failure is None
    checking[0].cancel()
    for stall in stalls[1:]:
        stall.release()
    await asyncio.wait(checking)
    for _ in range(5):
        assert (await world.check_model_config(by=Vouched(ada), config_id=config.id)).failure is None


async def test_checks_are_counted_as_messages_are(world: World, ada: UserId) -> None:
    world.set_limits(RateLimits(limiter=MemoryLimiter(world.clock), send=Rate(2, 60)))
    config = await world.config(ada)
    for _ in range(2):
        await world.check_model_config(by=Vouched(ada), config_id=config.id)
    with pytest.raises(RateLimited):
        await world.check_model_config(by=Vouched(ada), config_id=config.id)
    assert len(world.model.calls) == 2


async def test_a_check_ends_in_time(world: World, ada: UserId, monkeypatch: pytest.MonkeyPatch) -> None:
    config = await world.config(ada)
    world.model.offers = ModelNotFound()
    world.model.then(Stall())
    monkeypatch.setattr(CheckModelConfig, "within", 0.01)
    checked = await world.check_model_config(by=Vouched(ada), config_id=config.id)
    assert checked.failure is not None
    assert checked.failure.code == "model_timeout"


async def test_a_key_that_does_not_open_any_more_is_asked_for_again(world: World, ada: UserId) -> None:
    config = await world.config(ada)
    sealed = PlainCipher("a key that was lost").seal("sk-1", owner=ada, config_id=config.id)
    async with world.storage() as work:
        await work.model_configs.save(replace(config, sealed_key=sealed))
        await work.commit()
    with pytest.raises(ModelNotConfigured, match="Send it again"):
        await world.check_model_config(by=Vouched(ada), config_id=config.id)
    assert world.model.calls == []


# ---- the end ---------------------------------------------------------------------------------------------


async def test_a_key_can_be_taken_away(world: World, ada: UserId) -> None:
    config = await world.config(ada, "gpt", KEY)
    updated = await world.update_model_config(by=Vouched(ada), config_id=config.id, api_key="")
    assert (updated.sealed_key, updated.api_key_hint) == ("", "")


async def test_a_configuration_is_forgotten(world: World, ada: UserId) -> None:
    config = await world.config(ada)
    await world.delete_model_config(by=Vouched(ada), config_id=config.id)
    assert (await world.list_model_configs(owner=ada)).items == []
    with pytest.raises(NotFound):
        await world.delete_model_config(by=Vouched(ada), config_id=config.id)


async def test_conversations_outlive_their_configuration(world: World, ada: UserId) -> None:
    config = await world.config(ada)
    conversation = await world.create_conversation(by=Vouched(ada), config_id=config.id)
    await world.delete_model_config(by=Vouched(ada), config_id=config.id)
    page = await world.list_conversations(owner=ada)
    assert [(found.id, found.config_id) for found in page.items] == [(conversation.id, None)]


async def test_anothers_and_a_missing_one_look_the_same(world: World, ada: UserId, bob: UserId) -> None:
    adas = await world.config(ada, "gpt", KEY)
    details: set[str] = set()
    for config_id in (adas.id, NOWHERE):
        for attempt in (
            world.update_model_config(by=Vouched(bob), config_id=config_id, model_url="http://evil.test"),
            world.delete_model_config(by=Vouched(bob), config_id=config_id),
            world.check_model_config(by=Vouched(bob), config_id=config_id),
            world.create_conversation(by=Vouched(bob), config_id=config_id),
        ):
            with pytest.raises(NotFound) as raised:
                await attempt
            details.add(raised.value.detail)
    assert details == {"There is no such model configuration."}
    assert (await world.list_model_configs(owner=bob)).items == []
    assert (await world.list_model_configs(owner=ada)).items == [adas]
    assert world.model.checks == []


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
        await world.create_model_config(
            by=Vouched(ada), **{"model_url": URL, "model_name": "gpt", "api_key": KEY} | {field: value}
        )
    with pytest.raises(ValidationFailed) as updated:
        await world.update_model_config(by=Vouched(ada), config_id=config.id, **{field: value})
    for error in (created.value, updated.value):
        assert [broken.field for broken in error.errors] == [field]
        assert not value.strip() or value not in error.detail
    assert (await world.list_model_configs(owner=ada)).items == [config]


async def test_every_broken_rule_is_named_at_once(world: World, ada: UserId) -> None:
    with pytest.raises(ValidationFailed) as raised:
        await world.create_model_config(by=Vouched(ada), model_url="x", model_name="", api_key="a b")
    assert [error.field for error in raised.value.errors] == ["model_url", "model_name", "api_key"]


async def test_bounds_that_hold(world: World, ada: UserId) -> None:
    config = await world.create_model_config(by=Vouched(ada), model_url=URL, model_name="🦄" * 200, api_key="k" * 4096)
    assert len(config.model_name) == 200
    assert world.cipher.open(config.sealed_key, owner=ada, config_id=config.id) == "k" * 4096


async def test_the_list_comes_in_pages(world: World, ada: UserId) -> None:
    for name in ("one", "two", "three"):
        await world.create_model_config(by=Vouched(ada), model_url=URL, model_name=name, api_key="")
    first, last = [await world.list_model_configs(owner=ada, limit=2, offset=offset) for offset in (0, 2)]
    assert [[config.model_name for config in page.items] for page in (first, last)] == [["three", "two"], ["one"]]
    assert (first.has_more, last.has_more) == (True, False)
    for bounds in ({"limit": 0}, {"limit": 101}, {"offset": -1}):
        with pytest.raises(ValidationFailed):
            await world.list_model_configs(owner=ada, **bounds)
