"""The parts of the application that an embedding program may leave out."""

from collections.abc import Collection
from enum import StrEnum


class Part(StrEnum):
    """Routes that can be left out. Conversations, replies and model configurations are always there."""

    ACCOUNTS = "accounts"
    """`/auth`: registration, sign-in, sessions. Without it users' access tokens come from elsewhere."""
    ADMINISTRATION = "administration"
    """`/admin`."""
    SYSTEMS = "systems"
    """Other systems' routes (docs/systems.md)."""
    PROTOCOLS = "protocols"
    """`/v1`, `/ai` and `/ag-ui`: other makers' protocols (docs/protocols.md)."""


ALL_PARTS = frozenset(Part)
WITHOUT_ACCOUNTS = frozenset({Part.PROTOCOLS})
"""What is possible for a program's own users."""


def parts_of(named: Collection[str] | None, *, own_identity: bool) -> frozenset[Part]:
    """Return the parts that the application has: all that are possible by default.

    Raise `ValueError` for an unknown part, and for one that needs chatcore's own accounts without them.
    """
    possible = WITHOUT_ACCOUNTS if own_identity else ALL_PARTS
    parts = possible if named is None else frozenset(map(Part, named))
    if parts - possible:
        raise ValueError(f"With `authenticate` there are no accounts: leave out {', '.join(sorted(parts - possible))}.")
    return parts
