"""Each user's own model endpoints. A key is sealed before it is stored and opened only to call its endpoint."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from chatcore.entities import ModelConfig, ModelConfigId, UserId, check, key_hint, model_url_rule, text_rule
from chatcore.errors import FieldError, NotFound
from chatcore.ports import Cipher, Clock, UnitOfWorkFactory

_MISSING = "There is no such model configuration."


@dataclass(frozen=True, kw_only=True)
class ListModelConfigs:
    """The owner: all of one's configurations, newest first, without their keys."""

    unit_of_work: UnitOfWorkFactory

    async def __call__(self, *, owner: UserId) -> Sequence[ModelConfig]:
        async with self.unit_of_work(read_only=True) as work:
            return await work.model_configs.list(owner)


@dataclass(frozen=True, kw_only=True)
class CreateModelConfig:
    """The owner: adds an OpenAI-compatible endpoint. The key may be empty; it is sealed and never shown again."""

    unit_of_work: UnitOfWorkFactory
    cipher: Cipher
    clock: Clock

    async def __call__(self, *, owner: UserId, model_url: str, model_name: str, api_key: str) -> ModelConfig:
        """Raises `ValidationFailed`."""
        check(model_url_rule(model_url), _name_rule(model_name), _key_rule(api_key))
        async with self.unit_of_work() as work:
            config = await work.model_configs.add(
                owner, model_url=model_url, model_name=model_name, now=self.clock.now()
            )
            config = _with_key(config, api_key, self.cipher)
            await work.model_configs.save(config)
            await work.commit()
        return config


@dataclass(frozen=True, kw_only=True)
class UpdateModelConfig:
    """The owner: changes what is given and keeps the rest."""

    unit_of_work: UnitOfWorkFactory
    cipher: Cipher
    clock: Clock

    async def __call__(
        self,
        *,
        owner: UserId,
        config_id: ModelConfigId,
        model_url: str | None = None,
        model_name: str | None = None,
        api_key: str | None = None,
    ) -> ModelConfig:
        """Raises `ValidationFailed`, `NotFound`."""
        check(
            model_url_rule(model_url) if model_url is not None else None,
            _name_rule(model_name) if model_name is not None else None,
            _key_rule(api_key) if api_key is not None else None,
        )
        async with self.unit_of_work() as work:
            config = await work.model_configs.get(owner, config_id)
            if config is None:
                raise NotFound(_MISSING)
            config = replace(
                config,
                model_url=config.model_url if model_url is None else model_url,
                model_name=config.model_name if model_name is None else model_name,
                updated_at=self.clock.now(),
            )
            if api_key is not None:
                config = _with_key(config, api_key, self.cipher)
            if not await work.model_configs.save(config):
                raise NotFound(_MISSING)
            await work.commit()
        return config


@dataclass(frozen=True, kw_only=True)
class DeleteModelConfig:
    """The owner: forgets the endpoint and its key. Conversations that used it keep their messages."""

    unit_of_work: UnitOfWorkFactory

    async def __call__(self, *, owner: UserId, config_id: ModelConfigId) -> None:
        """Raises `NotFound`."""
        async with self.unit_of_work() as work:
            if not await work.model_configs.delete(owner, config_id):
                raise NotFound(_MISSING)
            await work.commit()


def _with_key(config: ModelConfig, api_key: str, cipher: Cipher) -> ModelConfig:
    sealed = cipher.seal(api_key, owner=config.user_id, config_id=config.id) if api_key else ""
    return replace(config, sealed_key=sealed, api_key_hint=key_hint(api_key))


def _name_rule(model_name: str) -> FieldError | None:
    return text_rule(model_name, "model_name", minimum=1, maximum=200)


def _key_rule(api_key: str) -> FieldError | None:
    """At most 4,096 printable ASCII characters: it travels in an HTTP header."""
    if len(api_key) <= 4096 and api_key.isascii() and (api_key.isprintable() and " " not in api_key):
        return None
    return FieldError("api_key", "must be at most 4096 printable ASCII characters without spaces")
