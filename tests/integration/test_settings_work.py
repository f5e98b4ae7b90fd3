"""What an operator sets is taken, or refused in a sentence that names the variable."""

from pathlib import Path

import pytest
from dishka import AsyncContainer

from chatcore import ChatDefaults, PasswordPolicy
from chatcore.ports import UnitOfWorkFactory
from chatcore_app import SettingsError, make_container
from chatcore_memory import MemoryDatabase
from integration.http_app import PASSWORD, api_of, provided, settings_for

COMMON = "Password123"
PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "b3e7f0a94c5d4d1f8a6b2c90d7e1f358",
    "ENCRYPTION_KEYS": "kWb1p0S3yHqgM2xq0v6yCw8T9d3m5uX7nLr4oJ1aBcE=",
}


def container_for(folder: Path, **environ: str) -> AsyncContainer:
    return make_container(settings_for(folder, **environ))


# ---- origins and proxies ---------------------------------------------------------------------------------


def test_nobody_is_trusted_unless_named(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    assert (settings.cors_origins, settings.trusted_proxies) == ((), ())


def test_origins_and_proxies_are_separated_by_commas(tmp_path: Path) -> None:
    origins = ("https://app.example.com", "http://localhost:3000", "http://[::1]:8080", "capacitor://localhost")
    proxies = ("127.0.0.1", "10.0.0.0/8", "::1", "2001:db8::/32")
    settings = settings_for(tmp_path, CORS_ORIGINS=" , ".join(origins), TRUSTED_PROXIES=",".join(proxies))
    assert (settings.cors_origins, settings.trusted_proxies) == (origins, proxies)


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "app.example.com",
        "https://",
        "https://*.example.com",
        "https://app.example.com/",
        "https://app.example.com/path",
        "https://app.example.com:443",
        "http://app.example.com:80",
        "https://App.example.com",
        "HTTPS://app.example.com",
        "https://app.example.com:port",
        "https://user@app.example.com",
        "https://app.example.com?x",
        "https://äpp.example.com",
        "https://app.example.com https://other.example.com",
        r"https://app\.example.com",
    ],
)
def test_an_origin_is_written_as_a_browser_sends_it(tmp_path: Path, origin: str) -> None:
    with pytest.raises(SettingsError, match=r"^CORS_ORIGINS: .+ is not an origin .+ such as https://app\.example\.com"):
        settings_for(tmp_path, CORS_ORIGINS=f"https://good.example.com,{origin}")


@pytest.mark.parametrize(
    "proxy", ["*", "proxy", "10.0.0.1/8", "10.0.0.0/33", "10.0.0", "http://10.0.0.1", "10.0.0.1:80"]
)
def test_a_proxy_is_an_address_or_a_network(tmp_path: Path, proxy: str) -> None:
    with pytest.raises(SettingsError, match=r"^TRUSTED_PROXIES: .+ Name addresses or networks, such as 10\.0\.0\.7"):
        settings_for(tmp_path, TRUSTED_PROXIES=f"127.0.0.1,{proxy}")


# ---- what they change ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "asked"), [({"AUTO_TITLE": "model"}, True), ({"AUTO_TITLE": "first-message"}, False)]
)
async def test_auto_title(tmp_path: Path, value: dict[str, str], asked: bool) -> None:
    defaults = await container_for(tmp_path, **value).get(ChatDefaults)
    assert defaults.model_titles is asked


def test_auto_title_is_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^AUTO_TITLE must be model or first-message\.$"):
        settings_for(tmp_path, AUTO_TITLE="never")


@pytest.mark.parametrize(("value", "always"), [({}, False), ({"REQUIRE_CURRENT_PASSWORD": "true"}, True)])
async def test_require_current_password(tmp_path: Path, value: dict[str, str], always: bool) -> None:
    policy = await container_for(tmp_path, **value).get(PasswordPolicy)
    assert policy.always_ask is always


async def test_the_most_common_passwords_are_refused_in_production(tmp_path: Path) -> None:
    database = MemoryDatabase()
    stored = provided(UnitOfWorkFactory, database.unit_of_work)
    async with api_of(settings_for(tmp_path, **PRODUCTION), stored) as api:
        for password in (COMMON, COMMON.lower(), COMMON.upper()):
            refused = await api.post("/auth/register", {"username": "ada", "password": password})
            assert "common" in refused.problem(400, "validation_failed", "password")["detail"]
        await api.register("ada", PASSWORD)


async def test_and_only_there(tmp_path: Path) -> None:
    policy = await container_for(tmp_path).get(PasswordPolicy)
    assert policy.rule(COMMON) is None
