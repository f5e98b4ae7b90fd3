"""The contract of `UserRepo`: names and passwords."""

import asyncio
from dataclasses import replace
from datetime import datetime

from chatcore.entities import OwnerId, Profile, User, UserId
from chatcore.errors import EmailTaken, UsernameTaken
from chatcore.ports import UnitOfWorkFactory
from chatcore_testing.contract import Capability, Made, Mark, each, raises
from chatcore_testing.contracts.storage.base import NOW, StoreChecks, add_user, is_utc, later, stored_user, times
from chatcore_testing.normalising import MARKS, lengths_normalised

NOBODY = UserId(OwnerId(999_999_999))

same_names: Mark = each(
    ("first", "second"),
    [
        ("Ada", "aDA"),
        ("straße", "STRASSE"),
        ("ｇｒａｃｅ", "Grace"),
        ("İpek", "i\u0307pek"),
        ("ren\u00e9", "rene\u0301"),
    ],
)
different_names: Mark = each(
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


class UserRepoChecks(StoreChecks, about="users", needs=Capability.ACCOUNTS):
    def normalised(self) -> Made[list[int]]:
        return lengths_normalised()

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

    @each("name", [MARKS, f"{MARKS}@example.org", "owner" * 10_000])
    async def test_a_name_that_nobody_can_have_is_not_normalised(
        self, unit_of_work: UnitOfWorkFactory, owner: User, normalised: list[int], name: str
    ) -> None:
        assert await found(unit_of_work, name) is None
        assert max(normalised, default=0) < 1000

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
            with raises(UsernameTaken):
                await add_user(work, second)
        assert await found(unit_of_work, second) == user

    @same_names
    async def test_an_address_is_given_once(self, unit_of_work: UnitOfWorkFactory, first: str, second: str) -> None:
        await stored_user(unit_of_work, "somebody", f"{first}@example.org")
        async with unit_of_work() as work:
            with raises(EmailTaken):
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
            assert await work.users.set_password_hash(owner.id, "$new", now=later(1)) is True
            await work.commit()
        assert await found(unit_of_work, "owner") == replace(owner, password_hash="$new", updated_at=later(1))
        assert await found(unit_of_work, "stranger") == stranger

    async def test_the_hash_of_a_user_who_is_gone_or_disabled_is_nothing(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        async with unit_of_work() as work:
            await work.administration.set_active(stranger.id, False, now=later(1))
            for user_id in (NOBODY, stranger.id):
                assert await work.users.set_password_hash(user_id, "$new", now=later(2)) is False
            assert await work.users.hold(NOBODY, password_hash="$new") is False
            assert await work.users.hold(stranger.id, password_hash=stranger.password_hash) is False
            await work.commit()
        assert await found(unit_of_work, "owner") == owner
        assert await found(unit_of_work, "stranger") == replace(stranger, is_active=False, updated_at=later(1))

    async def test_a_hash_is_replaced_only_while_it_is_the_one_that_is_known(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        known = owner.password_hash
        async with unit_of_work() as work:
            assert await work.users.hold(owner.id, password_hash=known) is True
            assert await work.users.hold(owner.id, password_hash=stranger.password_hash) is False
            assert await work.users.set_password_hash(owner.id, "$new", known=known, now=later(1)) is True
            assert await work.users.set_password_hash(owner.id, "$other", known=known, now=later(2)) is False
            assert await work.users.hold(owner.id, password_hash=known) is False
            assert await work.users.hold(owner.id, password_hash="$new") is True
            await work.commit()
        assert await found(unit_of_work, "owner") == replace(owner, password_hash="$new", updated_at=later(1))
        assert await found(unit_of_work, "stranger") == stranger

    async def test_a_hash_that_is_held_is_changed_later(self, unit_of_work: UnitOfWorkFactory, owner: User) -> None:
        order = list[str]()

        async def change() -> None:
            async with unit_of_work() as work:
                await work.users.set_password_hash(owner.id, "$new", now=later(1))
                order.append("changed")
                await work.commit()

        async with unit_of_work() as work:
            assert await work.users.hold(owner.id, password_hash=owner.password_hash)
            changing = asyncio.create_task(change())
            for _ in range(20):  # round trips in which the other one could overtake
                await work.users.find("owner")
            order.append("held")
            await work.commit()
        await changing
        assert order == ["held", "changed"]

    # ---- another name, another address ----

    async def test_a_name_is_overwritten_and_the_old_one_is_free(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        async with unit_of_work() as work:
            await work.users.set_username(owner.id, "Ädä🦄", now=later(1))
            await work.commit()
        renamed = replace(owner, username="Ädä🦄", updated_at=later(1))
        assert await found(unit_of_work, "äDÄ🦄") == await found(unit_of_work, "owner@example.org") == renamed
        assert await found(unit_of_work, "owner") is None
        assert await found(unit_of_work, "stranger") == stranger
        assert (await stored_user(unit_of_work, "owner")).id != owner.id

    async def test_an_address_is_overwritten_and_the_old_one_is_free(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        async with unit_of_work() as work:
            await work.users.set_email(owner.id, "New@Example.org", now=later(1))
            await work.commit()
        moved = replace(owner, email="New@Example.org", updated_at=later(1))
        assert await found(unit_of_work, "new@example.ORG") == await found(unit_of_work, "owner") == moved
        assert await found(unit_of_work, "owner@example.org") is None
        assert await found(unit_of_work, "stranger@example.org") == stranger
        assert (await stored_user(unit_of_work, "another", "owner@example.org")).id != owner.id

    async def test_who_had_no_address_gets_one(self, unit_of_work: UnitOfWorkFactory) -> None:
        user = await stored_user(unit_of_work, "ada")
        async with unit_of_work() as work:
            await work.users.set_email(user.id, "ada@example.org", now=NOW)
            await work.commit()
        assert await found(unit_of_work, "ADA@example.org") == replace(user, email="ada@example.org")

    @same_names
    async def test_another_spelling_of_ones_own_is_not_taken(
        self, unit_of_work: UnitOfWorkFactory, first: str, second: str
    ) -> None:
        user = await stored_user(unit_of_work, first, f"{first}@example.org")
        for spelling in (second, second, first):
            async with unit_of_work() as work:
                await work.users.set_username(user.id, spelling, now=later(1))
                await work.users.set_email(user.id, f"{spelling}@example.org", now=later(1))
                await work.commit()
            respelt = replace(user, username=spelling, email=f"{spelling}@example.org", updated_at=later(1))
            assert await found(unit_of_work, first) == await found(unit_of_work, f"{second}@Example.org") == respelt

    @same_names
    async def test_anothers_name_and_address_are_taken(
        self, unit_of_work: UnitOfWorkFactory, owner: User, first: str, second: str
    ) -> None:
        user = await stored_user(unit_of_work, first, f"{first}@example.org")
        async with unit_of_work() as work:
            with raises(UsernameTaken):
                await work.users.set_username(owner.id, second, now=later(1))
        async with unit_of_work() as work:
            with raises(EmailTaken):
                await work.users.set_email(owner.id, f"{second}@example.org", now=later(1))
        assert await found(unit_of_work, "owner") == await found(unit_of_work, "owner@example.org") == owner
        assert await found(unit_of_work, first) == user

    async def test_who_is_gone_takes_no_name(self, unit_of_work: UnitOfWorkFactory, owner: User) -> None:
        async with unit_of_work() as work:
            for name in ("free", "owner"):
                await work.users.set_username(NOBODY, name, now=later(1))
                await work.users.set_email(NOBODY, f"{name}@example.org", now=later(1))
            await work.commit()
        assert await found(unit_of_work, "owner") == owner
        assert await found(unit_of_work, "free") is await found(unit_of_work, "free@example.org") is None

    async def test_of_several_who_want_a_name_at_once_one_gets_it(self, unit_of_work: UnitOfWorkFactory) -> None:
        users = [await stored_user(unit_of_work, f"user{number}") for number in range(4)]

        async def rename(user: User, username: str) -> User:
            async with unit_of_work() as work:
                await work.users.set_username(user.id, username, now=NOW)
                await work.commit()
            return replace(user, username=username)

        tries = (rename(user, name) for user, name in zip(users, ("Ada", "ada", "ADA", "aDa"), strict=True))
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        renamed = [outcome for outcome in outcomes if isinstance(outcome, User)]
        assert sum(isinstance(outcome, UsernameTaken) for outcome in outcomes) == 3
        assert [await found(unit_of_work, "ada")] == renamed
