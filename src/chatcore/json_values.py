"""How many values a JSON body has, counted before they are made: three bytes, `{},`, become an object of a hundred."""

from asyncio import sleep

from chatcore.errors import FieldError, ValidationFailed

VALUES = b",[{"
"""What stands before values: there is at most one more than these."""
FIELDS = b":[{"
"""What fields have, and what lists and objects begin with. Lists of numbers (embeddings of tokens) have none."""
MOST, MOST_STORED = 100_000, 50_000
"""Values of any body, and of one of which much is stored."""

_SLICE = 128 * 1024


async def check_values(body: bytes, counted: bytes = VALUES, most: int = MOST) -> None:
    """Raise `ValidationFailed` for a body with more values than that. Other requests have their turn meanwhile."""
    if len(body) > 2 * most and not await _has_at_most(body, counted, most):
        raise ValidationFailed([FieldError("body", f"must have at most {most:,} values")])


async def _has_at_most(body: bytes, counted: bytes, most: int) -> bool:
    """Whatever is in a string does not count."""
    found, inside, start = 0, 0, 0
    while start < len(body) and found <= most:
        end = _end_of_slice(body, start)
        parts = body[start:end].replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')
        outside = b'"'.join(parts[inside::2])
        found += sum(outside.count(mark) for mark in counted)
        inside ^= len(parts) % 2 ^ 1
        start = end
        await sleep(0)
    return found <= most


def _end_of_slice(body: bytes, start: int) -> int:
    """Return where no character is parted from its backslash."""
    end = start + _SLICE
    piece = body[start:end]
    backslashes = len(piece) - len(piece.rstrip(b"\\"))
    return end + backslashes % 2
