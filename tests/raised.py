"""What each use case raises, heard in every test: one that raises what it does not declare fails the test."""

import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import wraps
from typing import Any

import chatcore
from chatcore import ChatcoreError, StepUp
from chatcore.errors import Refused

USE_CASES: list[Any] = [kind for kind in chatcore.USE_CASES.values() if kind is not StepUp]  # which is part of others


class Undeclared(AssertionError):
    pass


def codes(use_case: Any) -> set[str]:
    return {kind.code for kind in use_case.raises}


def hear() -> None:
    """From now on, in this process."""
    for use_case in USE_CASES:
        use_case.__call__ = _heard(use_case, vars(use_case)["__call__"])


def _heard(use_case: Any, call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        try:
            return await call(*args, **kwargs)
        except ChatcoreError as error:
            _judge(use_case, error)
            raise

    @wraps(call)
    def generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        try:
            return _things(use_case, call(*args, **kwargs))
        except ChatcoreError as error:
            _judge(use_case, error)
            raise

    return coroutine if inspect.iscoroutinefunction(call) else generator


async def _things(use_case: Any, generator: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    try:
        async with aclosing(generator):
            async for thing in generator:
                yield thing
    except ChatcoreError as error:
        _judge(use_case, error)
        raise


def _judge(use_case: Any, error: ChatcoreError) -> None:
    if error.code not in codes(use_case) and not isinstance(error, Refused):  # whose code is the program's own
        raise Undeclared(f"{use_case.__name__} raises `{error.code}`, which it does not declare") from error
