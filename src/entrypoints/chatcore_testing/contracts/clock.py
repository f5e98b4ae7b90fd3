"""The contract of `Clock`."""

from abc import abstractmethod
from datetime import timedelta

from chatcore.ports import Clock
from chatcore_testing.contract import Checks, Contract, Made


class ClockChecks(Checks):
    def test_the_time_is_aware_and_in_utc(self, clock: Clock) -> None:
        assert clock.now().utcoffset() == timedelta(0)
        assert clock.now().tzname() == "UTC"

    def test_the_time_does_not_run_backwards(self, clock: Clock) -> None:
        times = [clock.now() for _ in range(100)]
        assert times == sorted(times)


class ClockContract(Contract, checks=(ClockChecks,)):
    """What `Clock` promises."""

    @abstractmethod
    def clock(self) -> Made[Clock]: ...
