"""A clock that stands still until it is moved."""

from datetime import UTC, datetime, timedelta

from chatcore.ports import Clock

MIDDAY = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


class HandClock(Clock):
    """Shows `start` (aware, in UTC) until somebody moves it: `clock.advance(60)` is a minute later."""

    def __init__(self, start: datetime = MIDDAY) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> datetime:
        """Move the hands and return the new time."""
        self._now += timedelta(seconds=seconds)
        return self._now
