"""What an operator may set: environment variables, then a `.env` file in the working directory, then defaults.

A name is the field's in capitals; an empty value counts as not set. Whatever is wrong is said at once, in sentences
that name the variable.
"""

import os
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from dotenv import dotenv_values
from msgspec import Meta

from chatcore.entities import model_url_rule

Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]

_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:(?P<port>[1-9][0-9]{0,4}))?")
_SYSTEM_PROMPT = "You are a helpful assistant. Answer in the language of the question."


class SettingsError(Exception):
    """The settings do not hold together; the message tells a person what to set."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, rename=str.upper):
    """Durations are in the unit that the name says, else in seconds; sizes in bytes."""

    environment: Literal["development", "production"] = "development"
    app_name: str = "chatcore"
    app_version: str = version("chatcore")
    debug: bool = False
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    workers: Positive = 1
    data_dir: Path = Path("var")
    database_url: str = ""
    database_pool_size: Positive = 10
    secret_key: str = ""
    refresh_secret_key: str = ""
    algorithm: Literal["HS256", "HS384", "HS512"] = "HS256"
    access_token_expire_minutes: Positive = 60
    refresh_token_expire_days: Positive = 7
    session_expire_days: Positive = 30
    encryption_keys: tuple[str, ...] = ()
    require_current_password: bool = False
    password_min_length: Annotated[int, Meta(ge=1, le=128)] = 8
    cors_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    openai_api_key: str = ""
    openai_base_url: str = ""
    openai_model: str = ""
    system_prompt: str = _SYSTEM_PROMPT
    default_temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    default_max_tokens: Positive | None = None
    prompt_max_messages: Positive = 100
    prompt_max_chars: Positive = 48_000
    auto_title: Literal["model", "first-message"] = "model"
    model_connect_timeout: Seconds = 10
    model_idle_timeout: Seconds = 60
    model_total_timeout: Seconds = 600
    model_max_bytes: Positive = 4 * 1024 * 1024
    max_body_bytes: Positive = 1024 * 1024
    shutdown_grace: Annotated[float, Meta(ge=0, le=3600)] = 20
    log_format: Literal["console", "json"] | None = None

    @staticmethod
    def load(environ: Mapping[str, str] | None = None, env_file: str = ".env") -> "Settings":
        """Raises `SettingsError`. In development missing secrets are made once and kept in DATA_DIR/secrets.env."""
        environ = os.environ if environ is None else environ
        with blaming(env_file):
            in_file = _file_values(Path(env_file))
        named = {**_named(in_file), **_named(environ)}
        settings = _converted(named)
        if settings.environment == "development" and not (settings.secret_key and settings.encryption_keys):
            settings.make_data_dir()
            with blaming("DATA_DIR"):
                made = _development_secrets(settings.data_dir)
            settings = _converted({**made, **named})
        settings.check()
        return settings

    def check(self) -> None:
        """Raises `SettingsError` for what no single value shows."""
        if len(self.secret_key) < 32:
            raise SettingsError("SECRET_KEY must have at least 32 characters. Make one: openssl rand -hex 32")
        if self.refresh_secret_key and len(self.refresh_secret_key) < 32:
            raise SettingsError("REFRESH_SECRET_KEY must have at least 32 characters, or be left out.")
        if not self.encryption_keys:
            raise SettingsError(
                "ENCRYPTION_KEYS must name at least one Fernet key (32 random bytes in URL-safe base64). "
                "Make one: openssl rand -base64 32 | tr '+/' '-_'"
            )
        if self.openai_base_url and model_url_rule(self.openai_base_url):
            raise SettingsError("OPENAI_BASE_URL must be an http(s) URL such as https://api.openai.com/v1")
        if self.workers > 1:
            raise SettingsError("WORKERS must be 1: replies are still written by a single process.")
        for origin in self.cors_origins:
            _check_origin(origin)
        for proxy in self.trusted_proxies:
            _check_network(proxy)

    def __repr__(self) -> str:
        """Without the values: some are secrets, and a database's URL may hold one."""
        return f"Settings(environment={self.environment!r}, …)"

    def make_data_dir(self) -> None:
        """Raises `SettingsError` if it cannot be made."""
        with blaming("DATA_DIR"):
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def resolved_database_url(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir.resolve() / 'chatcore.db'}"

    @property
    def embedded_database(self) -> bool:
        """SQLite migrates itself at start; every other database by `chatcore migrate`."""
        return self.resolved_database_url.startswith("sqlite")


def _check_origin(origin: str) -> None:
    """As a browser sends it (RFC 6454 §6.2), since it is compared as text: no wildcard, no path, no default port."""
    found = _ORIGIN.fullmatch(origin)
    if not found or (found["scheme"], found["port"]) in (("http", "80"), ("https", "443")):
        raise SettingsError(
            f"CORS_ORIGINS: {origin!r} is not an origin as a browser sends it, such as https://app.example.com or "
            "http://localhost:3000: in lower case, without a path, a final slash, a wildcard or the default port."
        )


def _check_network(proxy: str) -> None:
    try:
        ip_network(proxy)
    except ValueError as error:
        raise SettingsError(
            f"TRUSTED_PROXIES: {error}. Name addresses or networks, such as 10.0.0.7 or 10.0.0.0/8."
        ) from None


@contextmanager
def blaming(name: str) -> Generator[None, None, None]:
    """What the system or an adapter has to say against a value, as a `SettingsError` that names the variable."""
    try:
        yield
    except OSError as error:
        raise SettingsError(f"{name}: {error.strerror}: {error.filename}") from None
    except ValueError as error:
        raise SettingsError(f"{name}: {error}") from None


def _named(values: Mapping[str, str]) -> dict[str, str]:
    """The values that are ours and not empty. JWT_SECRET_KEY is another name of SECRET_KEY."""
    names = {field.encode_name for field in msgspec.structs.fields(Settings)}
    found = {name: value for name in names if (value := (values.get(name) or "").strip())}
    if not found.get("SECRET_KEY") and (other := (values.get("JWT_SECRET_KEY") or "").strip()):
        found["SECRET_KEY"] = other
    return found


def _converted(named: Mapping[str, str]) -> Settings:
    raw: dict[str, object] = {}
    for field in msgspec.structs.fields(Settings):
        if (value := named.get(field.encode_name)) is not None:
            raw[field.encode_name] = _listed(value) if field.type == tuple[str, ...] else value
    try:
        return msgspec.convert(raw, Settings, strict=False, dec_hook=lambda kind, value: kind(value))
    except msgspec.ValidationError as error:
        raise SettingsError(_sentence(error)) from None


def _sentence(error: msgspec.ValidationError) -> str:
    """msgspec says `Expected `int` - at `$.PORT``; a person reads the name first. The value is not repeated."""
    what, _, where = str(error).partition(" - at `$.")
    return f"{where.rstrip('`') or 'settings'}: {what[0].lower()}{what[1:]}"


def _listed(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _file_values(path: Path) -> dict[str, str]:
    return {name: value for name, value in dotenv_values(path).items() if value is not None} if path.is_file() else {}


def _development_secrets(data_dir: Path) -> dict[str, str]:
    """Made once, readable by their owner only. Whoever comes second takes what the first has made."""
    path = data_dir / "secrets.env"
    with suppress(FileExistsError), os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(
            "# Made for development. Production needs secrets of its own.\n"
            f"SECRET_KEY={secrets.token_hex(32)}\n"
            f"ENCRYPTION_KEYS={urlsafe_b64encode(secrets.token_bytes(32)).decode()}\n"
        )
    return _named(_file_values(path))
