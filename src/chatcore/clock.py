"""The time of this machine."""

from datetime import UTC, datetime

from chatcore.ports import Clock


class SystemClock(Clock):
    def now(self) -> datetime:
        return datetime.now(UTC)
