"""The contract of owners: an embedding program's users, by a tenant and the program's own id, beside accounts."""

import asyncio

from chatcore.entities import OwnerId, User
from chatcore.errors import Contention, NotFound
from chatcore.ports import UnitOfWorkFactory
from chatcore_testing.contract import Capability, needs, raises
from chatcore_testing.contracts.storage.base import NOW, StoreChecks, add_message, later

NOBODY = OwnerId(999_999_999)
IDS = [
    "ada",
    "Ada",
    "ADA",
    "äda",
    "a\u0308da",
    "ada ",
    " ada",
    "ada\t",
    "🦄",
    "🐴",
    "ﬁ",
    "fi",
    "ß",
    "ss",
    "'\"\\%_",
    "7",
    "07",
]
"""No two of them are the same."""


async def opened(unit_of_work: UnitOfWorkFactory, external_id: str, tenant: str = "acme") -> OwnerId:
    """As an embedding program sees its user: known, or new."""
    while True:
        async with unit_of_work(read_only=True) as work:
            if (found := await work.owners.find(tenant, external_id)) is not None:
                return found
        try:
            async with unit_of_work() as work:
                owner = await work.owners.add(tenant, external_id, now=NOW)
                await work.commit()
        except Contention:
            continue
        return owner


async def close(unit_of_work: UnitOfWorkFactory, owner: OwnerId) -> bool:
    async with unit_of_work() as work:
        closed = await work.owners.close(owner, now=NOW)
        await work.commit()
    return closed


class OwnerRepoChecks(StoreChecks, about="owners"):
    @needs(Capability.ACCOUNTS)
    async def test_an_owner_has_its_name(self, unit_of_work: UnitOfWorkFactory, owner: User) -> None:
        ada = await opened(unit_of_work, "ada 🦄")
        async with unit_of_work(read_only=True) as work:
            assert await work.owners.name(ada) == ("ada 🦄", "acme")
            assert await work.owners.name(owner.id) == await work.owners.name(NOBODY) == ("", "")
        await close(unit_of_work, ada)
        async with unit_of_work(read_only=True) as work:
            assert await work.owners.name(ada) == ("", "")

    async def test_an_owner_is_found_by_its_tenant_and_id(self, unit_of_work: UnitOfWorkFactory) -> None:
        owner = await opened(unit_of_work, "ada")
        async with unit_of_work() as work:
            assert await work.owners.find("acme", "ada") == owner
            for tenant, external_id in (
                ("", "ada"),
                ("acme", ""),
                ("ada", "acme"),
                ("acme", "ada\0"),
                ("acme", "\ud800"),
            ):
                assert await work.owners.find(tenant, external_id) is None
            assert await work.owners.hold(owner)

    async def test_ids_and_tenants_are_compared_exactly(self, unit_of_work: UnitOfWorkFactory) -> None:
        by_id = {each: await opened(unit_of_work, each) for each in IDS}
        by_tenant = {each: await opened(unit_of_work, "ada", each) for each in IDS}
        assert len({*by_id.values(), *by_tenant.values()}) == 2 * len(IDS)
        assert {each: await opened(unit_of_work, each) for each in IDS} == by_id
        assert {each: await opened(unit_of_work, "ada", each) for each in IDS} == by_tenant

    async def test_the_longest_ids_differ_in_their_last_character(self, unit_of_work: UnitOfWorkFactory) -> None:
        longest = ["🦄" * 254 + last for last in "🦄🐴"]
        assert len({await opened(unit_of_work, each, tenant) for each in longest for tenant in longest}) == 4

    async def test_of_two_at_once_both_get_the_same(self, unit_of_work: UnitOfWorkFactory) -> None:
        assert len(set(await asyncio.gather(*(opened(unit_of_work, "ada") for _ in range(8))))) == 1

    async def test_one_that_is_there_is_not_added_again(self, unit_of_work: UnitOfWorkFactory) -> None:
        await opened(unit_of_work, "ada")
        with raises(Contention):
            async with unit_of_work() as work:
                await work.owners.add("acme", "ada", now=NOW)

    @needs(Capability.ACCOUNTS)
    async def test_an_account_is_an_owner_without_an_id(self, unit_of_work: UnitOfWorkFactory, owner: User) -> None:
        other = await opened(unit_of_work, owner.username)
        assert other != owner.id
        async with unit_of_work() as work:
            assert await work.owners.hold(owner.id)
            assert await work.owners.find("", "") is None
            assert await work.administration.user(owner.id) == owner
            assert [user.id for user in await work.administration.users(limit=10)] == [owner.id]

    async def test_a_closed_owner_is_gone_and_its_id_is_free(
        self, unit_of_work: UnitOfWorkFactory, owner: User
    ) -> None:
        ada, kept = await opened(unit_of_work, "ada"), await opened(unit_of_work, "ada", "other")
        assert await close(unit_of_work, ada)
        assert not await close(unit_of_work, ada)
        assert not await close(unit_of_work, NOBODY)
        async with unit_of_work() as work:
            assert await work.owners.find("acme", "ada") is None
            assert not await work.owners.hold(ada)
            assert not await work.owners.hold(NOBODY)
            assert await work.owners.hold(kept)
            assert await work.owners.hold(owner.id)
            assert [*await work.owners.closed(limit=10)] == [ada]
            assert [*await work.owners.closed(limit=0)] == []
        again = await opened(unit_of_work, "ada")
        assert again not in (ada, kept)

    @needs(Capability.ENDPOINTS)
    async def test_an_owner_is_deleted_with_all_that_it_has(self, unit_of_work: UnitOfWorkFactory, owner: User) -> None:
        ada = await opened(unit_of_work, "ada")
        async with unit_of_work() as work:
            theirs = await work.conversations.add(ada, title="", config_id=None, now=NOW)
            await add_message(work, theirs)
            await work.model_configs.add(ada, model_url="http://x", model_name="m", now=NOW)
            kept = await work.conversations.add(owner.id, title="", config_id=None, now=NOW)
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            assert await work.owners.stored_bytes(ada) > await work.owners.stored_bytes(owner.id) > 0
        await close(unit_of_work, ada)
        async with unit_of_work() as work:
            assert [await work.owners.delete_some(ada, limit=10) for _ in range(3)] == [1, 1, 0]
            assert await work.owners.delete(ada)
            await work.commit()
        async with unit_of_work() as work:
            assert not await work.owners.delete(ada)
            assert [*await work.owners.closed(limit=10)] == []
            assert await work.owners.stored_bytes(ada) == 0
            assert await work.model_configs.newest(ada) is None
            assert await work.conversations.get(ada, theirs.id) is None
            assert await work.conversations.get(owner.id, kept.id) == kept
            with raises(NotFound):
                await work.conversations.add(ada, title="", config_id=None, now=NOW)

    async def test_what_is_held_is_not_closed_meanwhile(self, unit_of_work: UnitOfWorkFactory) -> None:
        ada = await opened(unit_of_work, "ada")
        async with unit_of_work() as work:
            assert await work.owners.hold(ada)
            closing = asyncio.create_task(close(unit_of_work, ada))
            done, _ = await asyncio.wait([closing], timeout=0.2)
            assert not done
            await work.conversations.add(ada, title="", config_id=None, now=later(1))
            await work.commit()
        assert await closing
        async with unit_of_work() as work:
            assert not await work.owners.hold(ada)
            assert await work.owners.delete_some(ada, limit=10) == 1
