"""What a protocol makes of an error."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from chatcore.wire import Problem


@dataclass(frozen=True, slots=True)
class Told:
    """An error as a protocol's clients expect it. `headers` are added to those of the problem."""

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


Form: TypeAlias = Callable[[Problem], Told]
