"""The `chatcore` command."""

from chatcore_cli.main import main

__all__ = ["main"]
