"""The contract of `ModelConfigRepo`."""

from dataclasses import replace

from chatcore.entities import ModelConfig, ModelConfigId, User
from chatcore.ports import UnitOfWork, UnitOfWorkFactory
from chatcore_testing.contract import Capability
from chatcore_testing.contracts.storage.base import NOW, StoreChecks, add_message, later, the_conversation

NO_CONFIG = ModelConfigId(999_999_999)
URL = "https://api.example.org/v1"


async def add_config(work: UnitOfWork, owner: User, seconds: float = 0) -> ModelConfig:
    return await work.model_configs.add(owner.id, model_url=URL, model_name="gpt 🦄", now=later(seconds))


class ModelConfigRepoChecks(StoreChecks, about="model_configs", needs=Capability.ENDPOINTS):
    async def config(self, unit_of_work: UnitOfWorkFactory, owner: User) -> ModelConfig:
        async with unit_of_work() as work:
            config = await add_config(work, owner)
            await work.commit()
        return config

    async def test_a_new_one_has_no_key(
        self, unit_of_work: UnitOfWorkFactory, owner: User, config: ModelConfig
    ) -> None:
        assert config == ModelConfig(
            id=config.id,
            user_id=owner.id,
            model_url=URL,
            model_name="gpt 🦄",
            sealed_key="",
            api_key_hint="",
            created_at=NOW,
            updated_at=NOW,
        )
        async with unit_of_work(read_only=True) as work:
            assert await work.model_configs.get(owner.id, config.id) == config

    async def test_a_missing_or_a_strangers_one_is_none(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, config: ModelConfig
    ) -> None:
        async with unit_of_work(read_only=True) as work:
            assert await work.model_configs.get(owner.id, NO_CONFIG) is None
            assert await work.model_configs.get(stranger.id, config.id) is None
            assert await work.model_configs.newest(stranger.id) is None
            assert list(await work.model_configs.list(stranger.id, limit=100, offset=0)) == []

    async def test_the_list_is_newest_first(self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User) -> None:
        async with unit_of_work() as work:
            configs = [await add_config(work, owner, seconds) for seconds in range(3)]
            await add_config(work, stranger, 9)
            assert list(await work.model_configs.list(owner.id, limit=100, offset=0)) == configs[::-1]
            assert list(await work.model_configs.list(owner.id, limit=1, offset=1)) == [configs[1]]

    async def test_the_newest_has_the_highest_id(self, unit_of_work: UnitOfWorkFactory, owner: User) -> None:
        async with unit_of_work() as work:
            first = await add_config(work, owner)
            second = await add_config(work, owner)
            await work.model_configs.save(replace(first, updated_at=later(60)))
            assert second.id > first.id
            assert await work.model_configs.newest(owner.id) == second

    async def test_saving_overwrites_all_but_id_owner_and_birth(
        self, unit_of_work: UnitOfWorkFactory, owner: User, config: ModelConfig
    ) -> None:
        changed = replace(
            config,
            model_url="http://localhost/" + "a" * 2031,
            model_name="other ",
            sealed_key="gAAAAA" + "x" * 2000 + "==",
            api_key_hint="🦄🐴 x",
            updated_at=later(1),
        )
        async with unit_of_work() as work:
            assert await work.model_configs.save(replace(changed, created_at=later(99))) is True
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            assert await work.model_configs.get(owner.id, config.id) == changed

    async def test_saving_what_is_stored_already_is_saving(
        self, unit_of_work: UnitOfWorkFactory, config: ModelConfig
    ) -> None:
        async with unit_of_work() as work:
            assert await work.model_configs.save(config) is True

    async def test_saving_a_missing_or_a_strangers_one_changes_nothing(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, config: ModelConfig
    ) -> None:
        changed = replace(config, model_name="changed")
        async with unit_of_work() as work:
            assert await work.model_configs.save(replace(changed, user_id=stranger.id)) is False
            assert await work.model_configs.save(replace(changed, id=NO_CONFIG)) is False
            assert list(await work.model_configs.list(owner.id, limit=100, offset=0)) == [config]
            assert list(await work.model_configs.list(stranger.id, limit=100, offset=0)) == []

    async def test_deleting(self, unit_of_work: UnitOfWorkFactory, owner: User, config: ModelConfig) -> None:
        async with unit_of_work() as work:
            other = await add_config(work, owner, 1)
            assert await work.model_configs.delete(owner.id, config.id) is True
            assert await work.model_configs.delete(owner.id, config.id) is False
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            assert list(await work.model_configs.list(owner.id, limit=100, offset=0)) == [other]

    async def test_deleting_a_strangers_one_is_refused(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, config: ModelConfig
    ) -> None:
        async with unit_of_work() as work:
            assert await work.model_configs.delete(stranger.id, config.id) is False
            assert await work.model_configs.get(owner.id, config.id) == config

    async def test_deleting_leaves_the_conversations_that_used_it(
        self, unit_of_work: UnitOfWorkFactory, owner: User, config: ModelConfig
    ) -> None:
        async with unit_of_work() as work:
            other = await add_config(work, owner)
            using = await work.conversations.add(owner.id, title="using", config_id=config.id, now=NOW)
            message = await add_message(work, using)
            unaffected = await work.conversations.add(owner.id, title="other", config_id=other.id, now=NOW)
            await work.commit()
        async with unit_of_work() as work:
            assert await work.model_configs.delete(owner.id, config.id) is True
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            page = await work.messages.history(owner.id, using.id, limit=10)
        assert page is not None
        assert (page[0], list(page[1])) == (replace(using, config_id=None), [message])
        assert await the_conversation(unit_of_work, unaffected) == unaffected
