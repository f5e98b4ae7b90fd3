"""What people bring from other products, and take with them: their formats, from and to the conversations here."""

from chatcore.histories.export import ExportFormat, as_markdown, as_openai, exported
from chatcore.histories.formats import Format, Histories
from chatcore.histories.own import as_lines

__all__ = ["ExportFormat", "Format", "Histories", "as_lines", "as_markdown", "as_openai", "exported"]
