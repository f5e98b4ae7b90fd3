"""`chatcore serve` and `chatcore migrate`."""

import asyncio
import sys

import click

from chatcore.errors import ChatcoreError
from chatcore_app import Settings, SettingsError, database_of


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="chatcore")
def cli() -> None:
    """A multi-user AI chat backend. Settings come from the environment and from a .env file here."""


@cli.command()
@click.option("--reload", is_flag=True, help="Start again whenever the code changes (development).")
def serve(reload: bool) -> None:
    """Serve the HTTP API on HOST and PORT."""
    from chatcore_cli.server import run

    run(Settings.load(), reload=reload)


@cli.command()
def migrate() -> None:
    """Bring the database's tables up to date. Safe to run twice and by two at once."""

    async def run() -> None:
        async with database_of(Settings.load()) as database:
            await database.migrate()

    asyncio.run(run())
    click.echo("The database is up to date.")


def main() -> None:
    """Failures that a person can act on are sentences on standard error and exit status 1."""
    try:
        cli()
    except (SettingsError, ChatcoreError, OSError) as error:
        sys.exit(f"chatcore: {error}")
