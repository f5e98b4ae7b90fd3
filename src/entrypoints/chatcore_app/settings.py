"""The operator's settings: environment variables, then a `.env` file in the working directory, then defaults.

A setting's name is its field's in capitals. Blanks and a pair of quotes around a value are removed. An empty value
counts as not set, except for SYSTEM_PROMPT, where it means no prompt. Errors are sentences that name the variable.
"""

import os
import secrets
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec
from dotenv import dotenv_values
from msgspec import Meta

from chatcore.bounds import MODEL
from chatcore.entities import normal_model_url
from chatcore.errors import Unavailable
from chatcore.ports import Rate
from chatcore.storage import MAX_STORAGE_BYTES
from chatcore_app.setting_rules import (
    SettingsError,
    can_be_guessed,
    check_host,
    check_network,
    check_not_everything,
    check_origin,
    rate,
)

Positive = Annotated[int, Meta(ge=1, le=2**53)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]  # no "inf", which msgspec takes for a number
Some = Annotated[int, Meta(ge=1, le=10_000)]
_TenYears = Annotated[int, Meta(ge=1, le=3650)]

_PRODUCTION_RATES = {
    "register": "20/hour",
    "send": "60/minute",
    "search": "60/minute",
    "key": "600/minute",
    "requests": "1200/minute",
}
_SYSTEM_PROMPT = "You are a helpful assistant. Answer in the language of the question."


_MAY_BE_EMPTY = frozenset({"SYSTEM_PROMPT"})
_TRUE = frozenset({"true", "yes", "on", "1", "t", "y"})
_FALSE = frozenset({"false", "no", "off", "0", "f", "n"})


class Settings(msgspec.Struct, frozen=True, kw_only=True, rename=str.upper):
    """Durations are in the unit that the name says, else in seconds; sizes in bytes."""

    environment: Literal["development", "production"] = "development"
    app_name: str = "chatcore"
    app_version: str = version("chatcore")
    debug: bool = False
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    workers: Some = 1
    data_dir: Path = Path("var")
    database_url: str = ""
    database_table_prefix: str = ""
    database_schema: str = ""
    database_pool_size: Some = 10
    redis_url: str = ""
    secret_key: str = ""
    refresh_secret_key: str = ""
    algorithm: Literal["HS256", "HS384", "HS512"] = "HS256"
    access_token_expire_minutes: Annotated[int, Meta(ge=1, le=30 * 24 * 60)] = 60
    refresh_token_expire_days: _TenYears = 7
    session_expire_days: _TenYears = 30
    encryption_keys: tuple[str, ...] = ()
    require_current_password: bool = False
    password_min_length: Annotated[int, Meta(ge=1, le=128)] = 8
    cors_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    refresh_cookie: bool = False
    cookie_secure: bool = True
    cookie_samesite: Literal["lax", "strict", "none"] = "lax"
    response_envelope: Literal["none", "code"] = "none"
    openai_api_key: str = ""
    openai_base_url: str = ""
    openai_model: str = ""
    system_prompt: str = _SYSTEM_PROMPT
    default_temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    default_max_tokens: Positive | None = None
    prompt_max_messages: Positive = 100
    prompt_max_chars: Positive = 48_000
    auto_title: Literal["model", "first-message"] = "model"
    model_url_allow: tuple[str, ...] = ()
    model_connect_timeout: Seconds = 10
    model_idle_timeout: Seconds = 60
    model_total_timeout: Seconds = 600
    model_max_bytes: Annotated[int, Meta(ge=1, le=7 * 1024 * 1024)] = 4 * 1024 * 1024  # MariaDB takes 16 MiB, escaped
    model_max_raw_bytes: Positive | None = None  # 16 times as many
    max_header_bytes: Annotated[int, Meta(ge=1024, le=1024 * 1024)] = 32 * 1024
    header_timeout: Seconds = 10
    max_body_bytes: Positive = 3 * 1024 * 1024  # a message as long as it may be, all of it written as \u escapes
    max_relay_body_bytes: Positive = 15 * 1024 * 1024  # a quarter of the next but one, which an address may have
    body_timeout: Seconds = 30
    max_unfinished_body_bytes: Positive = 64 * 1024 * 1024
    max_import_bytes: Positive = 256 * 1024 * 1024
    max_file_bytes: Positive = 20 * 1024 * 1024
    max_files_per_user: Positive = 1000
    rate_limit_sign_in: str = "10/minute"
    rate_limit_register: str = ""
    rate_limit_send: str = ""
    rate_limit_search: str = ""
    rate_limit_key: str = ""
    rate_limit_requests: str = ""
    max_replies_per_user: Positive = 20
    max_storage_bytes: Positive = MAX_STORAGE_BYTES
    shutdown_grace: Annotated[float, Meta(ge=0, le=3600)] = 20
    log_format: Literal["console", "json"] | None = None

    @staticmethod
    def load(environ: Mapping[str, str] | None = None, env_file: str = ".env") -> "Settings":
        """Raise `SettingsError`. In development missing secrets are made once and kept in DATA_DIR/secrets.env."""
        environ = os.environ if environ is None else environ
        with blaming(env_file):
            in_file = _file_values(Path(env_file))
        named = {**_named(in_file), **_named(environ)}
        settings = _converted({**_converted(named)._secrets_made(), **named})
        settings.check()
        return settings

    def completed(self) -> "Settings":
        """Return them checked, and with the secrets that `load` makes. Raise `SettingsError`."""
        made = _converted(self._secrets_made())
        settings = msgspec.structs.replace(
            self,
            secret_key=self.secret_key or made.secret_key,
            encryption_keys=self.encryption_keys or made.encryption_keys,
        )
        settings.check()
        return settings

    def _secrets_made(self) -> Mapping[str, str]:
        """Return those of development, if any is missing there."""
        if self.environment != "development" or (self.secret_key and self.encryption_keys):
            return {}
        self.make_data_dir()
        with blaming("DATA_DIR"):
            return _development_secrets(self.data_dir)

    def check(self) -> None:
        """Raise `SettingsError` for what no single value shows."""
        if missing := " ".join(self._missing_secrets()):
            raise SettingsError(missing)
        if self.environment == "production" and (guessable := " ".join(self._guessable_secrets())):
            raise SettingsError(guessable)
        if self.openai_base_url and any(MODEL.broken(model_url=normal_model_url(self.openai_base_url))):
            raise SettingsError("OPENAI_BASE_URL must be an http(s) URL such as https://api.openai.com/v1")
        if self.workers > 1 and self.embedded_database:
            raise SettingsError(
                "WORKERS must be 1 with SQLite, whose file serves one process. "
                "Name a MySQL or PostgreSQL database in DATABASE_URL for more."
            )
        if self.refresh_cookie and not self.cookie_secure and self.environment == "production":
            raise SettingsError(
                "COOKIE_SECURE must be true in production: the refresh cookie is as good as a password."
            )
        if not self.cookie_secure and self.cookie_samesite == "none":
            raise SettingsError(
                "COOKIE_SAMESITE may be none only with COOKIE_SECURE=true: browsers refuse such cookies."
            )
        check_host(self.host)
        for origin in self.cors_origins:
            check_origin(origin)
        self._check_networks()
        _ = self.rate_limits

    def _check_networks(self) -> None:
        for proxy in self.trusted_proxies:
            check_network(proxy)
        if self.environment == "production":
            check_not_everything("TRUSTED_PROXIES", self.trusted_proxies)
            check_not_everything("MODEL_URL_ALLOW", self.model_url_allow)

    @property
    def address(self) -> str:
        """HOST without the brackets that an IPv6 address has in a URL."""
        return self.host.removeprefix("[").removesuffix("]")

    @property
    def rate_limits(self) -> dict[str, Rate | None]:
        """Each kind's rate, None where there is none. Raise `SettingsError`."""
        defaults = _PRODUCTION_RATES if self.environment == "production" else {}
        return {
            kind: rate(f"RATE_LIMIT_{kind.upper()}", getattr(self, f"rate_limit_{kind}") or defaults.get(kind, "off"))
            for kind in ("sign_in", *_PRODUCTION_RATES)
        }

    def _missing_secrets(self) -> Iterator[str]:
        """Name all of them, so that an operator makes them in one go."""
        if len(self.secret_key) < 32:
            yield "SECRET_KEY must have at least 32 characters. Make one: openssl rand -hex 32."
        if self.refresh_secret_key and len(self.refresh_secret_key) < 32:
            yield "REFRESH_SECRET_KEY must have at least 32 characters, or be left out."
        if not self.encryption_keys:
            yield (
                "ENCRYPTION_KEYS must name at least one Fernet key (32 random bytes in URL-safe base64). "
                "Make one: openssl rand -base64 32 | tr '+/' '-_'."
            )

    def _guessable_secrets(self) -> Iterator[str]:
        named = [("SECRET_KEY", self.secret_key), ("REFRESH_SECRET_KEY", self.refresh_secret_key)]
        named += [("ENCRYPTION_KEYS", key) for key in self.encryption_keys]
        for name, secret in named:
            if secret and can_be_guessed(secret):
                yield f"{name} can be guessed: it is an example or repeats itself. Make another."
        if self.secret_key == self.refresh_secret_key or self.secret_key in self.encryption_keys:
            yield "SECRET_KEY must be no other secret: not REFRESH_SECRET_KEY, and none of ENCRYPTION_KEYS."

    def __repr__(self) -> str:
        """Without the values: some are secrets, and a database's URL may hold one."""
        return f"Settings(environment={self.environment!r}, …)"

    def make_data_dir(self) -> None:
        """Raise `SettingsError` if it cannot be made."""
        with blaming("DATA_DIR"):
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def resolved_database_url(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir.resolve() / 'chatcore.db'}"

    @property
    def embedded_database(self) -> bool:
        """SQLite migrates itself at start; every other database by `chatcore migrate`."""
        return self.resolved_database_url[:6].lower() == "sqlite"


@contextmanager
def blaming(name: str) -> Generator[None, None, None]:
    """What the system or an adapter has to say against a value, as a `SettingsError` that names the variable."""
    try:
        yield
    except OSError as error:
        raise SettingsError(f"{name}: {error.strerror}: {error.filename}") from None
    except (ImportError, ValueError, Unavailable) as error:
        raise SettingsError(f"{name}: {error}") from None


def _named(values: Mapping[str, str]) -> dict[str, str]:
    """The values that are ours and, but for a few, not empty. JWT_SECRET_KEY is another name of SECRET_KEY."""
    names = {field.encode_name for field in msgspec.structs.fields(Settings)}
    found = {
        name: value for name in names if (value := _bare(values.get(name))) or name in _MAY_BE_EMPTY & values.keys()
    }
    if not found.get("SECRET_KEY") and (other := _bare(values.get("JWT_SECRET_KEY"))):
        found["SECRET_KEY"] = other
    return found


def _bare(value: str | None) -> str:
    text = (value or "").strip()
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" and text.count(text[0]) == 2
    return text[1:-1].strip() if quoted else text


def _converted(named: Mapping[str, str]) -> Settings:
    raw: dict[str, object] = {}
    for field in msgspec.structs.fields(Settings):
        if (value := named.get(field.encode_name)) is not None:
            raw[field.encode_name] = _read(field.encode_name, field.type, value)
    try:
        return msgspec.convert(raw, Settings, strict=False, dec_hook=lambda kind, value: kind(value))
    except msgspec.ValidationError as error:
        raise SettingsError(_sentence(error)) from None


def _sentence(error: msgspec.ValidationError) -> str:
    """msgspec says `Expected `int` - at `$.PORT``; a person reads the name first. The value is not repeated."""
    what, _, where = str(error).partition(" - at `$.")
    name = where.rstrip("`") or "settings"
    choices = _choices(name)
    return f"{name} must be {' or '.join(choices)}." if choices else f"{name}: {what[0].lower()}{what[1:]}"


def _choices(name: str) -> list[str]:
    """The values of a setting that is one of a few words."""
    kinds = [field.type for field in msgspec.structs.fields(Settings) if field.encode_name == name]
    parts = [part for kind in kinds for part in get_args(kind)]  # of a Literal the words, of a union its types
    return [word for part in parts for word in (get_args(part) or (part,)) if isinstance(word, str)]


def _read(name: str, kind: object, value: str) -> object:
    """What msgspec does not read by itself."""
    if kind == tuple[str, ...]:
        return _listed(value)
    if kind is not bool:
        return value
    if value.lower() not in _TRUE | _FALSE:
        raise SettingsError(f"{name} must be true or false; yes and no, on and off, 1 and 0 are the same.")
    return value.lower() in _TRUE


def _listed(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _file_values(path: Path) -> dict[str, str]:
    return {name: value for name, value in dotenv_values(path).items() if value is not None} if path.is_file() else {}


def _development_secrets(data_dir: Path) -> dict[str, str]:
    """Make secrets once, readable only by their owner. A second process uses what the first has made."""
    path = data_dir / "secrets.env"
    if not path.exists():
        handle, made = tempfile.mkstemp(dir=data_dir)
        with os.fdopen(handle, "w") as file:
            file.write(
                "# Made for development. Production needs secrets of its own.\n"
                f"SECRET_KEY={secrets.token_hex(32)}\n"
                f"ENCRYPTION_KEYS={urlsafe_b64encode(secrets.token_bytes(32)).decode()}\n"
            )
        _settle(Path(made), path)
    return _named(_file_values(path))


def _settle(made: Path, path: Path) -> None:
    """Give a file its name, unless another process was quicker: whoever finds one there finds it whole."""
    try:
        path.hardlink_to(made)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        made.replace(path)
    made.unlink(missing_ok=True)
