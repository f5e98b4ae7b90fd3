"""Rotation of the encryption key of all sealed API keys (OWASP ASVS 11.2.2, 13.3.4)."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from chatcore.authority import ANYTIME
from chatcore.entities import ModelConfig, ModelConfigId
from chatcore.errors import Raises
from chatcore.ports import Cipher, SealedKeys, Transaction, UnitsOfWork
from chatcore.shielding import retry_on_contention

_COUNT_TO = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """The progress: how many keys were sealed again, and which did not open, because their encryption key is gone."""

    resealed: int
    unopened: Sequence[ModelConfigId]


class KeysWork(Transaction, Protocol):
    sealed_keys: SealedKeys


@dataclass(frozen=True, kw_only=True)
class RotateKeys:
    """Seal all API keys again with the newest encryption key, while users continue. For the operator's command.

    A key that its owner changes meanwhile keeps that change. After an interruption, call it again to continue.
    """

    unit_of_work: UnitsOfWork[KeysWork]
    cipher: Cipher
    raises: ClassVar[Raises] = ANYTIME

    async def __call__(self, *, batch: int = 100) -> AsyncGenerator[Rotated, None]:
        """Yield the progress after each batch, which is one transaction."""
        last: ModelConfigId | None = None
        resealed, unopened = 0, list[ModelConfigId]()
        while configs := await self._some(last, batch):
            opened = {config.id: sealed for config in configs if (sealed := self._sealed_again(config))}
            unopened += [config.id for config in configs if config.id not in opened]
            resealed += await self._replace([(config, opened[config.id]) for config in configs if config.id in opened])
            last = configs[-1].id
            yield Rotated(resealed=resealed, unopened=tuple(unopened))

    async def _some(self, after: ModelConfigId | None, limit: int) -> Sequence[ModelConfig]:
        async with self.unit_of_work(read_only=True) as work:
            return await work.sealed_keys.list(but=self.cipher.newest, after=after, limit=limit)

    def _sealed_again(self, config: ModelConfig) -> str | None:
        try:
            api_key = self.cipher.open(config.sealed_key, owner=config.user_id, config_id=config.id)
        except ValueError:
            return None
        return self.cipher.seal(api_key, owner=config.user_id, config_id=config.id)

    @retry_on_contention
    async def _replace(self, sealed: Sequence[tuple[ModelConfig, str]]) -> int:
        replaced = 0
        async with self.unit_of_work() as work:
            for config, sealed_key in sealed:
                replaced += await work.sealed_keys.replace(
                    config, sealed_key=sealed_key, sealed_with=self.cipher.newest
                )
            await work.commit()
        return replaced


@dataclass(frozen=True, kw_only=True)
class CountOldKeys:
    """Count the API keys that are sealed with another encryption key than the newest, up to 1000. While it is not 0,
    the older encryption keys must stay."""

    unit_of_work: UnitsOfWork[KeysWork]
    cipher: Cipher
    raises: ClassVar[Raises] = ANYTIME

    async def __call__(self) -> int:
        async with self.unit_of_work(read_only=True) as work:
            return await work.sealed_keys.count(but=self.cipher.newest, limit=_COUNT_TO)
