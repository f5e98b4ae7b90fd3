"""What a contract is: checks of an adapter, which it runs on an event loop of its own.

    class TestMyCipher(CipherContract):
        def cipher(self) -> Cipher:
            return MyCipher()

A *contract* has a method for each thing that an adapter's author has to make, and a function without parameters for
each check: pytest and unittest run it as it is, with no plugin and in any asyncio mode. *Checks* are plain classes.
What a check's parameters name is made for it: by a method of its class, or by the contract's.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator, Set
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from inspect import signature
from itertools import product
from typing import Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar, cast
from unittest import SkipTest

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)
F = TypeVar("F", bound=Callable[..., object])

Managed: TypeAlias = AbstractAsyncContextManager[T] | AbstractContextManager[T]
Made: TypeAlias = T | Awaitable[T] | Managed[T] | AsyncIterator[T] | Iterator[T]
"""Something to test: itself, a coroutine's, a context manager's, or what a generator yields. A thing that is an async
context manager is entered. It is closed after the check."""


class Capability(StrEnum):
    """What an adapter may lack, and still be one. The checks of what it lacks are skipped."""

    # Gateways
    REASONING = "reasoning"
    USAGE = "usage"
    MODELS = "lists of models"
    FAILURES = "failures of every kind"
    # Stores
    ACCOUNTS = "accounts"
    ENDPOINTS = "endpoints of users"
    SEARCH = "search"
    SHARED = "several processes"
    QUOTA = "a limit of storage"
    NUMBERING = "ids that do not rise"
    # Secrets
    STRANGER = "another one with other keys"
    ADOPTION = "hashes of other systems"
    RENEWAL = "outdated hashes"


class Lacking(SkipTest):
    """The adapter has no such capability. Makers may raise it."""

    def __init__(self, capability: Capability) -> None:
        super().__init__(f"without {capability}")
        self.capability = capability


@dataclass(slots=True)
class Raised(Generic[E]):
    error: E | None = None

    @property
    def value(self) -> E:
        """What was raised, after the block."""
        assert self.error is not None
        return self.error


@contextmanager
def raises(kind: type[E]) -> Generator[Raised[E], None, None]:
    """Fail unless the block raises an error of this kind."""
    raised = Raised[E]()
    try:
        yield raised
    except kind as error:
        raised.error = error
    if raised.error is None:
        raise AssertionError(f"{kind.__name__} is not raised")


# ---- checks ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Plan:
    cases: dict[str, dict[str, Any]] = field(default_factory=lambda: {"": {}})
    needs: Set[Capability] = frozenset()


_plans: dict[Callable[..., object], _Plan] = {}


class Mark(Protocol):
    """A decorator of checks."""

    def __call__(self, check: F, /) -> F: ...


def each(
    names: str | tuple[str, ...],
    values: Iterable[Any],
    ids: Iterable[object] | Callable[[Any], object] | None = None,
) -> Mark:
    """Run a check once for each value of a parameter, or row of values of several. `ids`: their names, or what names
    them."""
    rows = list(values)
    if ids is None:
        ids = [_name(row, place) for place, row in enumerate(rows)]
    added = {
        str(name): dict(zip(names, row, strict=True)) if isinstance(names, tuple) else {names: row}
        for name, row in zip(map(ids, rows) if callable(ids) else ids, rows, strict=True)
    }
    assert len(added) == len(rows)

    def mark(check: F) -> F:
        plan = _plans.setdefault(check, _Plan())
        plan.cases = {
            f"{first}-{second}" if second else first: {**more, **given}
            for (first, more), (second, given) in product(added.items(), plan.cases.items())
        }
        return check

    return mark


def needs(*capabilities: Capability) -> Mark:
    """Skip a check where the adapter lacks one of these."""

    def mark(check: F) -> F:
        plan = _plans.setdefault(check, _Plan())
        plan.needs |= {*capabilities}
        return check

    return mark


def _name(value: object, place: int) -> str:
    if isinstance(value, tuple):
        return "-".join(_name(part, place) for part in cast("tuple[object, ...]", value))
    if isinstance(value, type):
        return value.__name__
    text = str(value.value if isinstance(value, Enum) else value)
    return text if text.isascii() and text.isprintable() and 0 < len(text) < 40 and "[" not in text else str(place)


class Checks:
    """Checks of one adapter, on what its contract makes."""

    about: ClassVar[str] = ""
    needed: ClassVar[Set[Capability]] = frozenset()

    def __init_subclass__(cls, about: str = "", needs: Capability | None = None) -> None:
        """`about`: what the names of all these checks begin with. `needs`: the capability that they are about."""
        super().__init_subclass__()
        cls.about, cls.needed = about, frozenset() if needs is None else frozenset({needs})

    def __init__(self, contract: Any, stack: AsyncExitStack, values: dict[str, Any]) -> None:
        self.contract: Any = contract
        self._stack = stack
        self.values: dict[str, Any] = dict(values)

    def has(self, capability: Capability) -> bool:
        return capability not in self.contract.lacks

    async def made(self, thing: Made[T]) -> T:
        """Return what a maker has made, which is closed after the check."""
        made: object = thing
        if isinstance(made, Awaitable):
            made = await cast("Awaitable[object]", made)
        if isinstance(made, AsyncGenerator):
            made = asynccontextmanager(lambda: cast("AsyncGenerator[object, None]", thing))()
        elif isinstance(made, Generator):
            made = contextmanager(lambda: cast("Generator[object, None, None]", thing))()
        if isinstance(made, AbstractAsyncContextManager):
            made = await self._stack.enter_async_context(cast("AbstractAsyncContextManager[object]", made))
        elif isinstance(made, AbstractContextManager):
            made = self._stack.enter_context(cast("AbstractContextManager[object]", made))
        return cast("T", made)

    async def run(self, name: str) -> None:
        """Run one check on what its parameters name."""
        __tracebackhide__ = True
        outcome = await self._called(getattr(self, name))
        if isinstance(outcome, Awaitable):
            await cast("Awaitable[object]", outcome)

    async def _called(self, function: Callable[..., object]) -> object:
        __tracebackhide__ = True
        return function(**{name: await self._value(name) for name in signature(function).parameters})

    async def _value(self, name: str) -> object:
        if name not in self.values:
            maker = getattr(self, name, None)
            thing = getattr(self.contract, name)() if maker is None else await self._called(maker)
            self.values[name] = await self.made(thing)
        return self.values[name]


@dataclass(frozen=True, slots=True)
class Case:
    """One check with values for its parameters. `name`: as a test's, such as `test_text_is_kept[emoji]`."""

    name: str
    checks: type[Checks]
    check: str
    needs: Set[Capability]
    values: dict[str, Any]


def _cases(checks: type[Checks]) -> Iterator[Case]:
    for check, function in vars(checks).items():
        if check.startswith("test_"):
            plan = _plans.get(function, _Plan())
            name = check.replace("test_", f"test_{checks.about}_", 1) if checks.about else check
            for case, values in plan.cases.items():
                yield Case(f"{name}[{case}]" if case else name, checks, check, plan.needs | checks.needed, values)


class Contract:
    """Inherit one of the contracts, and write the methods that make what is tested.

    `lacks`: the capabilities that the adapter does not have. `seconds`: how long a check may take.
    """

    lacks: ClassVar[Set[Capability]] = frozenset()
    seconds: ClassVar[float] = 60.0
    cases: ClassVar[tuple[Case, ...]] = ()

    def __init_subclass__(cls, checks: Iterable[type[Checks]] = ()) -> None:
        """`checks`: of a new contract."""
        super().__init_subclass__()
        cls.cases = (*cls.cases, *(case for each in checks for case in _cases(each)))
        for case in cls.cases:
            if not hasattr(cls, case.name):
                setattr(cls, case.name, _test(case))

    async def perform(self, case: Case) -> None:
        """Run one check. Raise `Lacking` if the adapter has not what it is about, and what the check raises."""
        __tracebackhide__ = True
        for lacking in sorted(case.needs & self.lacks):
            raise Lacking(lacking)
        limit = asyncio.timeout(self.seconds)
        try:
            async with limit, AsyncExitStack() as stack:
                await case.checks(self, stack, case.values).run(case.check)
        except TimeoutError as error:
            if limit.expired():
                raise AssertionError(f"it takes more than {self.seconds:g} seconds") from error
            raise


def _test(case: Case) -> Callable[[Contract], None]:
    async def outcome(self: Contract) -> Exception | None:
        try:
            await self.perform(case)
        except Exception as error:
            return error
        return None

    def test(self: Contract) -> None:
        __tracebackhide__ = True
        error = asyncio.run(outcome(self))
        if error is not None:
            raise error  # here, so that the event loop's own calls are not in the traceback

    test.__name__, test.__qualname__ = case.name, f"{case.checks.__qualname__}.{case.name}"
    test.__doc__ = getattr(case.checks, case.check).__doc__
    return test
