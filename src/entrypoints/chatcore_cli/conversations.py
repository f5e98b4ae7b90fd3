"""`chatcore conversations`: what users have talked about, at the server."""

import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click
from dishka import AsyncContainer

from chatcore import FindUser, ImportConversations, Imported
from chatcore.authority import Vouched
from chatcore.histories import Format, Histories
from chatcore.ports import Clock
from chatcore.use_cases.own_data import Line
from chatcore_cli.console import say
from chatcore_cli.running import run

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar  # it has no public name

_FORMATS = click.Choice([format_.value for format_ in Format])


@click.group()
def conversations() -> None:
    """Users' conversations."""


@conversations.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--user", required=True, help="The new owner: a username or an e-mail address.")
@click.option("--format", "format_", default="auto", show_default=True, type=_FORMATS)
def import_file(file: Path, user: str, format_: str) -> None:
    """Import a history: chatcore's own export, or that of ChatGPT (a file or the archive), Open WebUI, LibreChat
    or DeepSeek.

    All branches are imported. The report has the number of messages of each conversation and what was left out. The
    exit status is 1 if a conversation was refused.
    """
    imported = run(lambda container: _import(container, file, user, Format(format_)))
    _tell(imported)
    if imported.refusals:
        sys.exit(1)


async def _import(container: AsyncContainer, file: Path, user: str, format_: Format) -> Imported:
    owner = await (await container.get(FindUser))(name=user)
    histories = Histories(now=(await container.get(Clock)).now)
    import_own = await container.get(ImportConversations)
    with file.open("rb") as opened, _bar(file) as bar:
        async with aclosing(_told(histories.file(opened, format_), opened, bar)) as lines:
            return await import_own(by=Vouched(owner.id), lines=lines)


def _bar(file: Path) -> "ProgressBar[int]":
    return click.progressbar(length=file.stat().st_size, label="Importing", file=sys.stderr)


async def _told(
    lines: AsyncGenerator[Line, None], opened: IO[bytes], bar: "ProgressBar[int]"
) -> AsyncGenerator[Line, None]:
    """Show how far the file is read."""
    done = 0
    async with aclosing(lines):
        async for line in lines:
            if (position := opened.tell()) > done:
                bar.update(position - done)
                done = position
            yield line


def _tell(imported: Imported) -> None:
    for taken in imported.taken:
        say(f"{taken.title}: {taken.messages} messages{_told_left_out(taken.left_out)}")
    for refusal in imported.refused:
        where = refusal.title or (f"line {refusal.line}" if refusal.line else "the file")
        say(f"{where}: refused: {refusal.reason}", err=True)
    if imported.refusals > len(imported.refused):
        say(f"… and {imported.refusals - len(imported.refused)} more that were refused", err=True)
    say(
        f"{imported.conversations} conversations with {imported.messages} messages imported, "
        f"{imported.refusals} refused."
    )


def _told_left_out(left_out: Mapping[str, int]) -> str:
    told = ", ".join(f"{count} × {what}" for what, count in sorted(left_out.items()))
    return f" (left out: {told})" if told else ""
