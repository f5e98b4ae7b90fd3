"""Argon2id: its form, its parameters, and that it runs beside the event loop, a bounded number at once."""

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import argon2
import bcrypt
import pytest

from chatcore.errors import Unavailable
from chatcore_http import create_app
from chatcore_security import Argon2Passwords
from integration.databases import execute
from integration.http_app import client_of, serving, settings_for

VARYING = {"X-Request-ID", "date", "Date"}


@pytest.fixture
def passwords() -> Iterator[Argon2Passwords]:
    passwords = Argon2Passwords()
    yield passwords
    passwords.close()


async def test_a_hash_says_that_it_is_argon2id_with_at_least_the_owasp_parameters(passwords: Argon2Passwords) -> None:
    kind, version, parameters = (await passwords.hash("correct horse")).split("$")[1:4]
    assert (kind, version) == ("argon2id", "v=19")
    assert parameters == "m=19456,t=2,p=1"


async def test_a_changed_parameter_asks_for_a_new_hash_and_the_old_one_still_verifies(
    passwords: Argon2Passwords,
) -> None:
    old = await passwords.hash("correct horse")
    for stronger in (
        Argon2Passwords(memory_cost=20_480),
        Argon2Passwords(time_cost=3),
        Argon2Passwords(parallelism=2),
    ):
        assert stronger.needs_rehash(old)
        assert await stronger.verify("correct horse", old)
        assert not stronger.needs_rehash(await stronger.hash("correct horse"))
        stronger.close()


@pytest.mark.parametrize(
    "foreign",
    [
        "",
        "$2b$12$abcdefghijklmnopqrstuuJ1rJZ0xVZ9Yp3mK7T6vC5hQ8wE4dG2S",
        "$argon2id$",
        "$argon2id$v=19$m=19456,t=2,p=1$not base64$nor this",
        "correct horse",
        "пароль",
    ],
)
async def test_another_form_of_hash_is_wrong_and_is_replaced(passwords: Argon2Passwords, foreign: str) -> None:
    assert not await passwords.verify("correct horse", foreign)
    assert passwords.needs_rehash(foreign)


BCRYPT = "$2b$04$h4SmDnY.PwUsftI0HYCEeuBgGuTqZhMtGpHz1qNsfQ.G7eRfh0piK"


@pytest.mark.parametrize("version", ["2a", "2b", "2y"])
async def test_bcrypt_is_adopted_verifies_and_is_replaced(passwords: Argon2Passwords, version: str) -> None:
    foreign = BCRYPT.replace("2b", version, 1)
    assert passwords.adopted(foreign) == foreign
    assert await passwords.verify("correct horse", foreign)
    assert not await passwords.verify("correct horses", foreign)
    assert not await passwords.verify("\0", foreign)
    assert passwords.needs_rehash(foreign)


async def test_of_a_long_password_bcrypt_has_seen_72_bytes_and_no_more(passwords: Argon2Passwords) -> None:
    """Also where a character is cut in two."""
    password = "x" + "пароль" * 12
    foreign = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()
    assert await passwords.verify(password, foreign)
    assert await passwords.verify(password[:-1], foreign)
    assert not await passwords.verify(password[:35], foreign)


@pytest.mark.parametrize(
    "foreign",
    [
        BCRYPT.replace("$04$", "$03$"),
        BCRYPT.replace("$04$", "$31$"),
        BCRYPT.replace("2b", "2x"),
        BCRYPT[:-1],
        BCRYPT + "\n",
        "$argon2id$v=19$m=1048576,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=19456,t=1000,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=19456,t=2,p=99$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$" + "a" * 255,
    ],
)
async def test_what_costs_too_much_or_is_cut_is_not_adopted(passwords: Argon2Passwords, foreign: str) -> None:
    assert passwords.adopted(foreign) is None


async def test_another_argon2_is_adopted_and_replaced(passwords: Argon2Passwords) -> None:
    foreign = argon2.PasswordHasher(time_cost=1, memory_cost=1024, parallelism=2, type=argon2.Type.I).hash("x")
    assert passwords.adopted(foreign) == foreign
    assert await passwords.verify("x", foreign)
    assert passwords.needs_rehash(foreign)


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hashes that Argon2 has been asked about so far."""
    asked: list[str] = []
    verify = argon2.PasswordHasher.verify

    def recorded(self: argon2.PasswordHasher, password_hash: str, password: bytes) -> bool:
        asked.append(password_hash)
        return verify(self, password_hash, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", recorded)
    return asked


@pytest.mark.parametrize("password", ["correct horse", "wrong horse"])
async def test_an_older_hash_answers_no_sooner_than_an_unknown_name(
    passwords: Argon2Passwords, verified: list[str], password: str
) -> None:
    sha256 = passwords.adopted(hashlib.sha256(b"correct horse").hexdigest())
    for foreign in (sha256, BCRYPT, None):
        assert await passwords.verify(password, foreign) is (password == "correct horse" and foreign is not None)
    assert len(verified) == 3
    assert len(set(verified)) == 1, "nobody's"


async def test_nobodys_password_costs_what_a_wrong_one_costs(passwords: Argon2Passwords, verified: list[str]) -> None:
    somebodys = await passwords.hash("correct horse")
    assert not await passwords.verify("wrong horse", somebodys)
    assert not await passwords.verify("wrong horse", None)
    assert argon2.extract_parameters(verified[0]) == argon2.extract_parameters(verified[1])


async def test_whoever_fails_to_sign_in_costs_the_same_and_hears_the_same(tmp_path: Path, verified: list[str]) -> None:
    """A wrong password, an unknown name, and the wrong password of a disabled account, through the real application:
    one hash of the same parameters, and the same answer but for the request's id (ASVS 6.3.8)."""
    url = f"sqlite:///{tmp_path}/a.db"
    app = create_app(settings_for(tmp_path, DATABASE_URL=url))
    async with serving(app) as address, client_of(address) as stranger:
        for name in ("ada", "disabled"):
            await stranger.register(name)
        await execute(url, "UPDATE users SET is_active = FALSE WHERE username = 'disabled'")
        answers = [
            await stranger.post("/auth/login", {"username": name, "password": "a wrong one"})
            for name in ("ada", "nobody", "disabled")
        ]
    assert len(verified) == len(set(verified)) == 3
    assert len({repr(argon2.extract_parameters(each)) for each in verified}) == 1
    for answer in answers:
        answer.problem(401, "invalid_credentials")
    assert len({answer.body for answer in answers}) == 1
    alike = [{name: value for name, value in answer.headers.items() if name not in VARYING} for answer in answers]
    assert alike[1:] == alike[:-1]


async def test_what_no_keyboard_types_is_wrong_rather_than_an_error(passwords: Argon2Passwords) -> None:
    assert not await passwords.verify("\ud800", await passwords.hash("correct horse"))


async def test_the_loop_runs_on_while_hashing_and_no_more_than_the_workers_hash(
    passwords: Argon2Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[None] = asyncio.Queue()
    go_on = threading.Event()
    running = 0

    def waiting(self: argon2.PasswordHasher, password: bytes) -> str:
        nonlocal running
        running += 1
        loop.call_soon_threadsafe(arrived.put_nowait, None)
        assert go_on.wait(timeout=60)
        return "a hash"

    monkeypatch.setattr(argon2.PasswordHasher, "hash", waiting)
    hashes = [asyncio.create_task(passwords.hash("correct horse")) for _ in range(5)]
    await arrived.get()
    await arrived.get()
    assert running == 2
    go_on.set()
    assert await asyncio.gather(*hashes) == ["a hash"] * 5


async def test_no_more_than_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    passwords = Argon2Passwords(workers=1, waiting=2)
    go_on = threading.Event()

    def waiting(self: argon2.PasswordHasher, password: bytes) -> str:
        assert go_on.wait(timeout=60)
        return "a hash"

    with monkeypatch.context() as patch:
        patch.setattr(argon2.PasswordHasher, "hash", waiting)
        hashes = [asyncio.create_task(passwords.hash("correct horse")) for _ in range(3)]
        await asyncio.sleep(0)
        for refused in (passwords.hash("correct horse"), passwords.verify("correct horse", None)):
            with pytest.raises(Unavailable) as raised:
                await refused
            assert raised.value.retry_after >= 1
        hashes[-1].cancel()  # its place is free, and those of the others are not
        await asyncio.wait(hashes[-1:])
        hashes[-1] = asyncio.create_task(passwords.hash("correct horse"))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await passwords.hash("correct horse")
        go_on.set()
        assert await asyncio.gather(*hashes) == ["a hash"] * 3
    assert await passwords.verify("correct horse", await passwords.hash("correct horse"))
    passwords.close()


async def test_after_closing_nothing_is_hashed() -> None:
    passwords = Argon2Passwords()
    passwords.close()
    with pytest.raises(RuntimeError, match="shutdown"):
        await passwords.hash("correct horse")
