"""What the commands print."""

import click


def say(*columns: str, err: bool = False) -> None:
    """Print a line, with a tab between two columns."""
    click.echo("\t".join(map(printable, columns)), err=err)


def printable(text: str) -> str:
    """Return the text without what moves the cursor, or turns the text around it: a user or a file may have sent it."""
    return "".join(character if character.isprintable() else "?" for character in text)
