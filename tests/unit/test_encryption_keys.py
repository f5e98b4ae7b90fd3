"""The change of the encryption key."""

from collections.abc import Sequence

import pytest

from chatcore import CountOldKeys, ModelConfig, OwnerId, Rotated, RotateKeys, Vouched
from chatcore.entities import ModelConfigId
from chatcore.ports import Cipher
from chatcore_memory import PlainCipher
from unit.world import World


class Ring(Cipher):
    """Seals with the first of some keys and opens with any."""

    def __init__(self, *keys: str) -> None:
        self._ciphers = [PlainCipher(key) for key in keys]
        self.newest = self._ciphers[0].newest

    def seal(self, api_key: str, *, owner: OwnerId, config_id: ModelConfigId) -> str:
        return self._ciphers[0].seal(api_key, owner=owner, config_id=config_id)

    def open(self, sealed: str, *, owner: OwnerId, config_id: ModelConfigId) -> str:
        for cipher in self._ciphers[:-1]:
            try:
                return cipher.open(sealed, owner=owner, config_id=config_id)
            except ValueError:
                continue
        return self._ciphers[-1].open(sealed, owner=owner, config_id=config_id)


@pytest.fixture
def world() -> World:
    return World()


async def filled(world: World, number: int = 7) -> tuple[OwnerId, Sequence[ModelConfig]]:
    """So many configurations of one owner, and one without a key."""
    owner = await world.owner()
    await world.config(owner, api_key="")
    return owner, [await world.config(owner, api_key=f"sk-{n}") for n in range(number)]


async def keys_of(world: World, owner: OwnerId, cipher: Cipher) -> list[str]:
    page = await world.list_model_configs(owner=owner)
    return [
        cipher.open(config.sealed_key, owner=owner, config_id=config.id) if config.sealed_key else ""
        for config in reversed(page.items)
    ]


async def all_of(rotate: RotateKeys, batch: int = 3) -> list[Rotated]:
    return [rotated async for rotated in rotate(batch=batch)]


async def test_all_keys_are_sealed_again(world: World) -> None:
    owner, configs = await filled(world)
    ring = Ring("new", "key")
    count = CountOldKeys(unit_of_work=world.storage, cipher=ring)
    rotate = RotateKeys(unit_of_work=world.storage, cipher=ring)
    assert await CountOldKeys(unit_of_work=world.storage, cipher=world.cipher)() == 0
    assert await count() == 7
    assert [rotated.resealed for rotated in await all_of(rotate)] == [3, 6, 7]
    assert await count() == 0
    assert await keys_of(world, owner, PlainCipher("new")) == ["", *(f"sk-{n}" for n in range(7))]
    assert await all_of(rotate) == []
    stored = (await world.list_model_configs(owner=owner)).items
    assert [config.updated_at for config in stored] == [configs[0].updated_at] * 8


async def test_interrupted_it_goes_on_from_there(world: World) -> None:
    owner, _ = await filled(world)
    ring = Ring("new", "key")
    async for rotated in RotateKeys(unit_of_work=world.storage, cipher=ring)(batch=3):
        assert rotated.resealed == 3
        break
    assert await CountOldKeys(unit_of_work=world.storage, cipher=ring)() == 4
    again = await all_of(RotateKeys(unit_of_work=world.storage, cipher=ring))
    assert again[-1].resealed == 4
    assert await keys_of(world, owner, PlainCipher("new")) == ["", *(f"sk-{n}" for n in range(7))]


async def test_what_its_owner_changes_meanwhile_stays_so(world: World) -> None:
    owner, configs = await filled(world, 2)
    ring = Ring("new", "key")

    async def change() -> None:
        world.storage.before_unit = nothing
        await world.update_model_config(by=Vouched(owner), config_id=configs[0].id, api_key="sk-changed")

    async def nothing() -> None:
        pass

    world.storage.before_unit = change
    assert [rotated.resealed for rotated in await all_of(RotateKeys(unit_of_work=world.storage, cipher=ring))] == [1]
    assert await keys_of(world, owner, ring) == ["", "sk-changed", "sk-1"]
    assert await CountOldKeys(unit_of_work=world.storage, cipher=ring)() == 1, "this process has the old key alone"


async def test_what_does_not_open_is_named_and_left_as_it_is(world: World) -> None:
    owner, configs = await filled(world, 4)
    ring = Ring("new")
    (rotated,) = await all_of(RotateKeys(unit_of_work=world.storage, cipher=ring), batch=10)
    assert (rotated.resealed, list(rotated.unopened)) == (0, [config.id for config in configs])
    assert await CountOldKeys(unit_of_work=world.storage, cipher=ring)() == 4
    assert await keys_of(world, owner, world.cipher) == ["", *(f"sk-{n}" for n in range(4))]


async def test_a_key_that_is_forgotten_is_sealed_with_nothing(world: World) -> None:
    owner, (config,) = await filled(world, 1)
    await world.update_model_config(by=Vouched(owner), config_id=config.id, api_key="")
    assert await CountOldKeys(unit_of_work=world.storage, cipher=Ring("new"))() == 0
