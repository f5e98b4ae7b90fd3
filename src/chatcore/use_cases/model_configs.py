"""Each user's own model endpoints. A key is sealed before it is stored, and opened only to call its endpoint."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

from chatcore import audit
from chatcore.authority import ANYTIME, CHANGING, Owner, acting
from chatcore.bounds import MODEL, PAGE, Bounds, check
from chatcore.entities import (
    Failure,
    ModelConfig,
    ModelConfigId,
    OwnerId,
    Page,
    Role,
    key_hint,
    normal_model_url,
    origin_of,
)
from chatcore.errors import (
    FieldError,
    InsufficientScope,
    ModelError,
    ModelNotConfigured,
    ModelTimeout,
    ModelUnauthorized,
    NotFound,
    Raises,
    RateLimited,
    TooManyModelConfigs,
    ValidationFailed,
)
from chatcore.ports import (
    AuthorityWork,
    Cipher,
    Clock,
    LLMGateway,
    ModelConfigRepo,
    ModelEndpoint,
    Prompt,
    PromptMessage,
    Purpose,
    Transaction,
    Turn,
    UnitsOfWork,
)
from chatcore.rate_limits import UNLIMITED, AtOnce, RateLimits
from chatcore.shielding import retry_on_contention

MAX_CONFIGS = 1000
"""Per user: each may have 8 KiB."""

_MISSING = "There is no such model configuration."
_MAX_PASTED = 8192  # characters
_ONE_TOKEN = Prompt(messages=[PromptMessage(Role.USER, "Say hello.")], max_tokens=1)
_LIST_WITHIN = 5.0  # seconds


class ConfigsWork(Transaction, Protocol):
    model_configs: ModelConfigRepo


class ConfiguringWork(ConfigsWork, AuthorityWork, Protocol): ...


@dataclass(frozen=True, kw_only=True)
class ListModelConfigs:
    """List the user's model configurations, newest first, without their keys."""

    unit_of_work: UnitsOfWork[ConfigsWork]
    bounds: ClassVar[Bounds] = PAGE
    raises: ClassVar[Raises] = (*ANYTIME, ValidationFailed)

    async def __call__(self, *, owner: OwnerId, limit: int = 100, offset: int = 0) -> Page[ModelConfig]:
        self.bounds.check(limit=limit, offset=offset)
        async with self.unit_of_work(read_only=True) as work:
            found = await work.model_configs.list(owner, limit=limit + 1, offset=offset)
        return Page(found[:limit], len(found) > limit)


@dataclass(frozen=True, kw_only=True)
class CreateModelConfig:
    """Add an OpenAI-compatible endpoint. The key may be empty; it is sealed and never shown again."""

    unit_of_work: UnitsOfWork[ConfiguringWork]
    gateway: LLMGateway
    cipher: Cipher
    clock: Clock
    bounds: ClassVar[Bounds] = MODEL
    raises: ClassVar[Raises] = (*CHANGING, ValidationFailed, TooManyModelConfigs)

    @retry_on_contention
    async def __call__(self, *, by: Owner, model_url: str, model_name: str, api_key: str) -> ModelConfig:
        model_url, model_name, api_key = normal_model_url(model_url), _trimmed(model_name), _trimmed(api_key)
        self.bounds.check(model_url=model_url, model_name=model_name, api_key=api_key)
        await _check_target(self.gateway, model_url, by.owner)
        now = self.clock.now()
        async with acting(self.unit_of_work, by, now=now, alone=True) as work:  # two at once would not see each other
            if await work.model_configs.list(by.owner, limit=1, offset=MAX_CONFIGS - 1):
                raise TooManyModelConfigs
            config = await work.model_configs.add(by.owner, model_url=model_url, model_name=model_name, now=now)
            config = _with_key(config, api_key, self.cipher)
            await work.model_configs.save(config)
            await work.commit()
        return config


@dataclass(frozen=True, kw_only=True)
class UpdateModelConfig:
    """Change the given fields of a model configuration.

    A key is only for the origin that it was stored for: a URL of another origin without a new key deletes the key.
    """

    unit_of_work: UnitsOfWork[ConfiguringWork]
    gateway: LLMGateway
    cipher: Cipher
    clock: Clock
    bounds: ClassVar[Bounds] = MODEL
    raises: ClassVar[Raises] = (*CHANGING, ValidationFailed, NotFound)

    @retry_on_contention
    async def __call__(
        self,
        *,
        by: Owner,
        config_id: ModelConfigId,
        model_url: str | None = None,
        model_name: str | None = None,
        api_key: str | None = None,
    ) -> ModelConfig:
        model_url = None if model_url is None else normal_model_url(model_url)
        model_name = None if model_name is None else _trimmed(model_name)
        api_key = None if api_key is None else _trimmed(api_key)
        self.bounds.check(model_url=model_url, model_name=model_name, api_key=api_key)
        if model_url is not None:
            await _check_target(self.gateway, model_url, by.owner)
        now = self.clock.now()
        async with acting(self.unit_of_work, by, now=now) as work:
            config = await work.model_configs.lock(by.owner, config_id)
            if config is None:
                raise NotFound(_MISSING)
            moved = model_url is not None and origin_of(model_url) != origin_of(config.model_url)
            config = replace(
                config,
                model_url=config.model_url if model_url is None else model_url,
                model_name=config.model_name if model_name is None else model_name,
                updated_at=now,
            )
            if api_key is not None or moved:
                config = _with_key(config, api_key or "", self.cipher)
            if not await work.model_configs.save(config):
                raise NotFound(_MISSING)
            await work.commit()
        return config


@dataclass(frozen=True, slots=True)
class Checked:
    """Whether the model answers, or why not. `models`: those that its endpoint lists."""

    models: Sequence[str] = ()
    failure: Failure | None = None


@dataclass(frozen=True, kw_only=True)
class CheckModelConfig:
    """Ask the model for one token, with the stored key, and the endpoint for its list of models.

    A check counts as a message in the rate limits. A user may run four at once; each has 30 seconds."""

    unit_of_work: UnitsOfWork[ConfigsWork]
    gateway: LLMGateway
    cipher: Cipher
    limits: RateLimits = UNLIMITED
    going_on: AtOnce = field(init=False, default_factory=lambda: AtOnce("checks", 4))
    within: ClassVar[float] = 30.0
    raises: ClassVar[Raises] = (*ANYTIME, InsufficientScope, NotFound, ModelNotConfigured, RateLimited)

    async def __call__(self, *, by: Owner, config_id: ModelConfigId) -> Checked:
        """Return a model error as the answer, without raising it."""
        by.require(None)
        await self.limits.try_send(by.owner)
        with self.going_on.one_more(by.owner):
            return await self._checked(by, config_id)

    async def _checked(self, by: Owner, config_id: ModelConfigId) -> Checked:
        owner, (user, tenant) = by.owner, by.name
        async with self.unit_of_work(read_only=True) as work:
            config = await work.model_configs.get(owner, config_id)
        if config is None:
            raise NotFound(_MISSING)
        endpoint = endpoint_of(config, self.cipher)
        prompt = replace(_ONE_TOKEN, turn=Turn(purpose=Purpose.CHECK, owner=owner, user=user, tenant=tenant))
        try:
            async with asyncio.timeout(self.within):
                return Checked(await self._models(endpoint, prompt))
        except TimeoutError:
            return Checked(failure=Failure(code=ModelTimeout.code, detail=ModelTimeout.default_detail))
        except ModelError as error:
            if isinstance(error, ModelUnauthorized):
                audit.record("model_key_refused", user_id=owner, model_host=origin_of(endpoint.url)[1])
            return Checked(failure=Failure(code=error.code, detail=error.detail))

    async def _models(self, endpoint: ModelEndpoint, prompt: Prompt) -> Sequence[str]:
        async with aclosing(self.gateway.stream(endpoint, prompt)) as deltas:
            async for delta in deltas:
                if delta.text or delta.reasoning:
                    break  # it answers; how much it says though it was asked for no more is not waited for
        with suppress(ModelError, TimeoutError):
            async with asyncio.timeout(_LIST_WITHIN):
                return await self.gateway.models(endpoint)
        return ()


@dataclass(frozen=True, kw_only=True)
class DeleteModelConfig:
    """Delete a model configuration and its key. Conversations that used it keep their messages."""

    unit_of_work: UnitsOfWork[ConfiguringWork]
    clock: Clock
    raises: ClassVar[Raises] = (*CHANGING, NotFound)

    @retry_on_contention
    async def __call__(self, *, by: Owner, config_id: ModelConfigId) -> None:
        async with acting(self.unit_of_work, by, now=self.clock.now()) as work:
            if not await work.model_configs.delete(by.owner, config_id):
                raise NotFound(_MISSING)
            await work.commit()


class NoCipher(Cipher):
    """For programs whose users have no endpoints of their own."""

    newest = ""

    def seal(self, api_key: str, *, owner: OwnerId, config_id: ModelConfigId) -> str:
        raise LookupError("An API key needs a cipher to seal it: Chat(cipher=...).")

    def open(self, sealed: str, *, owner: OwnerId, config_id: ModelConfigId) -> str:
        raise ValueError("there is no cipher")


def endpoint_of(config: ModelConfig, cipher: Cipher) -> ModelEndpoint:
    """Return the endpoint with its opened key, for one call. Raise `ModelNotConfigured` if the key does not open."""
    try:
        api_key = cipher.open(config.sealed_key, owner=config.user_id, config_id=config.id) if config.sealed_key else ""
    except ValueError:
        raise ModelNotConfigured("The stored API key cannot be opened any more. Send it again.") from None
    return ModelEndpoint(url=config.model_url, model=config.model_name, api_key=api_key, owner=config.user_id)


async def _check_target(gateway: LLMGateway, model_url: str, owner: OwnerId) -> None:
    """Check early, so that people see a mistake where they make it; every call checks again."""
    allowed = await gateway.may_call(model_url, owner=owner)
    check(None if allowed else FieldError("model_url", "must not lead into a private network"))


def _with_key(config: ModelConfig, api_key: str, cipher: Cipher) -> ModelConfig:
    sealed = cipher.seal(api_key, owner=config.user_id, config_id=config.id) if api_key else ""
    sealed_with = cipher.newest if sealed else ""
    return replace(config, sealed_key=sealed, api_key_hint=key_hint(api_key), sealed_with=sealed_with)


def _trimmed(pasted: str) -> str:
    """Strip the blanks and line breaks of pasted text."""
    return pasted.strip() if len(pasted) <= _MAX_PASTED else pasted
