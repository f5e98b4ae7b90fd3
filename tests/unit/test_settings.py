"""What an operator may set, from where it is taken, and what is said about what does not hold."""

import secrets
import sqlite3
import sys
from base64 import urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from threading import Barrier
from typing import Any

import msgspec
import pytest

from chatcore import Rate
from chatcore_app import Settings, SettingsError, database_of, migration_script_of

SECRET_KEY = "b3e7f0a94c5d4d1f8a6b2c90d7e1f358"
ENCRYPTION_KEY = "kWb1p0S3yHqgM2xq0v6yCw8T9d3m5uX7nLr4oJ1aBcE="
SECRETS = {"SECRET_KEY": SECRET_KEY, "ENCRYPTION_KEYS": ENCRYPTION_KEY}
PRODUCTION = {"ENVIRONMENT": "production", **SECRETS}

DEFAULTS = {
    "ENVIRONMENT": "development",
    "APP_NAME": "chatcore",
    "APP_VERSION": version("chatcore"),
    "DEBUG": False,
    "HOST": "127.0.0.1",
    "PORT": 8000,
    "WORKERS": 1,
    "DATA_DIR": Path("var"),
    "DATABASE_URL": "",
    "DATABASE_TABLE_PREFIX": "",
    "DATABASE_SCHEMA": "",
    "DATABASE_POOL_SIZE": 10,
    "REDIS_URL": "",
    "SECRET_KEY": SECRET_KEY,
    "REFRESH_SECRET_KEY": "",
    "ALGORITHM": "HS256",
    "ACCESS_TOKEN_EXPIRE_MINUTES": 60,
    "REFRESH_TOKEN_EXPIRE_DAYS": 7,
    "SESSION_EXPIRE_DAYS": 30,
    "ENCRYPTION_KEYS": (ENCRYPTION_KEY,),
    "REQUIRE_CURRENT_PASSWORD": False,
    "PASSWORD_MIN_LENGTH": 8,
    "CORS_ORIGINS": (),
    "TRUSTED_PROXIES": (),
    "REFRESH_COOKIE": False,
    "COOKIE_SECURE": True,
    "COOKIE_SAMESITE": "lax",
    "RESPONSE_ENVELOPE": "none",
    "OPENAI_API_KEY": "",
    "OPENAI_BASE_URL": "",
    "OPENAI_MODEL": "",
    "SYSTEM_PROMPT": "You are a helpful assistant. Answer in the language of the question.",
    "DEFAULT_TEMPERATURE": None,
    "DEFAULT_MAX_TOKENS": None,
    "PROMPT_MAX_MESSAGES": 100,
    "PROMPT_MAX_CHARS": 48_000,
    "AUTO_TITLE": "model",
    "MODEL_URL_ALLOW": (),
    "MODEL_CONNECT_TIMEOUT": 10,
    "MODEL_IDLE_TIMEOUT": 60,
    "MODEL_TOTAL_TIMEOUT": 600,
    "MODEL_MAX_BYTES": 4 * 1024**2,
    "MODEL_MAX_RAW_BYTES": None,
    "MAX_HEADER_BYTES": 32 * 1024,
    "HEADER_TIMEOUT": 10,
    "MAX_BODY_BYTES": 3 * 1024**2,
    "MAX_RELAY_BODY_BYTES": 15 * 1024**2,
    "BODY_TIMEOUT": 30,
    "MAX_UNFINISHED_BODY_BYTES": 64 * 1024**2,
    "MAX_IMPORT_BYTES": 256 * 1024**2,
    "MAX_FILE_BYTES": 20 * 1024**2,
    "MAX_FILES_PER_USER": 1000,
    "RATE_LIMIT_SIGN_IN": "10/minute",
    "RATE_LIMIT_REGISTER": "",
    "RATE_LIMIT_SEND": "",
    "RATE_LIMIT_SEARCH": "",
    "RATE_LIMIT_KEY": "",
    "RATE_LIMIT_REQUESTS": "",
    "MAX_REPLIES_PER_USER": 20,
    "MAX_STORAGE_BYTES": 1024**3,
    "SHUTDOWN_GRACE": 20,
    "LOG_FORMAT": None,
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def value_of(settings: Settings, name: str) -> Any:
    return getattr(settings, name.lower())


# ---- values ----------------------------------------------------------------------------------------------


def test_the_defaults() -> None:
    settings = Settings.load(SECRETS)
    names = {field.encode_name for field in msgspec.structs.fields(Settings)}
    assert {name: value_of(settings, name) for name in names} == DEFAULTS
    assert settings.resolved_database_url == f"sqlite:///{Path('var/chatcore.db').resolve()}"
    assert settings.embedded_database


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("ENVIRONMENT", "production", "production"),
        ("APP_NAME", " Café 🦄 ", "Café 🦄"),
        ("DEBUG", "true", True),
        ("DEBUG", "1", True),
        ("DEBUG", "False", False),
        *(("DEBUG", text, True) for text in ("yes", "ON", "On", "TRUE", "t", "Y", '"true"')),
        *(("COOKIE_SECURE", text, False) for text in ("no", "Off", "0", "FALSE", "f", "N", "' no '")),
        ("DATABASE_URL", ' "mysql://u:p@h/x"\n', "mysql://u:p@h/x"),
        ("REDIS_URL", "'redis://h'", "redis://h"),
        ("PORT", '"9000"', 9000),
        ("CORS_ORIGINS", '"https://a.example, https://b.example"', ("https://a.example", "https://b.example")),
        ("SYSTEM_PROMPT", '"Ja", sagte er, "nein"', '"Ja", sagte er, "nein"'),
        ("HOST", "::", "::"),
        ("PORT", "0", 0),
        ("DATA_DIR", "/srv/chat core", Path("/srv/chat core")),
        ("DATABASE_URL", "mysql://user:p%40ss@host/name", "mysql://user:p%40ss@host/name"),
        ("ALGORITHM", "HS512", "HS512"),
        ("ENCRYPTION_KEYS", f"{ENCRYPTION_KEY}, {ENCRYPTION_KEY},", (ENCRYPTION_KEY, ENCRYPTION_KEY)),
        ("DEFAULT_TEMPERATURE", "0", 0.0),
        ("DEFAULT_MAX_TOKENS", "4096", 4096),
        ("SYSTEM_PROMPT", "Zwei\nZeilen", "Zwei\nZeilen"),
        ("MODEL_IDLE_TIMEOUT", "0.5", 0.5),
        ("SHUTDOWN_GRACE", "0", 0.0),
        ("LOG_FORMAT", "json", "json"),
    ],
)
def test_a_value_is_read_from_its_variable(name: str, text: str, value: object) -> None:
    assert value_of(Settings.load({**SECRETS, name: text}), name) == value


def test_foreign_variables_are_ignored() -> None:
    assert Settings.load({**SECRETS, "PATH": "/bin", "port": "1", "CHATCORE_PORT": "2"}).port == 8000


def test_the_secret_key_has_another_name() -> None:
    other = {"JWT_SECRET_KEY": "j" * 32, "ENCRYPTION_KEYS": ENCRYPTION_KEY}
    assert Settings.load(other).secret_key == "j" * 32
    assert Settings.load({**other, "SECRET_KEY": SECRET_KEY}).secret_key == SECRET_KEY
    assert Settings.load({**other, "SECRET_KEY": ""}).secret_key == "j" * 32


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ENVIRONMENT", "staging"),
        ("DEBUG", "perhaps"),
        ("PORT", "http"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("WORKERS", "0"),
        ("WORKERS", "2"),
        ("DATABASE_POOL_SIZE", "0"),
        ("SECRET_KEY", "s" * 31),
        ("JWT_SECRET_KEY", "s" * 31),
        ("REFRESH_SECRET_KEY", "r" * 31),
        ("ALGORITHM", "none"),
        ("ACCESS_TOKEN_EXPIRE_MINUTES", "0"),
        ("REFRESH_TOKEN_EXPIRE_DAYS", "1.5"),
        ("SESSION_EXPIRE_DAYS", "x"),
        ("ENCRYPTION_KEYS", ","),
        ("PASSWORD_MIN_LENGTH", "0"),
        ("DEFAULT_TEMPERATURE", "2.1"),
        ("DEFAULT_TEMPERATURE", "nan"),
        ("DEFAULT_MAX_TOKENS", "0"),
        ("PROMPT_MAX_MESSAGES", "0"),
        ("MODEL_CONNECT_TIMEOUT", "0"),
        ("MODEL_TOTAL_TIMEOUT", "ten"),
        *(
            (name, text)
            for name in ("MODEL_CONNECT_TIMEOUT", "MODEL_IDLE_TIMEOUT", "MODEL_TOTAL_TIMEOUT", "SHUTDOWN_GRACE")
            for text in ("inf", "-inf", "nan", "1e400", "-1")
        ),
        ("MODEL_TOTAL_TIMEOUT", "86401"),
        ("ACCESS_TOKEN_EXPIRE_MINUTES", "1000000000000"),
        ("REFRESH_TOKEN_EXPIRE_DAYS", "1000000000"),
        ("SESSION_EXPIRE_DAYS", "1000000000"),
        ("WORKERS", "1000000"),
        ("DATABASE_POOL_SIZE", "1000000"),
        ("MAX_BODY_BYTES", "9" * 30),
        ("MAX_BODY_BYTES", "1 MiB"),
        ("RATE_LIMIT_SIGN_IN", "10"),
        ("RATE_LIMIT_REGISTER", "0/hour"),
        ("RATE_LIMIT_SEND", "5/fortnight"),
        ("RATE_LIMIT_REQUESTS", "-1/minute"),
        ("MAX_REPLIES_PER_USER", "0"),
        ("MAX_STORAGE_BYTES", "0"),
        ("SHUTDOWN_GRACE", "-1"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_a_value_that_does_not_hold_is_said_with_its_name(name: str, text: str) -> None:
    secrets = {"ENCRYPTION_KEYS": ENCRYPTION_KEY} if name == "JWT_SECRET_KEY" else SECRETS
    with pytest.raises(SettingsError) as raised:
        Settings.load({**secrets, name: text})
    assert str(raised.value).startswith(name.removeprefix("JWT_"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("MODEL_URL_ALLOW", "http://0.0.0.0/0:*"),
        ("MODEL_URL_ALLOW", "http://10.0.0.0/8:*,https://[::]/0:443"),
        ("MODEL_URL_ALLOW", "http://128.0.0.0/1:80"),
        ("TRUSTED_PROXIES", "0.0.0.0/0"),
        ("TRUSTED_PROXIES", "10.0.0.7,::/0"),
    ],
)
def test_production_refuses_networks_that_are_everything(name: str, text: str) -> None:
    Settings.load({**SECRETS, name: text})
    with pytest.raises(SettingsError) as raised:
        Settings.load({**PRODUCTION, name: text})
    assert str(raised.value).startswith(f"{name}: ")
    narrow = {"MODEL_URL_ALLOW": "http://10.0.0.0/8:*,https://[fc00::]/7:443", "TRUSTED_PROXIES": "10.0.0.7,fc00::/7"}
    Settings.load({**PRODUCTION, name: narrow[name]})


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("ENVIRONMENT", "prod", "ENVIRONMENT must be development or production."),
        ("ALGORITHM", "none", "ALGORITHM must be HS256 or HS384 or HS512."),
        ("DEBUG", "perhaps", "DEBUG must be true or false; yes and no, on and off, 1 and 0 are the same."),
        ("AUTO_TITLE", "never", "AUTO_TITLE must be model or first-message."),
        ("COOKIE_SAMESITE", "Lax", "COOKIE_SAMESITE must be lax or strict or none."),
        ("LOG_FORMAT", "xml", "LOG_FORMAT must be console or json."),
    ],
)
def test_of_a_few_words_the_allowed_ones_are_said(name: str, text: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.load({**SECRETS, name: text})
    assert str(raised.value) == sentence


def test_a_driver_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(SettingsError, match=r"^DATABASE_URL: this database needs the driver asyncpg: pip install "):
        database_of(Settings.load({"DATABASE_URL": "postgresql://u:s3cret@h/x"}))


def test_a_secret_that_does_not_hold_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.load({**SECRETS, "SECRET_KEY": "too short a secret"})
    assert "too short a secret" not in str(raised.value)


RATES = ("sign_in", "register", "send", "search", "key", "requests")


@pytest.mark.parametrize(
    ("environ", "rates"),
    [
        (SECRETS, (Rate(10, 60), None, None, None, None, None)),
        (PRODUCTION, (Rate(10, 60), Rate(20, 3600), Rate(60, 60), Rate(60, 60), Rate(600, 60), Rate(1200, 60))),
        (
            {**SECRETS, "RATE_LIMIT_SIGN_IN": "off", "RATE_LIMIT_SEND": "3/second"},
            (None, None, Rate(3, 1), None, None, None),
        ),
        (
            {**PRODUCTION, "RATE_LIMIT_REGISTER": "2/day", "RATE_LIMIT_REQUESTS": "off"},
            (Rate(10, 60), Rate(2, 86_400), Rate(60, 60), Rate(60, 60), Rate(600, 60), None),
        ),
    ],
)
def test_rates_of_development_production_and_ones_own(environ: dict[str, str], rates: tuple[Rate | None, ...]) -> None:
    assert Settings.load(environ).rate_limits == dict(zip(RATES, rates, strict=True))


# ---- sources ---------------------------------------------------------------------------------------------


def test_the_environment_comes_before_the_file_and_the_file_before_the_defaults(folder: Path) -> None:
    (folder / ".env").write_text("PORT=1\nHOST=file\nAPP_NAME='In the file' # comment\nDATABASE_POOL_SIZE=\n")
    settings = Settings.load({**SECRETS, "PORT": "2"})
    assert (settings.port, settings.host, settings.app_name) == (2, "file", "In the file")
    assert settings.database_pool_size == 10


def test_an_empty_variable_is_none(folder: Path) -> None:
    assert Settings.load({**SECRETS, "PORT": "", "LOG_FORMAT": " "}).port == 8000
    (folder / ".env").write_text("PORT=1")
    assert Settings.load({**SECRETS, "PORT": ""}).port == 1


def test_an_empty_system_prompt_is_none_and_not_the_default(folder: Path) -> None:
    assert Settings.load({**SECRETS, "SYSTEM_PROMPT": ""}).system_prompt == ""
    (folder / ".env").write_text("SYSTEM_PROMPT=")
    assert Settings.load(SECRETS).system_prompt == ""
    assert Settings.load({**SECRETS, "SYSTEM_PROMPT": "Rhyme."}).system_prompt == "Rhyme."


def test_the_other_name_of_the_secret_key_has_the_rank_of_its_source(folder: Path) -> None:
    (folder / ".env").write_text(f"SECRET_KEY={'f' * 32}")
    environ = {"JWT_SECRET_KEY": "e" * 32, "ENCRYPTION_KEYS": ENCRYPTION_KEY}
    assert Settings.load(environ).secret_key == "e" * 32


def test_the_file_is_read_as_utf8_and_said_if_it_is_not(folder: Path) -> None:
    (folder / ".env").write_bytes("APP_NAME=Café".encode())
    assert Settings.load(SECRETS).app_name == "Café"
    (folder / ".env").write_bytes("APP_NAME=Café".encode("latin-1"))
    with pytest.raises(SettingsError, match=r"^\.env: "):
        Settings.load(SECRETS)


def test_a_file_says_what_the_environment_does_not_hold_either(folder: Path) -> None:
    (folder / ".env").write_text("PORT=http")
    with pytest.raises(SettingsError, match=r"^PORT"):
        Settings.load(SECRETS)
    assert Settings.load({**SECRETS, "PORT": "1"}).port == 1


# ---- secrets ---------------------------------------------------------------------------------------------


def test_development_makes_its_secrets_once(folder: Path) -> None:
    first = Settings.load({"DATA_DIR": "deep/data"})
    path = folder / "deep/data/secrets.env"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(first.secret_key) >= 32
    written = path.read_bytes()
    assert Settings.load({"DATA_DIR": "deep/data"}) == first
    assert path.read_bytes() == written
    other = Settings.load({"DATA_DIR": "other"})
    assert other.secret_key != first.secret_key
    assert other.encryption_keys != first.encryption_keys


def test_of_many_who_make_them_at_once_all_have_the_same(folder: Path) -> None:
    together = Barrier(16)

    def load(_: int) -> Settings:
        together.wait()
        return Settings.load({"DATA_DIR": "data"})

    for number in range(5):
        with ThreadPoolExecutor(16) as pool:
            assert len({one.secret_key + one.encryption_keys[0] for one in pool.map(load, range(16))}) == 1
        assert [path.name for path in (folder / "data").iterdir()] == ["secrets.env"], number
        (folder / "data/secrets.env").unlink()


def test_without_links_a_file_gets_its_name_all_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert Settings.load({"DATA_DIR": "data"}) == Settings.load({"DATA_DIR": "data"})
    assert [path.name for path in (folder / "data").iterdir()] == ["secrets.env"]


def test_what_is_given_is_not_made(folder: Path) -> None:
    made = Settings.load({})
    given = Settings.load({"SECRET_KEY": SECRET_KEY})
    assert (given.secret_key, given.encryption_keys) == (SECRET_KEY, made.encryption_keys)
    (folder / ".env").write_text(f"ENCRYPTION_KEYS={ENCRYPTION_KEY}")
    from_file = Settings.load({})
    assert (from_file.secret_key, from_file.encryption_keys) == (made.secret_key, (ENCRYPTION_KEY,))


def test_with_secrets_of_its_own_nothing_is_written(folder: Path) -> None:
    Settings.load(SECRETS)
    Settings.load(PRODUCTION)
    assert list(folder.iterdir()) == []


def test_a_data_dir_that_cannot_be_made_is_said(folder: Path) -> None:
    (folder / "file").touch()
    for data_dir in ("file", "file/data"):
        with pytest.raises(SettingsError, match=f"^DATA_DIR: .*{data_dir}"):
            Settings.load({"DATA_DIR": data_dir})


@pytest.mark.parametrize("missing", ["SECRET_KEY", "ENCRYPTION_KEYS"])
def test_production_wants_secrets_of_its_own(folder: Path, missing: str) -> None:
    Settings.load({})  # those that development made are not taken
    with pytest.raises(SettingsError, match=f"^{missing}"):
        Settings.load({name: value for name, value in PRODUCTION.items() if name != missing})
    assert Settings.load(PRODUCTION).environment == "production"


def test_all_secrets_that_are_missing_are_said_at_once() -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.load({"ENVIRONMENT": "production", "REFRESH_SECRET_KEY": "geheim"})
    for name in ("SECRET_KEY", "REFRESH_SECRET_KEY", "ENCRYPTION_KEYS"):
        assert f"{name} must " in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize(
    "secret",
    [
        "s" * 32,
        "0" * 64,
        "abcd" * 16,
        "b3e7f0a94c5d4d1f" * 2,
        "change-me-" + "b3e7f0a94c5d4d1f8a6b2c90d7e1f358",
        "your-secret-key-at-least-32-characters-long",
        "your-refresh-secret-key-at-least-32-characters-long",
    ],
)
@pytest.mark.parametrize("name", ["SECRET_KEY", "REFRESH_SECRET_KEY"])
def test_production_refuses_secrets_that_can_be_guessed(name: str, secret: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} can be guessed") as raised:
        Settings.load({**PRODUCTION, name: secret})
    assert secret not in str(raised.value)
    Settings.load({**SECRETS, name: secret})


def test_production_refuses_an_encryption_key_that_can_be_guessed() -> None:
    with pytest.raises(SettingsError, match=r"^ENCRYPTION_KEYS can be guessed"):
        Settings.load({**PRODUCTION, "ENCRYPTION_KEYS": f"{ENCRYPTION_KEY},{'A' * 43}="})


@pytest.mark.parametrize(
    "same", [{"REFRESH_SECRET_KEY": SECRET_KEY}, {"SECRET_KEY": ENCRYPTION_KEY}], ids=lambda same: next(iter(same))
)
def test_production_refuses_one_secret_for_two_purposes(same: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"^SECRET_KEY must be no other secret"):
        Settings.load({**PRODUCTION, **same})


def test_production_takes_what_is_made_as_it_is_told() -> None:
    for _ in range(1_000):
        keys = {"SECRET_KEY": secrets.token_hex(32), "REFRESH_SECRET_KEY": secrets.token_hex(16)}
        keys["ENCRYPTION_KEYS"] = urlsafe_b64encode(secrets.token_bytes(32)).decode()
        Settings.load({"ENVIRONMENT": "production", **keys})


# ---- cookies ---------------------------------------------------------------------------------------------


def test_a_cookie_that_browsers_would_refuse_is_said() -> None:
    with pytest.raises(SettingsError, match=r"^COOKIE_SAMESITE may be none only with COOKIE_SECURE=true"):
        Settings.load({**SECRETS, "COOKIE_SECURE": "false", "COOKIE_SAMESITE": "none"})


def test_production_sends_its_cookie_over_https_alone() -> None:
    with pytest.raises(SettingsError, match=r"^COOKIE_SECURE must be true in production"):
        Settings.load({**PRODUCTION, "REFRESH_COOKIE": "true", "COOKIE_SECURE": "false"})
    Settings.load({**SECRETS, "REFRESH_COOKIE": "true", "COOKIE_SECURE": "false"})


# ---- the database ----------------------------------------------------------------------------------------


def test_only_sqlite_is_embedded() -> None:
    for url, embedded in (("sqlite:///here.db", True), ("sqlite://", True), ("mysql://host/name", False)):
        settings = Settings.load({**SECRETS, "DATABASE_URL": url})
        assert settings.resolved_database_url == url
        assert settings.embedded_database is embedded


async def test_the_default_database_has_its_folder_made(folder: Path) -> None:
    async with database_of(Settings.load({**PRODUCTION, "DATA_DIR": "deep/data"})) as database:
        await database.migrate()
    assert (folder / "deep/data/chatcore.db").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DATABASE_TABLE_PREFIX", "1st"),
        ("DATABASE_TABLE_PREFIX", "chat-"),
        ("DATABASE_TABLE_PREFIX", "much_too_long"),
        ("DATABASE_SCHEMA", "talk.chat"),
        ("DATABASE_URL", "mysql://u:p@h/x"),
    ],
)
def test_a_name_for_the_tables_that_does_not_hold_is_said(name: str, text: str) -> None:
    settings = Settings.load({**SECRETS, "DATABASE_URL": "postgresql://h/x", "DATABASE_SCHEMA": "talk", name: text})
    for refuse in (lambda: database_of(settings), lambda: migration_script_of(settings, "base")):
        with pytest.raises(SettingsError, match=rf"^{name}: "):
            refuse()


async def test_the_tables_are_where_the_settings_say() -> None:
    settings = Settings.load({**SECRETS, "DATABASE_TABLE_PREFIX": "chat_"})
    async with database_of(settings) as database:
        await database.migrate()
    with closing(sqlite3.connect("var/chatcore.db")) as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert "chat_users" in names
    assert all(name.startswith(("chat_", "sqlite_")) for name in names)
    assert "CREATE TABLE chat_users (" in migration_script_of(settings, "base")


@pytest.mark.parametrize("url", ["nonsense", "oracle://user:geheim@host/name", "mysql+odd://host/name"])
def test_a_database_url_that_does_not_hold_is_said(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^DATABASE_URL: ") as raised:
        database_of(Settings.load({**SECRETS, "DATABASE_URL": url}))
    assert "geheim" not in str(raised.value)
