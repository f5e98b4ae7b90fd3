"""`chatcore users`: accounts, at the server."""

import sys
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import click
from dishka import AsyncContainer

from chatcore import (
    CreateAdmin,
    DeleteUser,
    DisableUser,
    EnableUser,
    FindUser,
    GrantRole,
    ImportUsers,
    ListSessionsOfUser,
    ListUsers,
    Operator,
    RevokeRole,
    User,
)
from chatcore.entities import ROLES
from chatcore.errors import NotFound
from chatcore.use_cases.user_import import RefusedRow
from chatcore_cli.console import say
from chatcore_cli.running import run
from chatcore_cli.user_files import UserFile

_PAGE = 100
_TOLD = 20
_role = click.argument("role", type=click.Choice(sorted(ROLES)))


@click.group()
def users() -> None:
    """Accounts. NAME is a username or an e-mail address."""


# ---- who is there ----------------------------------------------------------------------------------------


@users.command("list")
@click.option("--q", default="", help="Only those with this in the username or the e-mail address.")
def list_users(q: str) -> None:
    """Print all users, the newest first: id, username, e-mail address, roles, state; separated by tabs."""
    run(lambda container: _list(container, q))


async def _list(container: AsyncContainer, q: str) -> None:
    pages, before, more = await container.get(ListUsers), None, True
    while more:
        page = await pages(q=q, before=before, limit=_PAGE)
        for user in page.items:
            state = "active" if user.is_active else "disabled"
            shown = (str(user.id), user.username, user.email or "", " ".join(sorted(user.roles)), state)
            say(*shown)
            before = user.id
        more = page.has_more


@users.command("sessions")
@click.argument("name")
def list_sessions(name: str) -> None:
    """Print a user's sign-ins, the latest first: time, end, address, program; separated by tabs."""
    run(lambda container: _sessions(container, name))


async def _sessions(container: AsyncContainer, name: str) -> None:
    user, pages, offset, more = await _found(container, name), await container.get(ListSessionsOfUser), 0, True
    while more:
        page = await pages(user_id=user.id, limit=_PAGE, offset=offset)
        for session in page.items:
            ended = session.logout_time.isoformat(" ", "seconds") if session.logout_time else ""
            begun = session.login_time.isoformat(" ", "seconds")
            say(begun, ended, session.address, session.user_agent)
        offset, more = offset + _PAGE, page.has_more


# ---- changes ---------------------------------------------------------------------------------------------


@users.command()
@click.argument("name")
def disable(name: str) -> None:
    """Refuse a user's sign-ins, and end all their sessions."""
    user = run(lambda container: _changed(container, name, DisableUser))
    say(f"{user.username} is disabled, and all their sessions have ended.")


@users.command()
@click.argument("name")
def enable(name: str) -> None:
    """Let a disabled user sign in again."""
    user = run(lambda container: _changed(container, name, EnableUser))
    say(f"{user.username} is enabled.")


@users.command()
@click.argument("name")
@_role
def grant(name: str, role: str) -> None:
    """Grant a role to a user."""
    _tell_roles(run(lambda container: _changed(container, name, GrantRole, role=role)))


@users.command()
@click.argument("name")
@_role
def revoke(name: str, role: str) -> None:
    """Revoke a user's role. The last active administrator keeps admin."""
    _tell_roles(run(lambda container: _changed(container, name, RevokeRole, role=role)))


@users.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(name: str, yes: bool) -> None:
    """Delete a user and all that they own. This cannot be undone."""
    user = run(lambda container: _found(container, name))
    if not yes:
        click.confirm(f"Delete {user.username} (id {user.id}) with everything they own?", abort=True, err=True)
    run(lambda container: _delete(container, user))
    say(f"{user.username} is deleted.")


async def _delete(container: AsyncContainer, user: User) -> None:
    await (await container.get(DeleteUser))(by=Operator(), user_id=user.id)


async def _changed(container: AsyncContainer, name: str, use_case: type[Any], **how: str) -> User:
    user = await _found(container, name)
    changed: User = await (await container.get(use_case))(by=Operator(), user_id=user.id, **how)
    return changed


async def _found(container: AsyncContainer, name: str) -> User:
    return await (await container.get(FindUser))(name=name)


def _tell_roles(user: User) -> None:
    say(f"{user.username} has the roles: {', '.join(sorted(user.roles)) or 'none'}.")


# ---- new ones --------------------------------------------------------------------------------------------


@users.command()
@click.argument("username")
@click.option("--email", help="For a new account.")
def create_admin(username: str, email: str | None) -> None:
    """Make an administrator, or one of the user who has this name.

    For a new account the password is asked for, or read from standard input if that is no terminal.
    """
    say(run(lambda container: _create_admin(container, username, email)))


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


@users.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--batch", default=500, show_default=True, type=click.IntRange(1, 10_000), help="Users per transaction.")
def import_users(file: Path, batch: int) -> None:
    """Create accounts from the rows of a file: CSV with a header, or JSON Lines.

    Columns: username, password_hash (bcrypt, Argon2, or SHA-256 in hex) and, optionally, email, roles (separated by
    spaces), is_active, created_at (ISO 8601), and the fields of a profile, such as user_name. Existing usernames are
    skipped, so that the import may run again. A username that differs from an existing one only in case is refused. The
    exit status is 1 if a row was refused.
    """
    if run(lambda container: _import(container, file, batch)):
        sys.exit(1)


async def _import(container: AsyncContainer, file: Path, batch: int) -> int:
    """Return how many rows were refused."""
    import_users = await container.get(ImportUsers)
    report = _Report()
    with UserFile(file) as source, click.progressbar(length=source.size, label="Importing", file=sys.stderr) as bar:
        done = 0
        async with aclosing(import_users(rows=source.rows(), batch=batch)) as batches:
            async for imported in batches:
                report.note(imported.there, imported.refused)
                report.added = imported.added
                bar.update(source.position - done)
                done = source.position
    report.tell()
    return report.refusals


class _Report:
    """Prints refused rows at once, and at the end the first few of the skipped ones."""

    def __init__(self) -> None:
        self.added = self.there_already = self.refusals = 0
        self._there = list[str]()

    def note(self, there: Sequence[tuple[int, str]], refused: Sequence[RefusedRow]) -> None:
        self.there_already += len(there)
        self.refusals += len(refused)
        self._there += [f"line {line}: {name} is there already" for line, name in there][: _TOLD - len(self._there)]
        for row in refused:
            say(f"line {row.line}: refused: {row.why}", err=True)

    def tell(self) -> None:
        for line in self._there:
            say(line, err=True)
        if self.there_already > len(self._there):
            say(f"… and {self.there_already - len(self._there)} more who are there already", err=True)
        say(f"{self.added} imported, {self.there_already} there already, {self.refusals} refused.")
