"""Many who hold the same refresh token use it at the same moment, on two processes' connections, over and over.

However they meet: a session has one token that opens, or it has ended (RFC 9700 §4.14.2).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TypeVar

import pytest

from chatcore import Authenticate, Refresh, SessionIssuer, SessionPolicy, SignedIn
from chatcore.errors import Unauthenticated
from chatcore.issuing import digest_of
from chatcore.use_cases.sessions import NoteUse
from chatcore_memory import HandClock, PlainSigner
from chatcore_sql import Database
from chatcore_testing.contracts.storage.base import NOW, stored_user
from integration.databases import KINDS, SERVERS, empty, execute, migrated_database

pytestmark = pytest.mark.once

RACES = {"mysql": 1000}
"""How many by database; 100 on the others."""
TABS = 4  # that use one token at once
AT_ONCE = 6  # races

T = TypeVar("T")


@dataclass(frozen=True)
class Races:
    url: str
    clock: HandClock
    issuer: SessionIssuer
    workers: Sequence[Database]
    begun: Sequence[SignedIn]
    """One for each race."""

    async def refreshed(self, token: str, worker: int = 0) -> SignedIn | None:
        """None if it is refused."""
        storage = self.workers[worker % len(self.workers)].unit_of_work
        try:
            return await Refresh(unit_of_work=storage, sessions=self.issuer, clock=self.clock)(refresh_token=token)
        except Unauthenticated:
            return None

    async def at_once(self, *tokens: str) -> list[SignedIn | None]:
        """What each gets who uses one of these, some here and some there."""
        return await asyncio.gather(*(self.refreshed(token, number) for number, token in enumerate(tokens)))

    async def opens(self, signed_in: SignedIn) -> bool:
        storage = self.workers[0].unit_of_work
        authenticate = Authenticate(
            unit_of_work=storage,
            note_use=NoteUse(unit_of_work=storage),
            signer=self.issuer.signer,
            clock=self.clock,
        )
        try:
            await authenticate(access_token=signed_in.access_token)
        except Unauthenticated:
            return False
        return True

    async def live_tokens(self) -> dict[str, list[bytes]]:
        """Those that nobody has used yet, by session, of sessions that have not ended."""
        live: dict[str, list[bytes]] = {}
        for session_id, digest in await execute(
            self.url,
            "SELECT s.id, t.digest FROM sessions s JOIN refresh_tokens t ON t.session_id = s.id "
            "WHERE t.used_at IS NULL AND s.logout_time IS NULL",
        ):
            live.setdefault(session_id, []).append(bytes(digest))
        return live

    async def of_each(self, race: Callable[[SignedIn], Awaitable[T]], most: int | None = None) -> list[T]:
        """What comes of each race, a few of which are run at a time. `most`: of the first ones alone."""
        room = asyncio.Semaphore(AT_ONCE)

        async def run(begun: SignedIn) -> T:
            async with room:
                return await race(begun)

        return await asyncio.gather(*(run(begun) for begun in self.begun[:most]))


@pytest.fixture(scope="module", params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with migrated_database(request.param, tmp_path_factory.mktemp("databases")) as url:
        yield url


@pytest.fixture
async def races(url: str) -> AsyncIterator[Races]:
    """Several devices of ten users; a SQLite file has one process, and so one pool."""
    await empty(url)
    kind = next((kind for kind in SERVERS if url.startswith(kind)), "sqlite")
    issuer = SessionIssuer(signer=PlainSigner(), policy=SessionPolicy(refresh_secret=b"secret"))
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(Database(url)) for _ in range(1 if kind == "sqlite" else 2)]
        users = [await stored_user(workers[0].unit_of_work, f"user{number}") for number in range(10)]
        async with workers[0].unit_of_work() as work:
            begun = [
                await issuer.open(work, users[number % 10], user_agent="", address="", now=NOW)
                for number in range(RACES.get(kind, 100))
            ]
            await work.commit()
        yield Races(url, HandClock(NOW), issuer, workers, begun)


@pytest.mark.timeout(300)
async def test_each_race_has_one_live_successor_and_reuse_after_the_grace_ends_the_family(races: Races) -> None:
    async def race(begun: SignedIn) -> tuple[SignedIn, list[SignedIn | None]]:
        return begun, await races.at_once(*[begun.refresh_token] * TABS)

    results = await races.of_each(race)
    successors = dict[str, SignedIn]()
    for begun, got in results:
        tokens = {signed_in.refresh_token if signed_in else None for signed_in in got}
        assert tokens == {races.issuer.successor(begun.refresh_token)}
        assert got[0]
        successors[begun.session.id] = got[0]
    assert len(successors) == len(races.begun)
    live = {session_id: [digest_of(next_.refresh_token)] for session_id, next_ in successors.items()}
    assert await races.live_tokens() == live

    races.clock.advance(races.issuer.policy.grace.total_seconds() + 0.001)
    assert await races.of_each(race) == [(begun, [None] * TABS) for begun, _ in results]
    assert await races.live_tokens() == {}

    async def left(begun: SignedIn) -> list[bool]:
        newest = successors[begun.session.id]
        return [await races.refreshed(newest.refresh_token) is not None, await races.opens(newest)]

    assert await races.of_each(left) == [[False, False]] * len(races.begun)


@pytest.mark.timeout(300)
async def test_a_token_and_its_successor_at_once_leave_one_live_token_or_none(races: Races) -> None:
    """Who comes with the old one after the new one was used has ended the session; before that, both get on."""

    async def race(begun: SignedIn) -> list[SignedIn | None]:
        assert await races.refreshed(begun.refresh_token)
        successor = races.issuer.successor(begun.refresh_token)
        return await races.at_once(begun.refresh_token, successor, begun.refresh_token, successor)

    results = await races.of_each(race, 100)
    live = await races.live_tokens()
    for begun, (old, new, old_too, new_too) in zip(races.begun, results, strict=False):
        newest = races.issuer.successor(races.issuer.successor(begun.refresh_token))
        assert {got.refresh_token for got in (new, new_too) if got} <= {newest}
        ended = old is None or old_too is None
        assert live.get(begun.session.id, []) == ([] if ended else [digest_of(newest)])
