"""The contracts of `UserRepo` and `TokenStore`."""

import asyncio
from dataclasses import replace
from datetime import datetime

import pytest

from chatcore.entities import Profile, RefreshToken, Session, SessionId, User, UserId
from chatcore.errors import EmailTaken, UsernameTaken
from chatcore.ports import Caller, UnitOfWorkFactory
from contracts.storage.base import NOW, StorageContract, add_user, is_utc, later, stored_user, times

NOBODY = UserId(999_999_999)

same_names = pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Ada", "aDA"),
        ("straße", "STRASSE"),
        ("ｇｒａｃｅ", "Grace"),
        ("İpek", "i\u0307pek"),
        ("ren\u00e9", "rene\u0301"),
    ],
)
different_names = pytest.mark.parametrize(
    ("first", "second"),
    [
        ("resume", "résumé"),
        ("🦄abc", "🐴abc"),
        ("abc", "ab\u200bc"),
        ("ада", "aдa"),
        ("ıda", "ida"),
        ("user_1", "userX1"),
    ],
)


async def found(unit_of_work: UnitOfWorkFactory, name: str) -> User | None:
    async with unit_of_work(read_only=True) as work:
        return await work.users.find(name)


class UserRepoContract(StorageContract):
    async def test_a_user_is_stored_as_given_and_active(self, unit_of_work: UnitOfWorkFactory) -> None:
        profile = Profile(user_name="Ada 🦄", country=" UK ", job="", phone="+44", init_cn_level="漢" * 200)
        async with unit_of_work() as work:
            user = await work.users.add(
                username="Ada",
                email="Ada@Example.org",
                password_hash="$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA",
                roles=frozenset({"user", "admin"}),
                profile=profile,
                now=NOW,
            )
            await work.commit()
        assert user == User(
            id=user.id,
            username="Ada",
            email="Ada@Example.org",
            password_hash="$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA",
            roles=frozenset({"user", "admin"}),
            is_active=True,
            profile=profile,
            created_at=NOW,
            updated_at=NOW,
        )
        assert await found(unit_of_work, "Ada") == user
        assert await found(unit_of_work, "Ada@Example.org") == user

    async def test_a_user_needs_neither_email_nor_profile(self, unit_of_work: UnitOfWorkFactory) -> None:
        first = await stored_user(unit_of_work, "first")
        second = await stored_user(unit_of_work, "second")
        assert await found(unit_of_work, "first") == first
        assert await found(unit_of_work, "second") == second
        assert (first.email, first.profile) == (None, Profile())

    async def test_the_longest_name_and_address_are_kept(self, unit_of_work: UnitOfWorkFactory) -> None:
        name, email = "🦄" * 64, "a" * 64 + "@" + "漢" * 185 + ".org"
        user = await stored_user(unit_of_work, name, email)
        assert (user.username, user.email) == (name, email)
        assert await found(unit_of_work, name) == await found(unit_of_work, email) == user

    @times
    async def test_times_are_kept_to_the_microsecond(self, unit_of_work: UnitOfWorkFactory, time: datetime) -> None:
        async with unit_of_work() as work:
            await work.users.add(
                username="ada", email=None, password_hash="", roles=frozenset(), profile=Profile(), now=time
            )
            await work.commit()
        user = await found(unit_of_work, "ada")
        assert user is not None
        assert user.created_at == user.updated_at == time
        assert is_utc(user.created_at)

    async def test_nobody_is_found_by_an_unknown_name(self, unit_of_work: UnitOfWorkFactory, owner: User) -> None:
        assert await found(unit_of_work, "owne") is None
        assert await found(unit_of_work, "owner_") is None
        assert await found(unit_of_work, "nobody@example.org") is None

    async def test_an_address_is_not_a_username(self, unit_of_work: UnitOfWorkFactory) -> None:
        await stored_user(unit_of_work, "name", "address@example.org")
        assert await found(unit_of_work, "address") is None
        assert await found(unit_of_work, "name@example.org") is None

    @same_names
    async def test_names_are_compared_by_their_identity_key(
        self, unit_of_work: UnitOfWorkFactory, first: str, second: str
    ) -> None:
        user = await stored_user(unit_of_work, first, f"{first}@example.org")
        assert await found(unit_of_work, second) == user
        assert await found(unit_of_work, f"{second}@Example.ORG") == user
        assert user.username == first

    @different_names
    async def test_names_that_only_look_alike_are_two(
        self, unit_of_work: UnitOfWorkFactory, first: str, second: str
    ) -> None:
        one = await stored_user(unit_of_work, first, f"{first}@example.org")
        assert await found(unit_of_work, second) is None
        two = await stored_user(unit_of_work, second, f"{second}@example.org")
        assert await found(unit_of_work, first) == await found(unit_of_work, f"{first}@example.org") == one
        assert await found(unit_of_work, second) == await found(unit_of_work, f"{second}@example.org") == two

    @same_names
    async def test_a_username_is_given_once(self, unit_of_work: UnitOfWorkFactory, first: str, second: str) -> None:
        user = await stored_user(unit_of_work, first)
        async with unit_of_work() as work:
            with pytest.raises(UsernameTaken):
                await add_user(work, second)
        assert await found(unit_of_work, second) == user

    @same_names
    async def test_an_address_is_given_once(self, unit_of_work: UnitOfWorkFactory, first: str, second: str) -> None:
        await stored_user(unit_of_work, "somebody", f"{first}@example.org")
        async with unit_of_work() as work:
            with pytest.raises(EmailTaken):
                await add_user(work, "another", f"{second}@example.org")
        assert await found(unit_of_work, "another") is None

    async def test_of_several_at_once_one_gets_the_name(self, unit_of_work: UnitOfWorkFactory) -> None:
        outcomes = await asyncio.gather(
            *(stored_user(unit_of_work, name) for name in ("Ada", "ada", "ADA", "aDa")), return_exceptions=True
        )
        users = [outcome for outcome in outcomes if isinstance(outcome, User)]
        assert len(users) == 1
        assert sum(isinstance(outcome, UsernameTaken) for outcome in outcomes) == 3
        assert await found(unit_of_work, "ada") == users[0]

    async def test_a_password_hash_is_overwritten(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        async with unit_of_work() as work:
            await work.users.set_password_hash(owner.id, "$new", now=later(1))
            await work.commit()
        assert await found(unit_of_work, "owner") == replace(owner, password_hash="$new", updated_at=later(1))
        assert await found(unit_of_work, "stranger") == stranger

    async def test_the_hash_of_a_user_who_is_gone_is_nothing(
        self, unit_of_work: UnitOfWorkFactory, owner: User
    ) -> None:
        async with unit_of_work() as work:
            await work.users.set_password_hash(NOBODY, "$new", now=later(1))
            await work.commit()
        assert await found(unit_of_work, "owner") == owner


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


class TokenStoreContract(StorageContract):
    @pytest.fixture
    async def session(self, unit_of_work: UnitOfWorkFactory, owner: User) -> Session:
        session = a_session(owner)
        async with unit_of_work() as work:
            await work.tokens.add_session(session)
            await work.commit()
        return session

    @pytest.fixture
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
            for other in ("", "Ab-3_", "aB-3_ ", "aB-3-", "aB-3"):
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
