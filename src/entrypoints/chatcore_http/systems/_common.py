"""What the systems share."""

from collections.abc import Generator
from contextlib import contextmanager

from chatcore.errors import FieldError, ValidationFailed


@contextmanager
def fields_called(**names: str) -> Generator[None, None, None]:
    """A broken rule is told of the field that the client has sent: `content="message"`, where the system's documents
    say `message` for what a use case calls `content`."""
    try:
        yield
    except ValidationFailed as failed:
        errors = [FieldError(names.get(error.field, error.field), error.message) for error in failed.errors]
        raise ValidationFailed(errors) from None
