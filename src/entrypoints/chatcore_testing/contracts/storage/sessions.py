"""The contract of `TokenStore`."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime

from chatcore.authority import Caller
from chatcore.entities import OwnerId, RefreshToken, Session, SessionId, User, UserId
from chatcore.ports import UnitOfWork, UnitOfWorkFactory
from chatcore_testing.contract import Capability, each
from chatcore_testing.contracts.storage.base import NOW, StoreChecks, later, times

NOBODY = UserId(OwnerId(999_999_999))


def a_session(user: User, session_id: str = "aB-3_", **changes: object) -> Session:
    session = Session(
        id=SessionId(session_id),
        user_id=user.id,
        login_time=NOW,
        authenticated_at=later(-1),
        last_used_at=later(2),
        expires_at=later(3600),
        user_agent="Mozilla/5.0 (🦄) " + "x" * 180,
        address="2001:db8::ffff:192.0.2.1",
    )
    return replace(session, **changes)  # type: ignore[arg-type]


def a_token(session: Session, digest: bytes = bytes(range(224, 256))) -> RefreshToken:
    return RefreshToken(
        digest=digest, session_id=session.id, user_id=session.user_id, created_at=NOW, expires_at=later(60)
    )


ENDS: dict[str, Callable[[UnitOfWork, Session], Awaitable[object]]] = {
    "session": lambda work, it: work.tokens.revoke(it.user_id, it.id, now=NOW),
    "other sessions": lambda work, it: work.tokens.revoke_others(it.user_id, SessionId("another"), now=NOW),
    "all sessions": lambda work, it: work.tokens.revoke_all(it.user_id, keys=False, now=NOW),
    "activity": lambda work, it: work.administration.set_active(it.user_id, False, now=NOW),
    "role": lambda work, it: work.administration.revoke(it.user_id, "user", now=NOW),
    "user": lambda work, it: work.owners.delete(it.user_id),
}
"""What takes away what `hold` has found."""
_TURNS = 100
HELD = [(end, role) for end in ENDS for role in (None, "user") if role or end != "role"]


class TokenStoreChecks(StoreChecks, about="sessions", needs=Capability.ACCOUNTS):
    async def session(self, unit_of_work: UnitOfWorkFactory, owner: User) -> Session:
        session = a_session(owner)
        async with unit_of_work() as work:
            await work.tokens.add_session(session)
            await work.commit()
        return session

    async def token(self, unit_of_work: UnitOfWorkFactory, session: Session) -> RefreshToken:
        token = a_token(session)
        async with unit_of_work() as work:
            await work.tokens.add_refresh_token(token)
            await work.commit()
        return token

    async def test_the_caller_is_the_user_and_the_session(
        self, unit_of_work: UnitOfWorkFactory, owner: User, session: Session
    ) -> None:
        async with unit_of_work(read_only=True) as work:
            assert await work.tokens.caller(owner.id, session.id) == Caller(owner, session)

    async def test_the_caller_of_another_session_is_nobody(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, session: Session
    ) -> None:
        async with unit_of_work(read_only=True) as work:
            assert await work.tokens.caller(stranger.id, session.id) is None
            assert await work.tokens.caller(NOBODY, session.id) is None
            for other in ("", "Ab-3_", "aB-3_ ", "aB-3-", "aB-3", "aB-3_\0", "\0", "\ud83e", "é🦄"):
                assert await work.tokens.caller(owner.id, SessionId(other)) is None

    async def test_the_caller_is_there_when_the_session_is_over(
        self, unit_of_work: UnitOfWorkFactory, owner: User
    ) -> None:
        expired = a_session(owner, "expired", expires_at=later(-1))
        ended = a_session(owner, "ended", logout_time=later(1))
        async with unit_of_work() as work:
            await work.tokens.add_session(expired)
            await work.tokens.add_session(ended)
            assert await work.tokens.caller(owner.id, expired.id) == Caller(owner, expired)
            assert await work.tokens.caller(owner.id, ended.id) == Caller(owner, ended)

    @times
    async def test_times_are_kept_to_the_microsecond(
        self, unit_of_work: UnitOfWorkFactory, owner: User, time: datetime
    ) -> None:
        session = a_session(
            owner, login_time=time, authenticated_at=time, last_used_at=time, expires_at=time, logout_time=time
        )
        token = replace(a_token(session), created_at=time, expires_at=time, used_at=time)
        async with unit_of_work() as work:
            await work.tokens.add_session(session)
            await work.tokens.add_refresh_token(token)
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            assert await work.tokens.caller(owner.id, session.id) == Caller(owner, session)
            assert await work.tokens.refresh_token(token.digest) == token

    async def test_touching_tells_the_last_use(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, session: Session
    ) -> None:
        async with unit_of_work() as work:
            await work.tokens.touch(owner.id, session.id, now=later(60))
            await work.tokens.touch(stranger.id, session.id, now=later(120))
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            caller = await work.tokens.caller(owner.id, session.id)
        assert caller == Caller(owner, replace(session, last_used_at=later(60)))

    async def test_a_session_is_revoked_once(
        self, unit_of_work: UnitOfWorkFactory, owner: User, session: Session
    ) -> None:
        async with unit_of_work() as work:
            assert await work.tokens.revoke(owner.id, session.id, now=later(1)) is True
            assert await work.tokens.revoke(owner.id, session.id, now=later(2)) is False
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            caller = await work.tokens.caller(owner.id, session.id)
        assert caller == Caller(owner, replace(session, logout_time=later(1)))

    async def test_a_strangers_session_is_not_revoked(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, session: Session
    ) -> None:
        async with unit_of_work() as work:
            assert await work.tokens.revoke(stranger.id, session.id, now=later(1)) is False
            assert await work.tokens.revoke(owner.id, SessionId("unknown"), now=later(1)) is False
            assert await work.tokens.caller(owner.id, session.id) == Caller(owner, session)

    async def test_revoking_one_session_leaves_the_others(
        self, unit_of_work: UnitOfWorkFactory, owner: User, session: Session
    ) -> None:
        other = a_session(owner, "AB-3_")
        async with unit_of_work() as work:
            await work.tokens.add_session(other)
            await work.tokens.revoke(owner.id, session.id, now=later(1))
            assert await work.tokens.caller(owner.id, other.id) == Caller(owner, other)

    async def test_a_refresh_token_is_found_by_its_digest(
        self, unit_of_work: UnitOfWorkFactory, session: Session, token: RefreshToken
    ) -> None:
        zeros = a_token(session, bytes(32))
        async with unit_of_work() as work:
            await work.tokens.add_refresh_token(zeros)
            assert await work.tokens.refresh_token(token.digest) == token
            assert await work.tokens.refresh_token(zeros.digest) == zeros
            assert await work.tokens.refresh_token(bytes(31) + b"\x20") is None

    async def test_a_token_is_exchanged_once(self, unit_of_work: UnitOfWorkFactory, token: RefreshToken) -> None:
        async with unit_of_work() as work:
            assert await work.tokens.exchange(token.digest, now=later(1)) is True
            assert await work.tokens.exchange(token.digest, now=later(2)) is False
            await work.commit()
        async with unit_of_work() as work:
            assert await work.tokens.exchange(token.digest, now=later(3)) is False
            assert await work.tokens.refresh_token(token.digest) == replace(token, used_at=later(1))

    async def test_an_expired_token_is_not_exchanged(
        self, unit_of_work: UnitOfWorkFactory, token: RefreshToken
    ) -> None:
        async with unit_of_work() as work:
            assert await work.tokens.exchange(token.digest, now=token.expires_at) is False
            assert await work.tokens.refresh_token(token.digest) == token
            assert await work.tokens.exchange(token.digest, now=later(59.999_999)) is True

    async def test_an_unknown_token_is_not_exchanged(
        self, unit_of_work: UnitOfWorkFactory, token: RefreshToken
    ) -> None:
        async with unit_of_work() as work:
            assert await work.tokens.exchange(bytes(32), now=later(1)) is False
            assert await work.tokens.refresh_token(token.digest) == token

    async def test_an_exchange_that_is_rolled_back_leaves_the_token_to_others(
        self, unit_of_work: UnitOfWorkFactory, token: RefreshToken
    ) -> None:
        async with unit_of_work() as work:
            assert await work.tokens.exchange(token.digest, now=later(1)) is True
        async with unit_of_work() as work:
            assert await work.tokens.exchange(token.digest, now=later(2)) is True

    async def test_of_several_at_once_one_exchanges(self, unit_of_work: UnitOfWorkFactory, token: RefreshToken) -> None:
        async def exchange(seconds: int) -> bool:
            async with unit_of_work() as work:
                exchanged = await work.tokens.exchange(token.digest, now=later(seconds))
                await work.commit()
            return exchanged

        outcomes = await asyncio.gather(*(exchange(seconds) for seconds in range(8)))
        assert sorted(outcomes) == [False] * 7 + [True]
        async with unit_of_work(read_only=True) as work:
            used = await work.tokens.refresh_token(token.digest)
        assert used == replace(token, used_at=later(outcomes.index(True)))

    # ---- all of a user's sessions ----

    async def test_sessions_are_listed_latest_first_ended_ones_too(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        async with unit_of_work() as work:
            a, b, c, d = [
                a_session(owner, name, login_time=later(seconds), **changes)
                for name, seconds, changes in (
                    ("a", 0, {"expires_at": later(-1)}),
                    ("b", 2, {"logout_time": later(3)}),
                    ("c", 2.000_001, {}),
                    ("d", 1, {"last_used_at": later(99)}),
                )
            ]
            for session in (a, b, c, d, a_session(stranger, "e", login_time=later(9))):
                await work.tokens.add_session(session)
            assert list(await work.tokens.sessions(owner.id, limit=10, offset=0)) == [c, b, d, a]
            assert list(await work.tokens.sessions(owner.id, limit=2, offset=1)) == [b, d]
            assert list(await work.tokens.sessions(owner.id, limit=2, offset=4)) == []
            assert list(await work.tokens.sessions(NOBODY, limit=10, offset=0)) == []

    async def test_sessions_of_one_moment_are_each_on_one_page(
        self, unit_of_work: UnitOfWorkFactory, owner: User
    ) -> None:
        names = ["b", "D", "a", "C", "-", "_"]
        async with unit_of_work() as work:
            for name in names:
                await work.tokens.add_session(a_session(owner, name))
            pages = [await work.tokens.sessions(owner.id, limit=2, offset=offset) for offset in (0, 2, 4)]
        assert sorted(session.id for page in pages for session in page) == sorted(names)

    async def test_revoking_the_others_leaves_this_one(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, session: Session
    ) -> None:
        open_, ended = a_session(owner, "open"), a_session(owner, "ended", logout_time=later(1))
        strangers = a_session(stranger, "strangers")
        async with unit_of_work() as work:
            for each in (open_, ended, strangers):
                await work.tokens.add_session(each)
            await work.tokens.revoke_others(owner.id, session.id, now=later(2))
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            assert await work.tokens.caller(owner.id, session.id) == Caller(owner, session)
            revoked = await work.tokens.caller(owner.id, open_.id)
            assert revoked == Caller(owner, replace(open_, logout_time=later(2)))
            assert await work.tokens.caller(owner.id, ended.id) == Caller(owner, ended)
            assert await work.tokens.caller(stranger.id, strangers.id) == Caller(stranger, strangers)

    async def test_an_unknown_session_has_only_others(
        self, unit_of_work: UnitOfWorkFactory, owner: User, session: Session
    ) -> None:
        async with unit_of_work() as work:
            await work.tokens.revoke_others(owner.id, SessionId("unknown"), now=later(2))
            assert await work.tokens.revoke(owner.id, session.id, now=later(3)) is False

    async def test_the_living_among_some_sessions(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, session: Session
    ) -> None:
        now = later(10)
        expired = a_session(owner, "expired", expires_at=now)
        ended = a_session(owner, "ended", logout_time=later(11))
        last = a_session(stranger, "last", expires_at=later(10.000_001))
        asked = [session.id, expired.id, ended.id, last.id, SessionId("unknown")]
        async with unit_of_work() as work:
            for each in (expired, ended, last, a_session(owner, "not asked for")):
                await work.tokens.add_session(each)
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            for _ in range(2):
                assert await work.tokens.alive(asked, now=now) == {session.id, last.id}
            assert await work.tokens.alive({session.id}, now=now) == {session.id}
            assert await work.tokens.alive([], now=now) == set()

    # ---- what is held ----

    async def test_a_living_session_of_an_active_user_with_the_role_holds(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, session: Session
    ) -> None:
        now = later(10)
        expired = a_session(owner, "expired", expires_at=now)
        ended = a_session(owner, "ended", logout_time=later(11))
        strangers = a_session(stranger, "strangers")
        async with unit_of_work() as work:
            for each in (expired, ended, strangers):
                await work.tokens.add_session(each)
            await work.administration.set_active(stranger.id, False, now=now)
            for alone in (False, True):
                assert await work.tokens.hold(owner.id, session.id, alone=alone, now=now) is True
                for user_id, session_id in (
                    (owner.id, expired.id),
                    (owner.id, ended.id),
                    (owner.id, strangers.id),
                    (stranger.id, session.id),
                    (stranger.id, strangers.id),
                    (owner.id, SessionId("unknown")),
                ):
                    assert await work.tokens.hold(user_id, session_id, alone=alone, now=now) is False
            assert await work.tokens.hold(owner.id, session.id, role="user", now=now) is True
            assert await work.tokens.hold(owner.id, session.id, role="admin", now=now) is False
            assert await work.tokens.hold(owner.id, ended.id, role="user", now=now) is False

    @each(("end", "role"), HELD)
    async def test_what_is_held_ends_later(
        self, unit_of_work: UnitOfWorkFactory, owner: User, session: Session, end: str, role: str | None
    ) -> None:
        """Whoever ends it waits; who asks after that hears of it."""
        order = list[str]()

        async def end_it() -> None:
            async with unit_of_work() as work:
                await ENDS[end](work, session)
                order.append("ended")
                await work.commit()

        async with unit_of_work() as work:
            assert await work.tokens.hold(owner.id, session.id, role=role, now=NOW) is True
            ending = asyncio.create_task(end_it())
            for _ in range(20):  # round trips in which the other one could overtake
                await work.users.find("owner")
            order.append("held")
            await work.commit()
        await ending
        assert order == ["held", "ended"]
        async with unit_of_work() as work:
            assert await work.tokens.hold(owner.id, session.id, role=role, now=NOW) is False

    @each("end", ENDS)
    async def test_what_is_held_by_turns_ends(
        self, unit_of_work: UnitOfWorkFactory, owner: User, session: Session, end: str
    ) -> None:
        """Though it is held without a gap: who ends it is passed over by nobody who asks later."""
        over, held = asyncio.Event(), 0

        async def hold(first: float) -> None:
            nonlocal held
            await asyncio.sleep(first)
            while not over.is_set() and held < _TURNS:
                async with unit_of_work() as work:
                    await work.tokens.hold(owner.id, session.id, now=NOW)
                    held += 1
                    await asyncio.sleep(0.03)

        async def end_it() -> None:
            await asyncio.sleep(0.05)
            async with unit_of_work() as work:
                await ENDS[end](work, session)
                await work.commit()
            over.set()

        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            for first in (0, 0.01, 0.02):
                group.create_task(hold(first))
            group.create_task(end_it())
        assert held < _TURNS

    @each(("end", "role"), HELD)
    async def test_what_is_about_to_end_is_not_held(
        self, unit_of_work: UnitOfWorkFactory, owner: User, session: Session, end: str, role: str | None
    ) -> None:

        async def hold() -> bool:
            async with unit_of_work() as work:
                return await work.tokens.hold(owner.id, session.id, role=role, now=NOW)

        async with unit_of_work() as work:
            await ENDS[end](work, session)
            holding = asyncio.create_task(hold())
            for _ in range(20):  # round trips in which the other one comes as far as it can
                await work.users.find("owner")
            await work.commit()
        assert await holding is False

    async def test_revoking_the_others_waits_for_an_exchange_under_way(
        self, unit_of_work: UnitOfWorkFactory, owner: User, session: Session, token: RefreshToken
    ) -> None:
        async def revoke_others() -> None:
            async with unit_of_work() as work:
                await work.tokens.revoke_others(owner.id, SessionId("another"), now=later(2))
                await work.commit()

        successor = a_token(session, b"\0" * 32)
        async with unit_of_work() as work:
            assert await work.tokens.exchange(token.digest, now=later(1)) is True
            revoking = asyncio.create_task(revoke_others())
            for _ in range(20):  # round trips in which the other one comes as far as it can
                await work.tokens.refresh_token(token.digest)
            await work.tokens.add_refresh_token(successor)
            await work.tokens.touch(owner.id, session.id, now=later(1))
            await work.commit()
        await revoking
        async with unit_of_work(read_only=True) as work:
            caller = await work.tokens.caller(owner.id, session.id)
            assert await work.tokens.refresh_token(successor.digest) == successor
        assert caller == Caller(owner, replace(session, last_used_at=later(1), logout_time=later(2)))
