"""`chatcore keys` and `chatcore users`: what an operator does at the server."""

import asyncio
import secrets
import sys
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click
from dishka import AsyncContainer

from chatcore import CountOldKeys, CreateAdmin, ModelConfigId, RotateKeys
from chatcore.errors import NotFound
from chatcore_app import Settings, make_container

T = TypeVar("T")


@click.group()
def keys() -> None:
    """The encryption keys that seal users' API keys."""


@keys.command()
def generate() -> None:
    """Print a new encryption key: put it before the others in ENCRYPTION_KEYS."""
    click.echo(urlsafe_b64encode(secrets.token_bytes(32)).decode())


@keys.command()
@click.option("--batch", default=100, show_default=True, type=click.IntRange(1, 10_000), help="Keys per transaction.")
def rotate(batch: int) -> None:
    """Seal all API keys again with the first of ENCRYPTION_KEYS.

    Servers may go on meanwhile, once all of them have that key in their ENCRYPTION_KEYS. Interrupted, it goes on from
    there when it is run again. When nothing is left on old keys, those can be taken out of ENCRYPTION_KEYS.
    """
    unopened, left = _run(lambda container: _rotate(container, batch))
    if unopened:
        which = ", ".join(map(str, unopened[:20])) + (", …" if len(unopened) > 20 else "")
        sys.exit(
            f"chatcore: {len(unopened)} API keys open with none of ENCRYPTION_KEYS: those of the model configurations "
            f"{which}. Add the key that sealed them, or have their owners enter them again."
        )
    if left:
        sys.exit(f"chatcore: {left} API keys are left on old keys. Run it again.")


async def _rotate(container: AsyncContainer, batch: int) -> tuple[tuple[ModelConfigId, ...], int]:
    """What did not open, and how many are left."""
    rotate_keys, count_old_keys = await container.get(RotateKeys), await container.get(CountOldKeys)
    resealed, unopened = 0, tuple[ModelConfigId, ...]()
    async for rotated in rotate_keys(batch=batch):
        resealed, unopened = rotated.resealed, tuple(rotated.unopened)
        click.echo(f"{resealed} sealed again so far", err=True)
    left = await count_old_keys()
    click.echo(f"{resealed} API keys were sealed again; {left} are left on old keys.")
    return unopened, left


@click.group()
def users() -> None:
    """Accounts."""


@users.command()
@click.argument("username")
@click.option("--email", help="For a new account.")
def create_admin(username: str, email: str | None) -> None:
    """Make an administrator, or one of the user who has this name.

    For a new account the password is asked for, or read from standard input if that is no terminal.
    """
    click.echo(_run(lambda container: _create_admin(container, username, email)))


async def _create_admin(container: AsyncContainer, username: str, email: str | None) -> str:
    create = await container.get(CreateAdmin)
    try:
        user = await create.promote(name=username)
    except NotFound:
        user = await create(username=username, email=email, password=_password())
        return f"{user.username} is an administrator: a new account."
    return f"{user.username} is an administrator: an account that was there, with its password as it was."


def _password() -> str:
    """Never an argument: those are shown to everybody on the machine, and kept in the shell's history."""
    if sys.stdin.isatty():
        password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
        return password
    return sys.stdin.readline().rstrip("\r\n")


def _run(work: Callable[[AsyncContainer], Awaitable[T]]) -> T:
    async def run() -> T:
        container = make_container(Settings.load())
        try:
            return await work(container)
        finally:
            await container.close()

    return asyncio.run(run())
