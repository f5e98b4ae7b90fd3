"""How many sign-ins and registrations are worked on at the same time: whoever comes on top of that is told to come back
before the database or a thread is asked for anything, so that a flood of them costs everybody else little."""

from collections.abc import Iterator
from contextlib import contextmanager

from chatcore.errors import Unavailable

PLACES = 40
"""In each process. More than are hashed at once, and so few that the last of them waits for about half a second."""


class SignInPlaces:
    """A place is taken only once the whole request is there: who sends slowly keeps nobody out."""

    def __init__(self) -> None:
        self._taken = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Raises `Unavailable`."""
        if self._taken >= PLACES:
            raise Unavailable("Too many people are signing in at once. Try again shortly.")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
