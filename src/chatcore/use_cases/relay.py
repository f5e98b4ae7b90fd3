"""The models that a user may name, and calls of them that pass through: nothing of those is stored."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar
from urllib.parse import urlsplit

from chatcore import audit
from chatcore.authority import ANYTIME, Owner
from chatcore.entities import ModelConfig, ModelConfigId, OwnerId, Scope
from chatcore.errors import (
    InsufficientScope,
    ModelContextLength,
    ModelNotConfigured,
    ModelNotFound,
    ModelPaymentRequired,
    ModelProtocolError,
    ModelRateLimited,
    ModelRefused,
    ModelTimeout,
    ModelUnauthorized,
    ModelUnavailable,
    ModelURLRefused,
    Raises,
    RateLimited,
    Refused,
    UnknownModel,
)
from chatcore.hooks import NO_HOOKS, Hooks, called
from chatcore.ports import Cipher, ModelEndpoint, ModelRelay, OpenAnswer, Purpose, Turn, UnitsOfWork
from chatcore.rate_limits import UNLIMITED, RateLimits
from chatcore.replies import Replies
from chatcore.use_cases.chat_values import ChatDefaults
from chatcore.use_cases.model_configs import MAX_CONFIGS, ConfigsWork, endpoint_of

_BY_ID = "config:"
_LARGEST_ID = 18  # digits
_PAGE = 100


@dataclass(frozen=True, slots=True)
class OfferedModel:
    """A model by the name with which a request chooses it. `created_at`, `config_id`: None for the server's own."""

    name: str
    created_at: datetime | None = None
    config_id: ModelConfigId | None = None


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """What a name stands for: `config:ID`, a configuration's model (the newest wins), or the server's own model; no
    name for the newest configuration, else the server's own model."""

    unit_of_work: UnitsOfWork[ConfigsWork]
    defaults: ChatDefaults

    async def named(self, owner: OwnerId, name: str) -> ModelConfig | ModelEndpoint:
        """Raise `UnknownModel`, `ModelNotConfigured`."""
        async with self.unit_of_work(read_only=True) as work:
            if config_id := _config_id(name):
                config = await work.model_configs.get(owner, config_id)
            elif name:
                config = next((each for each in await _all_of(work, owner, name) if each.model_name == name), None)
            else:
                config = await work.model_configs.newest(owner)
        if config is not None:
            return config
        own = self.defaults.model
        if name and (own is None or own.model != name):
            raise UnknownModel
        if own is None:
            raise ModelNotConfigured
        return own

    async def offered(self, owner: OwnerId) -> Sequence[OfferedModel]:
        """Return each that has a name, the newest first. One that another's name hides is there by its id."""
        async with self.unit_of_work(read_only=True) as work:
            configs = await _all_of(work, owner)
        found = dict[str, OfferedModel]()
        for config in configs:
            name = f"{_BY_ID}{config.id}" if config.model_name in found else config.model_name
            found[name] = OfferedModel(name, config.created_at, config.id)
        if self.defaults.model is not None:
            found.setdefault(self.defaults.model.model, OfferedModel(self.defaults.model.model))
        return list(found.values())


async def _all_of(work: ConfigsWork, owner: OwnerId, until: str | None = None) -> Sequence[ModelConfig]:
    """Return the owner's configurations, newest first, at least as far as the first with the name `until`."""
    configs = list[ModelConfig]()
    for offset in range(0, MAX_CONFIGS, _PAGE):
        page = await work.model_configs.list(owner, limit=_PAGE, offset=offset)
        configs += page
        if len(page) < _PAGE or any(config.model_name == until for config in page):
            break
    return configs


def _config_id(name: str) -> ModelConfigId | None:
    number = name.removeprefix(_BY_ID)
    plain = number != name and number.isascii() and number.isdigit() and len(number) <= _LARGEST_ID
    return ModelConfigId(int(number)) if plain else None


@dataclass(frozen=True, kw_only=True)
class ListModels:
    """List the models that requests may name: the user's configurations, and the server's own."""

    choice: ModelChoice
    raises: ClassVar[Raises] = ANYTIME

    async def __call__(self, *, owner: OwnerId) -> Sequence[OfferedModel]:
        return await self.choice.offered(owner)


@dataclass(frozen=True, kw_only=True)
class FindModel:
    """Return the model that a name stands for."""

    choice: ModelChoice
    raises: ClassVar[Raises] = (*ANYTIME, UnknownModel)

    async def __call__(self, *, owner: OwnerId, model: str) -> OfferedModel:
        if not model:
            raise UnknownModel
        found = await self.choice.named(owner, model)
        return (
            OfferedModel(model, found.created_at, found.id) if isinstance(found, ModelConfig) else OfferedModel(model)
        )


class Relayed(AsyncIterable[bytes]):
    """An endpoint's answer, piece by piece. Close it: only then it is over for the limits and the audit log."""

    def __init__(self, answer: OpenAnswer, note: Callable[[OpenAnswer], None], place: ExitStack) -> None:
        self.status: int = answer.status
        self.content_type: str = answer.content_type
        self.retry_after: float | None = answer.retry_after
        self._answer = answer
        self._pieces: AsyncGenerator[bytes, None] = answer.pieces()
        self._note = note
        self._place = place

    @property
    def last(self) -> bytes:
        """The piece that came last."""
        return self._answer.last

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces

    async def aclose(self) -> None:
        with self._place:
            async with aclosing(self._answer), aclosing(self._pieces):
                self._note(self._answer)


@dataclass(frozen=True, kw_only=True)
class RelayModel:
    """Pass a call on to the model that it names, and the answer back, as they are. Nothing is stored.

    A call counts as a message in the rate limits, and among the replies in progress until it is closed.
    """

    choice: ModelChoice
    relay: ModelRelay
    cipher: Cipher
    replies: Replies
    limits: RateLimits = UNLIMITED
    hooks: Hooks = NO_HOOKS
    raises: ClassVar[Raises] = (
        *ANYTIME,
        InsufficientScope,
        UnknownModel,
        ModelNotConfigured,
        RateLimited,
        Refused,
        ModelUnauthorized,
        ModelPaymentRequired,
        ModelNotFound,
        ModelRateLimited,
        ModelRefused,
        ModelContextLength,
        ModelUnavailable,
        ModelProtocolError,
        ModelURLRefused,
        ModelTimeout,
    )

    async def __call__(self, *, by: Owner, path: str, model: str, body: Callable[[ModelEndpoint], bytes]) -> Relayed:
        """`path`: behind the endpoint's URL, such as `/chat/completions`. `body` makes the JSON for this endpoint
        and its model."""
        by.require(Scope.CHAT)
        await self.limits.try_send(by.owner)
        found = await self.choice.named(by.owner, model)
        endpoint = endpoint_of(found, self.cipher) if isinstance(found, ModelConfig) else found
        asked = await self._hooked(by, body(endpoint))
        self.limits.check_replies(by.owner, self.replies.written_for(by.owner) + 1)
        with ExitStack() as place:
            place.enter_context(self.replies.passing(by.owner))
            answer = await self._answer(by, endpoint, path, asked)
            return Relayed(answer, _noting(by, endpoint, path, len(asked)), place.pop_all())

    async def _hooked(self, by: Owner, body: bytes) -> bytes:
        user, tenant = by.name
        turn = Turn(purpose=Purpose.RELAY, owner=by.owner, user=user, tenant=tenant)
        return await called(self.hooks.relay(turn, body))

    async def _answer(self, by: Owner, endpoint: ModelEndpoint, path: str, body: bytes) -> OpenAnswer:
        try:
            return await self.relay.relay(endpoint, path, body)
        except ModelUnauthorized:
            audit.record("model_key_refused", user_id=by.owner, model_host=_host_of(endpoint))
            raise


def _noting(by: Owner, endpoint: ModelEndpoint, path: str, sent: int) -> Callable[[OpenAnswer], None]:
    def note(answer: OpenAnswer) -> None:
        audit.record(
            "relayed",
            user_id=by.owner,
            model_host=_host_of(endpoint),
            path=path,
            status=answer.status,
            sent=sent,
            received=answer.received,
            upstream_id=answer.request_id,
        )

    return note


def _host_of(endpoint: ModelEndpoint) -> str | None:
    return urlsplit(endpoint.url).hostname
