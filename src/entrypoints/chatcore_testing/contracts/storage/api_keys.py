"""The contract of `TokenStore` for personal API keys, which are sessions with a `KeyGrant`."""

from dataclasses import replace

from chatcore.authority import Caller
from chatcore.entities import NEVER, KeyGrant, Scope, Session, SessionId, User
from chatcore.ports import UnitOfWorkFactory
from chatcore_testing.contract import Capability, each
from chatcore_testing.contracts.storage.base import NOW, StoreChecks, later
from chatcore_testing.contracts.storage.sessions import NOBODY, a_session

DIGEST = bytes(range(32))
ENDED = {"logout_time": later(1), "expires_at": later(1)}


def a_key(user: User, session_id: str = "key", digest: bytes = DIGEST, **changes: object) -> Session:
    grant = KeyGrant(name="laptop 🦄", hint="-_x9", scopes=frozenset({Scope.CHAT, Scope.FILES}), digest=digest)
    return replace(a_session(user, session_id), **{"key": grant, "expires_at": NEVER, **changes})  # type: ignore[arg-type]


class ApiKeyChecks(StoreChecks, about="API keys", needs=Capability.ACCOUNTS):
    async def key(self, unit_of_work: UnitOfWorkFactory, owner: User) -> Session:
        key = a_key(owner)
        async with unit_of_work() as work:
            await work.tokens.add_session(key)
            await work.commit()
        return key

    async def test_a_key_is_found_by_its_digest_and_by_its_id(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, key: Session
    ) -> None:
        async with unit_of_work(read_only=True) as work:
            assert await work.tokens.key_holder(DIGEST) == Caller(owner, key)
            assert await work.tokens.caller(owner.id, key.id) == Caller(owner, key)
            assert await work.tokens.caller(stranger.id, key.id) is None
            for other in (b"", bytes(32), DIGEST[:31], DIGEST[:31] + b"\x20", DIGEST + b"\0"):
                assert await work.tokens.key_holder(other) is None

    @each("scope", Scope)
    async def test_each_scope_is_kept(self, unit_of_work: UnitOfWorkFactory, owner: User, scope: Scope) -> None:
        grant = KeyGrant(name="x" * 100, hint="", scopes=frozenset({scope}), digest=bytes(32))
        async with unit_of_work() as work:
            await work.tokens.add_session(a_key(owner, key=grant))
            found = await work.tokens.key_holder(bytes(32))
        assert found
        assert found.session.key == grant

    async def test_a_sign_in_is_no_key(self, unit_of_work: UnitOfWorkFactory, owner: User) -> None:
        async with unit_of_work() as work:
            await work.tokens.add_session(a_session(owner))
            found = await work.tokens.caller(owner.id, a_session(owner).id)
        assert found
        assert found.session.key is None

    async def test_keys_and_sign_ins_are_listed_apart(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, key: Session
    ) -> None:
        newer = a_key(owner, "newer", bytes(32), login_time=later(5), logout_time=later(6))
        sign_in, theirs = a_session(owner, "sign-in"), a_key(stranger, "theirs", b"\1" * 32)
        async with unit_of_work() as work:
            for session in (newer, sign_in, theirs):
                await work.tokens.add_session(session)
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            assert await work.tokens.keys(owner.id, limit=10, offset=0) == [newer, key]
            assert await work.tokens.keys(owner.id, limit=1, offset=1) == [key]
            assert await work.tokens.sessions(owner.id, limit=10, offset=0) == [sign_in]
            assert await work.tokens.keys(NOBODY, limit=10, offset=0) == []

    async def test_live_keys_are_counted_to_a_limit(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, key: Session
    ) -> None:
        others = [
            a_key(owner, "live", b"\1" * 32, expires_at=later(11)),
            a_key(owner, "expired", b"\2" * 32, expires_at=later(10)),
            a_key(owner, "revoked", b"\3" * 32, logout_time=NOW),
            a_key(stranger, "theirs", b"\4" * 32),
            a_session(owner, "sign-in"),
        ]
        async with unit_of_work() as work:
            for session in others:
                await work.tokens.add_session(session)
            for limit in (1, 2, 50):
                assert await work.tokens.live_keys(owner.id, limit=limit, now=later(10)) == min(limit, 2)

    async def test_a_key_holds_and_lives_as_a_session_does(
        self, unit_of_work: UnitOfWorkFactory, owner: User, key: Session
    ) -> None:
        async with unit_of_work() as work:
            assert await work.tokens.hold(owner.id, key.id, now=later(9))
            assert await work.tokens.alive([key.id], now=later(9)) == {key.id}
            assert await work.tokens.revoke(owner.id, key.id, now=later(1)) is True
            assert not await work.tokens.hold(owner.id, key.id, now=later(1))
            assert await work.tokens.alive([key.id], now=later(1)) == frozenset()

    async def test_a_revoked_key_also_expires(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, key: Session
    ) -> None:
        """Or nothing would ever delete it."""
        async with unit_of_work() as work:
            assert await work.tokens.revoke(stranger.id, key.id, now=later(1)) is False
            assert await work.tokens.revoke(owner.id, key.id, now=later(1)) is True
            assert await work.tokens.revoke(owner.id, key.id, now=later(2)) is False
            await work.commit()
        async with unit_of_work() as work:
            assert await work.tokens.key_holder(DIGEST) == Caller(owner, replace(key, **ENDED))  # type: ignore[arg-type]
            assert await work.tokens.delete_expired(before=later(2), limit=10) == 1
            assert await work.tokens.key_holder(DIGEST) is None

    async def test_the_ends_of_sign_ins_leave_keys_alone(
        self, unit_of_work: UnitOfWorkFactory, owner: User, key: Session
    ) -> None:
        async with unit_of_work() as work:
            await work.tokens.add_session(a_session(owner, "sign-in"))
            await work.tokens.revoke_others(owner.id, SessionId("another"), now=later(1))
            await work.tokens.revoke_all(owner.id, keys=False, now=later(1))
            assert await work.tokens.key_holder(DIGEST) == Caller(owner, key)
            found = await work.tokens.sessions(owner.id, limit=10, offset=0)
            assert [session.logout_time for session in found] == [later(1)]

    async def test_all_of_one_user_end_with_their_keys(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, key: Session
    ) -> None:
        sign_in, theirs = a_session(owner, "sign-in"), a_key(stranger, "theirs", b"\1" * 32)
        async with unit_of_work() as work:
            await work.tokens.add_session(sign_in)
            await work.tokens.add_session(theirs)
            await work.tokens.revoke_all(owner.id, keys=True, now=later(1))
            assert await work.tokens.key_holder(DIGEST) == Caller(owner, replace(key, **ENDED))  # type: ignore[arg-type]
            assert await work.tokens.sessions(owner.id, limit=10, offset=0) == [replace(sign_in, logout_time=later(1))]
            assert await work.tokens.key_holder(b"\1" * 32) == Caller(stranger, theirs)
