"""The contract of `TokenStore.delete_expired` and `revoke_all`."""

import asyncio
from dataclasses import replace

from chatcore.entities import User
from chatcore.ports import UnitOfWorkFactory
from chatcore_testing.contract import Capability
from chatcore_testing.contracts.storage.base import NOW, StoreChecks, later
from chatcore_testing.contracts.storage.sessions import a_session, a_token


class ExpiryChecks(StoreChecks, about="expiry", needs=Capability.ACCOUNTS):
    async def test_what_has_expired_is_deleted_and_nothing_else(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        gone = [replace(a_session(user, f"gone {user.username}"), expires_at=NOW) for user in (owner, stranger)]
        kept = [replace(a_session(user, f"kept {user.username}"), expires_at=later(1)) for user in (owner, stranger)]
        async with unit_of_work() as work:
            for number, session in enumerate(gone + kept):
                await work.tokens.add_session(session)
                await work.tokens.add_refresh_token(
                    replace(a_token(session, bytes([number]) * 32), expires_at=later(1))
                )
            old = [replace(a_token(session, bytes([9 + n]) * 32), expires_at=NOW) for n, session in enumerate(kept)]
            for token in old:
                await work.tokens.add_refresh_token(token)
            await work.commit()
        async with unit_of_work() as work:
            assert await work.tokens.delete_expired(before=NOW, limit=10) == 0
            assert await work.tokens.delete_expired(before=later(0.5), limit=10) == 4
            assert await work.tokens.delete_expired(before=later(0.5), limit=10) == 0
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            for number, session in enumerate(gone):
                assert await work.tokens.caller(session.user_id, session.id) is None
                assert await work.tokens.refresh_token(bytes([number]) * 32) is None
            for number, session in enumerate(kept):
                found = await work.tokens.caller(session.user_id, session.id)
                assert found
                assert found.session == session
                assert await work.tokens.refresh_token(bytes([2 + number]) * 32)
                assert await work.tokens.refresh_token(old[number].digest) is None

    async def test_several_at_once_delete_each_thing_once_a_few_at_a_time(
        self, unit_of_work: UnitOfWorkFactory, owner: User
    ) -> None:
        async with unit_of_work() as work:
            for number in range(30):
                session = replace(a_session(owner, f"session {number}"), expires_at=NOW)
                await work.tokens.add_session(session)
                await work.tokens.add_refresh_token(a_token(session, bytes([number]) * 32))
            await work.commit()

        async def sweep() -> list[int]:
            deleted = list[int]()
            for _ in range(10):
                async with unit_of_work() as work:
                    deleted.append(await work.tokens.delete_expired(before=later(1), limit=7))
                    await work.commit()
            return deleted

        found = await asyncio.gather(*(sweep() for _ in range(3)))
        assert sum(map(sum, found)) == 30
        assert max(map(max, found)) == 7

    async def test_all_sessions_of_one_user_are_revoked(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        ended = replace(a_session(owner, "ended"), logout_time=NOW)
        sessions = [a_session(owner, "one"), a_session(owner, "two"), ended, a_session(stranger, "theirs")]
        async with unit_of_work() as work:
            for session in sessions:
                await work.tokens.add_session(session)
            await work.tokens.revoke_all(owner.id, keys=True, now=later(1))
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            found = await work.tokens.sessions(owner.id, limit=10, offset=0)
            assert {session.id: session.logout_time for session in found} == {
                "one": later(1),
                "two": later(1),
                "ended": NOW,
            }
            assert list(await work.tokens.sessions(stranger.id, limit=10, offset=0)) == sessions[3:]
