"""Contracts without pytest: each function runs one on an adapter, and returns a report.

report = await conform.cipher(MyCipher)
print(report)
assert report.conforms
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from traceback import TracebackException
from typing import Any

from chatcore.errors import ModelError
from chatcore.ports import Cipher, Clock, PasswordHasher, RateLimiter, Store, TokenSigner
from chatcore_testing.contract import Capability, Contract, Lacking, Made
from chatcore_testing.contracts.clock import ClockContract
from chatcore_testing.contracts.gateway import GatewayContract, Stage
from chatcore_testing.contracts.limits import RateLimiterContract
from chatcore_testing.contracts.secrets import CipherContract, PasswordHasherContract, TokenSignerContract
from chatcore_testing.contracts.storage import StoreContract

NOTHING: Set[Capability] = frozenset()
_MOST = 500  # characters of an explanation


@dataclass(frozen=True, slots=True)
class Report:
    """The names of the checks that passed, those that failed and why, and those that were skipped for lack of what."""

    passed: Sequence[str]
    failed: Mapping[str, str]
    skipped: Mapping[str, Capability]

    @property
    def conforms(self) -> bool:
        return not self.failed

    def __str__(self) -> str:
        lines = [f"{len(self.passed)} passed, {len(self.failed)} failed, {len(self.skipped)} skipped"]
        lines += [f"failed: {name}: {why}" for name, why in self.failed.items()]
        lines += [f"skipped: {name}: without {lacking}" for name, lacking in self.skipped.items()]
        return "\n".join(lines)


async def gateway(
    stage: Callable[..., Made[Stage]],
    listing: Callable[[Sequence[str] | type[ModelError]], Made[Stage]] | None = None,
    *,
    lacks: Set[Capability] = NOTHING,
) -> Report:
    """Run `GatewayContract`. `stage(*steps)` and `listing(names)`: as its methods; each step is a `Step`."""
    return await _report(GatewayContract, lacks, stage=stage, listing=listing)


async def store(
    make: Callable[[], Made[Store]],
    limited: Callable[[int], Made[Store]] | None = None,
    numbered: Callable[[Iterable[int]], Made[Store]] | None = None,
    *,
    lacks: Set[Capability] = NOTHING,
) -> Report:
    """Run `StoreContract`. `make`, `limited` and `numbered`: as its methods `store`, `limited_store` and
    `numbered_store`."""
    return await _report(StoreContract, lacks, store=make, limited_store=limited, numbered_store=numbered)


async def cipher(
    make: Callable[[], Made[Cipher]],
    stranger: Callable[[], Made[Cipher]] | None = None,
    *,
    lacks: Set[Capability] = NOTHING,
) -> Report:
    """Run `CipherContract`. `make` and `stranger`: as its methods `cipher` and `stranger`."""
    return await _report(CipherContract, lacks, cipher=make, stranger=stranger)


async def signer(
    make: Callable[[], Made[TokenSigner]],
    stranger: Callable[[], Made[TokenSigner]] | None = None,
    *,
    lacks: Set[Capability] = NOTHING,
) -> Report:
    """Run `TokenSignerContract`. `make` and `stranger`: as its methods `signer` and `stranger`."""
    return await _report(TokenSignerContract, lacks, signer=make, stranger=stranger)


async def hasher(
    make: Callable[[], Made[PasswordHasher]],
    outdated: Callable[[], Made[PasswordHasher]] | None = None,
    *,
    lacks: Set[Capability] = NOTHING,
) -> Report:
    """Run `PasswordHasherContract`. `make` and `outdated`: as its methods `hasher` and `outdated`."""
    return await _report(PasswordHasherContract, lacks, hasher=make, outdated=outdated)


async def limiter(make: Callable[[], Made[RateLimiter]], pass_a_second: Callable[[], object] | None = None) -> Report:
    """Run `RateLimiterContract`. `make` and `pass_a_second`: as its methods `limiter` and `pass_a_second`."""
    return await _report(RateLimiterContract, NOTHING, limiter=make, pass_a_second=pass_a_second)


async def clock(make: Callable[[], Made[Clock]]) -> Report:
    """Run `ClockContract`. `make`: as its method `clock`."""
    return await _report(ClockContract, NOTHING, clock=make)


async def _report(contract: type[Contract], lacks: Set[Capability], **makers: Callable[..., Any] | None) -> Report:
    given = {name: staticmethod(maker) for name, maker in makers.items() if maker is not None}
    kind: type[Contract] = type(contract.__name__, (contract,), {**given, "lacks": frozenset(lacks)})
    return await examined(kind)


async def examined(contract: type[Contract]) -> Report:
    """Run each check of a contract whose makers are there."""
    passed, failed, skipped = list[str](), dict[str, str](), dict[str, Capability]()
    for case in contract.cases:
        words, _, values = case.name.removeprefix("test_").partition("[")
        name = words.replace("_", " ") + (f" [{values}" if values else "")
        try:
            await contract().perform(case)
        except Lacking as lacking:
            skipped[name] = lacking.capability
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            failed[name] = _why(error)
        except Exception as error:
            failed[name] = _why(error)
        else:
            passed.append(name)
    return Report(passed, failed, skipped)


def _why(error: BaseException) -> str:
    """The line of a check, what it raised, and what was known there."""
    told = TracebackException.from_exception(error, capture_locals=True)
    ours = [frame for frame in told.stack if "chatcore_testing" in frame.filename and "contracts" in frame.filename]
    summary = "".join(told.format_exception_only()).strip()
    if not ours:
        return summary[:_MOST]
    known = [f"{name}={value}" for name, value in (ours[-1].locals or {}).items() if name != "self" and name[0] != "@"]
    return f"{ours[-1].line} ▸ {summary} ▸ {', '.join(known)}"[:_MOST]
