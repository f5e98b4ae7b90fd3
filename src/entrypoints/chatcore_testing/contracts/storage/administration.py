"""The contracts of `Administration` and `SealedKeys`."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from chatcore.entities import ADMIN_ROLE, ROLES, ModelConfig, ModelConfigId, OwnerId, Profile, User, UserId
from chatcore.errors import EmailTaken, NotFound, UsernameTaken
from chatcore.ports import NewUser, UnitOfWork, UnitOfWorkFactory
from chatcore_testing.contract import Capability, each, raises
from chatcore_testing.contracts.storage.base import NOW, StoreChecks, later, stored_user

NOBODY = UserId(OwnerId(999_999_999))


async def written(unit_of_work: UnitOfWorkFactory, work_of: Callable[[UnitOfWork], Awaitable[object]]) -> None:
    async with unit_of_work() as work:
        await work_of(work)
        await work.commit()


async def the_user(unit_of_work: UnitOfWorkFactory, user: User) -> User | None:
    async with unit_of_work(read_only=True) as work:
        return await work.administration.user(user.id)


async def grant_admin(unit_of_work: UnitOfWorkFactory, *users: User) -> None:
    async with unit_of_work() as work:
        for user in users:
            await work.administration.grant(user.id, ADMIN_ROLE, now=NOW)
        await work.commit()


class AdministrationChecks(StoreChecks, about="administration", needs=Capability.ACCOUNTS):
    async def test_the_roles_are_those_of_the_rules_each_with_a_sentence(self, unit_of_work: UnitOfWorkFactory) -> None:
        async with unit_of_work(read_only=True) as work:
            roles = await work.administration.roles()
        assert [role.name for role in roles] == sorted(ROLES)
        assert {role.name: role.description for role in roles} == {
            "admin": "Administers all accounts.",
            "user": "Holds conversations of their own.",
        }

    # ---- accounts from elsewhere ----

    @each("count", [0, 1, 501])
    async def test_many_users_are_added_as_they_are(self, unit_of_work: UnitOfWorkFactory, count: int) -> None:
        new = [
            NewUser(
                username=f"User{number}",
                email=f"user{number}@example.org" if number % 2 else None,
                password_hash=f"hash {number}",
                roles=frozenset({"user", "admin"} if number % 3 else {"user"}),
                is_active=number % 5 != 0,
                profile=Profile(user_name=f"小{number}", job="x" * 200),
                created_at=later(-number) if number % 7 else None,
            )
            for number in range(count)
        ]
        async with unit_of_work() as work:
            ids = await work.administration.add_users(new, now=NOW)
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            stored = [await work.administration.user(user_id) for user_id in ids]
        assert stored == [
            User(
                id=user_id,
                username=user.username,
                email=user.email,
                password_hash=user.password_hash,
                roles=user.roles,
                is_active=user.is_active,
                profile=user.profile,
                created_at=user.created_at or NOW,
                updated_at=NOW,
            )
            for user_id, user in zip(ids, new, strict=True)
        ]

    @each(("username", "email", "error"), [("OWNER", None, UsernameTaken), ("new", "Owner@Example.org", EmailTaken)])
    async def test_of_many_users_one_that_is_taken_prevents_all(
        self,
        unit_of_work: UnitOfWorkFactory,
        owner: User,
        username: str,
        email: str | None,
        error: type[Exception],
    ) -> None:
        new = [
            NewUser(username="first", password_hash=""),
            NewUser(username=username, email=email, password_hash=""),
        ]
        async with unit_of_work() as work:
            with raises(error):
                await work.administration.add_users(new, now=NOW)
        async with unit_of_work(read_only=True) as work:
            assert await work.administration.users(limit=5) == [owner]

    async def test_which_names_and_addresses_are_taken(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        await stored_user(unit_of_work, "Mixed")
        async with unit_of_work(read_only=True) as work:
            names, emails = await work.administration.taken(
                usernames=["OWNER", "mixed", "new", "\ud800", *(f"u{number}" for number in range(600))],
                emails=["Stranger@example.org", "owner", "new@example.org"],
            )
            nothing = await work.administration.taken(usernames=[], emails=[])
        assert (set(names), set(emails)) == ({"owner", "Mixed"}, {"stranger@example.org"})
        assert [set(each) for each in nothing] == [set(), set()]

    # ---- seeing ----

    async def test_users_are_listed_by_page_the_newest_first(self, unit_of_work: UnitOfWorkFactory) -> None:
        users = [await stored_user(unit_of_work, f"user{number}") for number in range(5)]
        await grant_admin(unit_of_work, users[3])
        async with unit_of_work(read_only=True) as work:
            assert await work.administration.users(limit=10) == [
                users[4],
                replace(users[3], roles=frozenset({"user", "admin"})),
                *users[2::-1],
            ]
            assert [user.id for user in await work.administration.users(limit=2)] == [users[4].id, users[3].id]
            assert list(await work.administration.users(before=users[3].id, limit=2)) == [users[2], users[1]]
            assert list(await work.administration.users(before=users[0].id, limit=2)) == []
            assert await work.administration.users(before=UserId(OwnerId(2**63 - 1)), limit=1) == [users[4]]

    @each(
        ("containing", "found"),
        [
            ("", "dcba"),
            ("ada", "a"),
            ("ADA", "a"),
            ("EXAMPLE.ORG", "ba"),
            ("straße", "c"),
            ("STRASSE", "c"),
            ("%", "d"),
            ("_", "d"),
            ("!", "d"),
            ("\\", "d"),
            ("'", ""),
            ("\0", ""),
            ("\ud800", ""),
            ("x" * 254, ""),
            ("@" * 255, ""),
        ],
    )
    async def test_users_are_found_by_a_part_of_a_name(
        self, unit_of_work: UnitOfWorkFactory, containing: str, found: str
    ) -> None:
        names = {"a": "AdaL", "b": "bob", "c": "straße", "d": "d%_!\\x"}
        for letter, name in names.items():
            await stored_user(unit_of_work, name, f"{letter}@Example.org" if letter in "ab" else None)
        async with unit_of_work(read_only=True) as work:
            users = await work.administration.users(containing=containing, limit=10)
            assert [user.username for user in users] == [names[letter] for letter in found]
            assert len(await work.administration.users(containing="example", limit=1)) == 1

    async def test_a_user_is_found_by_id(self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User) -> None:
        assert await the_user(unit_of_work, owner) == owner
        for absent in (NOBODY, UserId(OwnerId(-1)), UserId(OwnerId(0)), UserId(OwnerId(2**70))):
            assert await the_user(unit_of_work, replace(owner, id=absent)) is None

    # ---- changing ----

    async def test_a_user_is_disabled_and_enabled(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        for active in (False, False, True):
            async with unit_of_work() as work:
                assert await work.administration.set_active(owner.id, active, now=later(1)) is True
                assert await work.administration.set_active(NOBODY, active, now=later(1)) is False
                await work.commit()
            assert await the_user(unit_of_work, owner) == replace(owner, is_active=active, updated_at=later(1))
        assert await the_user(unit_of_work, stranger) == stranger

    async def test_roles_are_granted_and_revoked(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        both = replace(owner, roles=frozenset({"user", "admin"}), updated_at=later(1))
        for now in (later(1), later(2)):  # the second time nothing happens
            async with unit_of_work() as work:
                await work.administration.grant(owner.id, "admin", now=now)
                await work.commit()
            assert await the_user(unit_of_work, owner) == both
        for now in (later(3), later(4)):
            async with unit_of_work() as work:
                await work.administration.revoke(owner.id, "user", now=now)
                await work.commit()
            assert await the_user(unit_of_work, owner) == replace(both, roles=frozenset({"admin"}), updated_at=later(3))
        await written(unit_of_work, lambda work: work.administration.revoke(NOBODY, "user", now=NOW))
        assert await the_user(unit_of_work, stranger) == stranger

    async def test_a_role_is_granted_to_a_user_and_is_one(self, unit_of_work: UnitOfWorkFactory, owner: User) -> None:
        for user_id, role in ((NOBODY, "admin"), (owner.id, "emperor"), (owner.id, "")):
            async with unit_of_work() as work:
                with raises(NotFound):
                    await work.administration.grant(user_id, role, now=NOW)
        assert await the_user(unit_of_work, owner) == owner

    # ---- the last one ----

    async def test_the_only_admin_is_active_and_has_no_second(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        async def only() -> UserId | None:
            async with unit_of_work() as work:
                return await work.administration.only_admin()

        assert await only() is None
        await grant_admin(unit_of_work, owner)
        assert await only() == owner.id
        await grant_admin(unit_of_work, stranger)
        assert await only() is None
        await written(unit_of_work, lambda work: work.administration.set_active(owner.id, False, now=NOW))
        assert await only() == stranger.id
        await written(unit_of_work, lambda work: work.owners.delete(stranger.id))
        assert await only() is None

    async def test_of_two_who_go_at_once_the_second_knows_to_be_the_last(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        await grant_admin(unit_of_work, owner, stranger)

        async def go(user: User) -> bool:
            async with unit_of_work() as work:
                if await work.administration.only_admin() == user.id:
                    return False
                for _ in range(5):  # round trips in which the other one could overtake
                    await work.administration.user(user.id)
                await work.administration.revoke(user.id, ADMIN_ROLE, now=NOW)
                await work.commit()
            return True

        assert sorted(await asyncio.gather(go(owner), go(stranger))) == [False, True]


class SealedKeysChecks(StoreChecks, about="sealed_keys", needs=Capability.ENDPOINTS):
    async def add(
        self, unit_of_work: UnitOfWorkFactory, owner: User, sealed_key: str = "sealed", sealed_with: str = "old"
    ) -> ModelConfig:
        async with unit_of_work() as work:
            config = await work.model_configs.add(owner.id, model_url="http://x", model_name="m", now=NOW)
            assert config.sealed_with == ""
            config = replace(config, sealed_key=sealed_key, api_key_hint="hint", sealed_with=sealed_with)
            assert await work.model_configs.save(config)
            await work.commit()
        return config

    async def test_they_are_found_whosever_they_are(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        names = ["old", "newest", "", "older", "zz", "unknown"]
        configs = [
            await self.add(unit_of_work, (owner, stranger)[n % 2], "s" * len(name), name)
            for n, name in enumerate(names)
        ]
        old = [config for config in configs if config.sealed_with not in ("", "newest")]
        async with unit_of_work(read_only=True) as work:
            assert list(await work.sealed_keys.list(but="newest", limit=10)) == old
            assert list(await work.sealed_keys.list(but="newest", limit=2)) == old[:2]
            assert list(await work.sealed_keys.list(but="newest", after=old[1].id, limit=10)) == old[2:]
            assert list(await work.sealed_keys.list(but="newest", after=old[-1].id, limit=10)) == []
            assert await work.sealed_keys.count(but="newest", limit=10) == 4
            assert await work.sealed_keys.count(but="newest", limit=3) == 3
            assert await work.sealed_keys.count(but="another", limit=10) == 5
            assert list(await work.model_configs.list(owner.id, limit=10, offset=0)) == [
                configs[4],
                configs[2],
                configs[0],
            ]

    async def test_one_is_replaced_and_nothing_else(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        config, other = await self.add(unit_of_work, owner), await self.add(unit_of_work, owner)
        async with unit_of_work() as work:
            assert await work.sealed_keys.replace(config, sealed_key="again", sealed_with="newest") is True
            assert await work.sealed_keys.replace(config, sealed_key="twice", sealed_with="newest") is False
            for wrong in (
                replace(other, user_id=stranger.id),
                replace(other, id=ModelConfigId(999_999_999)),
                replace(other, sealed_key="SEALED"),
            ):
                assert await work.sealed_keys.replace(wrong, sealed_key="x", sealed_with="x") is False
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            again = replace(config, sealed_key="again", sealed_with="newest")
            assert await work.model_configs.get(owner.id, config.id) == again
            assert await work.model_configs.get(owner.id, other.id) == other

    async def test_whoever_has_locked_a_configuration_wins(self, unit_of_work: UnitOfWorkFactory, owner: User) -> None:
        config = await self.add(unit_of_work, owner)

        async def reseal() -> bool:
            async with unit_of_work() as work:
                replaced = await work.sealed_keys.replace(config, sealed_key="again", sealed_with="newest")
                await work.commit()
            return replaced

        async with unit_of_work() as work:
            assert await work.model_configs.lock(owner.id, config.id) == config
            assert await work.model_configs.lock(NOBODY, config.id) is None
            resealing = asyncio.create_task(reseal())
            for _ in range(20):  # round trips in which the other one could overtake
                await work.model_configs.get(owner.id, config.id)
            await work.model_configs.save(replace(config, sealed_key="the owner's"))
            await work.commit()
        assert await resealing is False
        async with unit_of_work(read_only=True) as work:
            found = await work.model_configs.get(owner.id, config.id)
        assert found
        assert found.sealed_key == "the owner's"
