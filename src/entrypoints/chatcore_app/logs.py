"""Logging: structlog over the standard library, readable in development, JSON in production.

Exceptions are logged without the local variables of their frames: those can hold secrets.
"""

import logging
import sys

import structlog

from chatcore.audit import AuditEvent
from chatcore_app.settings import Settings


def configure_logging(settings: Settings) -> None:
    production = settings.environment == "production"
    json = settings.log_format == "json" or (settings.log_format is None and production)
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    last: list[structlog.types.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if json
        else [
            _on_one_line,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _spread],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.DEBUG if settings.debug else logging.INFO)
    for noisy in ("alembic", "httpx2", "openai", "asyncio", "aiosqlite"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _on_one_line(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """What is not printable, escaped: a line or paragraph separator in a text would begin a line of the log. JSON does
    so by itself."""
    return {name: _escaped(value) if isinstance(value, str) else value for name, value in event.items()}


def _escaped(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def _spread(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """An audit event's fields, as those of the line."""
    said = event["_record"].msg
    return {**event, "event": said.name, **said.fields} if isinstance(said, AuditEvent) else event
