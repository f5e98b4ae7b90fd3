"""`chatcore serve` and `chatcore migrate`; what operators do besides is in `conversations`, `keys` and `users`."""

import asyncio
import sys

import click

from chatcore.errors import ChatcoreError
from chatcore_app import Settings, SettingsError, blaming, database_of, migration_script_of
from chatcore_cli.conversations import conversations
from chatcore_cli.keys import keys
from chatcore_cli.users import users


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
@click.option(
    "--sql",
    "start",
    is_flag=False,
    flag_value="base",
    metavar="[REVISION]",
    help="Print the SQL instead, and connect to nothing: for an empty database, or for one at this revision.",
)
def migrate(start: str | None) -> None:
    """Bring the database's tables up to date. Safe to run twice and by two at once."""
    if start is not None:
        try:
            click.echo(migration_script_of(Settings.load(), start), nl=False)
        except LookupError as error:
            raise click.UsageError(f"--sql: {error}") from None
        return

    async def run() -> None:
        async with database_of(Settings.load()) as database:
            with blaming("DATABASE_URL"):
                await database.migrate()

    asyncio.run(run())
    click.echo("The database is up to date.")


cli.add_command(conversations)
cli.add_command(keys)
cli.add_command(users)


def main() -> None:
    """Failures that a person can act on are sentences on standard error and exit status 1."""
    try:
        cli()
    except (SettingsError, ChatcoreError, OSError) as error:
        sys.exit(f"chatcore: {error}")
