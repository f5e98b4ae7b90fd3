"""What people bring from other products, and take with them: their formats, from and to the conversations here."""

from chatcore.histories.export import as_markdown, as_openai
from chatcore.histories.formats import Format, Histories

__all__ = ["Format", "Histories", "as_markdown", "as_openai"]
