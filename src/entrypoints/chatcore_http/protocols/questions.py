"""A user's message as a client sends it."""

from collections.abc import Sequence
from dataclasses import dataclass

from chatcore.entities import Image


@dataclass(frozen=True, slots=True)
class Question:
    """The user's message. `id` is the client's name for it."""

    id: str
    text: str
    images: Sequence[Image] = ()
