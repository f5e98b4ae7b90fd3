"""Which adapter stands behind which port.

Everything lives as long as the application; a provider given to `make_container` replaces what it provides. Closing
the container closes in the order of dependence: replies are drained before the database goes.
"""

import asyncio
import hmac
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar, cast

from dishka import (
    AsyncContainer,
    BaseScope,
    Provider,
    Scope,
    from_context,
    make_async_container,
    provide,  # pyright: ignore[reportUnknownVariableType]
    provide_all,
)

from chatcore import (
    USE_CASES,
    ChatDefaults,
    ExpirySweep,
    FileLimits,
    ModelEndpoint,
    PasswordPolicy,
    PromptLimits,
    RateLimits,
    Replies,
    SearchConversations,
    SessionIssuer,
    SessionPolicy,
    SessionWatch,
    SystemClock,
)
from chatcore.chat import LEASE
from chatcore.entities import normal_model_url
from chatcore.errors import NotMigrated
from chatcore.hooks import NO_HOOKS, Hooks
from chatcore.ports import (
    Cipher,
    Clock,
    LLMGateway,
    ModelRelay,
    PasswordHasher,
    RateLimiter,
    TokenSigner,
    UnitOfWorkFactory,
    UnitsOfWork,
)
from chatcore.use_cases.asking import Asking
from chatcore.use_cases.beginning import Beginning
from chatcore.use_cases.planning import Planner
from chatcore.use_cases.relay import ModelChoice
from chatcore.use_cases.sessions import NoteUse
from chatcore_app.settings import Settings, blaming
from chatcore_demo import DEMO_ENDPOINT, DemoModel, DemoRelay
from chatcore_openai import LOOPBACK, OpenAIGateway
from chatcore_security import Argon2Passwords, CommonPasswords, CountingLimiter, FernetCipher, JWTSigner
from chatcore_sql import Database, Naming, migration_script

W = TypeVar("W")

_OPENAI_URL = "https://api.openai.com/v1"
_OPENAI_MODEL = "gpt-4o-mini"


def make_container(settings: Settings, *providers: Provider) -> AsyncContainer:
    """Settings that were made in code get the secrets that development makes. Raise `SettingsError`."""
    settings = settings.completed()
    return make_async_container(Adapters(), Core(), *providers, context={Settings: settings})


@dataclass(frozen=True, slots=True)
class Readiness:
    """What must answer before requests make sense: each check raises `Unavailable` if its part does not."""

    checks: Mapping[str, Callable[[], Awaitable[None]]]


class Adapters(Provider):
    scope: BaseScope | None = Scope.APP
    _settings = from_context(Settings, scope=Scope.APP)

    @provide
    async def database(self, settings: Settings) -> AsyncIterable[Database]:
        async with database_of(settings) as database:
            with blaming("DATABASE_URL"):
                if settings.embedded_database:
                    await database.migrate()
                migrated = settings.embedded_database or await database.is_migrated()
            if not migrated:
                raise NotMigrated
            yield database

    @provide
    def unit_of_work(self, database: Database) -> UnitOfWorkFactory:
        return database.unit_of_work

    @provide
    def readiness(self, database: Database) -> Readiness:
        return Readiness({"database": database.check})

    @provide
    async def openai(self, settings: Settings) -> AsyncIterable[OpenAIGateway]:
        with blaming("MODEL_URL_ALLOW"):
            openai = OpenAIGateway(
                connect_timeout=settings.model_connect_timeout,
                idle_timeout=settings.model_idle_timeout,
                total_timeout=settings.model_total_timeout,
                max_bytes=settings.model_max_bytes,
                max_raw_bytes=settings.model_max_raw_bytes,
                allow=settings.model_url_allow or (LOOPBACK if settings.environment == "development" else ()),
            )
        async with openai as gateway:
            yield gateway

    @provide
    def gateway(self, openai: OpenAIGateway) -> LLMGateway:
        return DemoModel(openai)

    @provide
    def relay(self, openai: OpenAIGateway) -> ModelRelay:
        return DemoRelay(openai)

    @provide
    def clock(self) -> Clock:
        return SystemClock()

    @provide
    async def passwords(self) -> AsyncIterable[PasswordHasher]:
        passwords = Argon2Passwords()
        yield passwords
        passwords.close()

    @provide
    async def limiter(self, settings: Settings) -> AsyncIterable[RateLimiter]:
        with blaming("REDIS_URL"):
            limiter = CountingLimiter(settings.redis_url)
        async with limiter:
            yield limiter

    @provide
    def cipher(self, settings: Settings) -> Cipher:
        with blaming("ENCRYPTION_KEYS"):
            return FernetCipher(settings.encryption_keys)

    @provide
    def signer(self, settings: Settings) -> TokenSigner:
        return JWTSigner(settings.secret_key, algorithm=settings.algorithm)


class Core(Provider):
    scope: BaseScope | None = Scope.APP

    _helpers = provide_all(SessionIssuer, NoteUse, ModelChoice, Planner, Asking, Beginning)
    _use_cases = provide_all(*(set(USE_CASES.values()) - {SearchConversations}))

    @provide
    def units_of_work(self, unit_of_work: UnitOfWorkFactory, _: type[W]) -> UnitsOfWork[W]:
        """For each use case: its units have all repositories."""
        return cast("UnitsOfWork[W]", unit_of_work)

    @provide
    def hooks(self) -> Hooks:
        return NO_HOOKS

    @provide
    async def replies(
        self, settings: Settings, unit_of_work: UnitOfWorkFactory, gateway: LLMGateway, clock: Clock, hooks: Hooks
    ) -> AsyncIterable[Replies]:
        async with Replies(
            unit_of_work=unit_of_work,
            gateway=gateway,
            clock=clock,
            grace=settings.shutdown_grace,
            lease=None if settings.embedded_database else LEASE,
            hooks=hooks,
        ) as replies:
            yield replies

    @provide
    async def session_watch(self, unit_of_work: UnitOfWorkFactory, clock: Clock) -> AsyncIterable[SessionWatch]:
        async with SessionWatch(unit_of_work=unit_of_work, clock=clock) as watch:
            yield watch

    @provide
    async def sweep(self, unit_of_work: UnitOfWorkFactory, clock: Clock) -> AsyncIterable[ExpirySweep]:
        async with ExpirySweep(unit_of_work=unit_of_work, clock=clock) as sweep:
            yield sweep

    @provide
    def password_policy(self, settings: Settings) -> PasswordPolicy:
        return PasswordPolicy(
            minimum=settings.password_min_length,
            blocked=CommonPasswords() if settings.environment == "production" else frozenset[str](),
            always_ask=settings.require_current_password,
        )

    @provide
    def rate_limits(self, settings: Settings, limiter: RateLimiter) -> RateLimits:
        return RateLimits(limiter=limiter, replies=settings.max_replies_per_user, **settings.rate_limits)

    @provide
    def file_limits(self, settings: Settings) -> FileLimits:
        return FileLimits(size=settings.max_file_bytes, files=settings.max_files_per_user)

    @provide
    def search(self, settings: Settings, unit_of_work: UnitOfWorkFactory, limits: RateLimits) -> SearchConversations:
        share = asyncio.Semaphore(max(1, settings.database_pool_size // 4))
        return SearchConversations(unit_of_work=unit_of_work, limits=limits, connections=share)

    @provide
    def session_policy(self, settings: Settings) -> SessionPolicy:
        refresh_secret = settings.refresh_secret_key.encode() or hmac.digest(
            settings.secret_key.encode(), b"chatcore refresh tokens", "sha256"
        )
        return SessionPolicy(
            refresh_secret=refresh_secret,
            access_ttl=timedelta(minutes=settings.access_token_expire_minutes),
            refresh_ttl=timedelta(days=settings.refresh_token_expire_days),
            session_ttl=timedelta(days=settings.session_expire_days),
        )

    @provide
    def chat_defaults(self, settings: Settings) -> ChatDefaults:
        return ChatDefaults(
            model=_own_model(settings),
            system_prompt=settings.system_prompt,
            model_titles=settings.auto_title == "model",
            temperature=settings.default_temperature,
            max_tokens=settings.default_max_tokens,
            limits=PromptLimits(max_messages=settings.prompt_max_messages, max_chars=settings.prompt_max_chars),
        )


def database_of(settings: Settings) -> Database:
    """The database that the settings name, not open yet; for the default one DATA_DIR is made.

    Raise `SettingsError`.
    """
    if not settings.database_url:
        settings.make_data_dir()
    naming = _naming(settings)
    with blaming("DATABASE_URL"):
        return Database(
            settings.resolved_database_url,
            prefix=naming.prefix,
            schema=naming.schema,
            pool_size=settings.database_pool_size,
            max_storage=settings.max_storage_bytes,
        )


def migration_script_of(settings: Settings, start: str) -> str:
    """The SQL from the revision `start` to the newest, for the database that the settings name.

    Raise `SettingsError`, and `LookupError` if there is no such revision.
    """
    naming = _naming(settings)
    with blaming("DATABASE_URL"):
        return migration_script(settings.resolved_database_url, start, prefix=naming.prefix, schema=naming.schema)


def _naming(settings: Settings) -> Naming:
    with blaming("DATABASE_TABLE_PREFIX"):
        naming = Naming(settings.database_table_prefix)
    with blaming("DATABASE_SCHEMA"):
        return replace(naming, schema=settings.database_schema or None)


def _own_model(settings: Settings) -> ModelEndpoint | None:
    """The server's own model; in development without one, the demo model."""
    if settings.openai_api_key or settings.openai_base_url:
        return ModelEndpoint(
            url=normal_model_url(settings.openai_base_url) or _OPENAI_URL,
            model=settings.openai_model or _OPENAI_MODEL,
            api_key=settings.openai_api_key,
            trusted=True,
        )
    return DEMO_ENDPOINT if settings.environment == "development" else None
