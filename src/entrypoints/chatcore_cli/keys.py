"""`chatcore keys`: the encryption keys, at the server."""

import secrets
import sys
from base64 import urlsafe_b64encode
from contextlib import aclosing

import click
from dishka import AsyncContainer

from chatcore import CountOldKeys, ModelConfigId, RotateKeys
from chatcore_cli.running import run


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

    Servers may run meanwhile, once all of them have that key in their ENCRYPTION_KEYS. After an interruption, run it
    again to continue. When nothing is left on old keys, remove those from ENCRYPTION_KEYS.
    """
    unopened, left = run(lambda container: _rotate(container, batch))
    if unopened:
        which = ", ".join(map(str, unopened[:20])) + (", …" if len(unopened) > 20 else "")
        sys.exit(
            f"chatcore: {len(unopened)} API keys open with none of ENCRYPTION_KEYS: those of the model configurations "
            f"{which}. Add the key that sealed them, or have their owners enter them again."
        )
    if left:
        sys.exit(f"chatcore: {left} API keys are left on old keys. Run it again.")


async def _rotate(container: AsyncContainer, batch: int) -> tuple[tuple[ModelConfigId, ...], int]:
    """Return the keys that did not open, and how many are left."""
    rotate_keys, count_old_keys = await container.get(RotateKeys), await container.get(CountOldKeys)
    resealed, unopened = 0, tuple[ModelConfigId, ...]()
    async with aclosing(rotate_keys(batch=batch)) as batches:
        async for rotated in batches:
            resealed, unopened = rotated.resealed, tuple(rotated.unopened)
            click.echo(f"{resealed} sealed again so far", err=True)
    left = await count_old_keys()
    click.echo(f"{resealed} API keys were sealed again; {left} are left on old keys.")
    return unopened, left
