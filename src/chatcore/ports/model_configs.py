"""Users' own model endpoints, and the encryption of their keys."""

from abc import abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from chatcore.entities import ModelConfig, ModelConfigId, OwnerId


class ModelConfigRepo(Protocol):
    @abstractmethod
    async def add(self, owner: OwnerId, *, model_url: str, model_name: str, now: datetime) -> ModelConfig:
        """Store a configuration without a key (`sealed_key` and `api_key_hint` are empty)."""

    @abstractmethod
    async def list(self, owner: OwnerId, *, limit: int, offset: int) -> Sequence[ModelConfig]:
        """The highest id first."""

    @abstractmethod
    async def get(self, owner: OwnerId, config_id: ModelConfigId) -> ModelConfig | None: ...

    @abstractmethod
    async def lock(self, owner: OwnerId, config_id: ModelConfigId) -> ModelConfig | None:
        """As `get`, and nobody else changes it until this unit of work is closed."""

    @abstractmethod
    async def newest(self, owner: OwnerId) -> ModelConfig | None:
        """The one with the highest id."""

    @abstractmethod
    async def save(self, config: ModelConfig) -> bool:
        """Overwrite URL, name, all about the key, and `updated_at`. False: there is none with this owner and id."""

    @abstractmethod
    async def delete(self, owner: OwnerId, config_id: ModelConfigId) -> bool:
        """Conversations that used it keep their messages and have no `config_id` any more."""


class SealedKeys(Protocol):
    """Everybody's sealed API keys, for a change of the encryption key. Sees across owners."""

    @abstractmethod
    async def count(self, *, but: str, limit: int) -> int:
        """How many are sealed with any encryption key but the one of this name; `limit` means that many or more."""

    @abstractmethod
    async def list(self, *, but: str, after: ModelConfigId | None = None, limit: int) -> Sequence[ModelConfig]:
        """Those of them with an id above `after`, by id."""

    @abstractmethod
    async def replace(self, config: ModelConfig, *, sealed_key: str, sealed_with: str) -> bool:
        """Overwrite these two if the sealed key is still that of `config`: one conditional UPDATE. False: it was
        changed or deleted meanwhile, and stays so."""


class Cipher(Protocol):
    """Seals API keys. What was sealed for one owner and configuration opens for no other.

    `newest` names the encryption key that `seal` uses, in at most 32 ASCII characters that tell nothing else about it.
    """

    newest: str

    @abstractmethod
    def seal(self, api_key: str, *, owner: OwnerId, config_id: ModelConfigId) -> str: ...

    @abstractmethod
    def open(self, sealed: str, *, owner: OwnerId, config_id: ModelConfigId) -> str:
        """Raise `ValueError`, without any of the text, if it does not open: copied, changed, or its key is lost."""
