"""The contract of `Store` itself."""

from chatcore.ports import Store
from chatcore_testing.contract import Capability, needs
from chatcore_testing.contracts.storage.base import StoreChecks, stored_user


class StoreItselfChecks(StoreChecks, about="store"):
    async def test_migrating_again_changes_nothing(self, store: Store) -> None:
        assert await store.is_migrated()
        await store.migrate()
        assert await store.is_migrated()

    @needs(Capability.ACCOUNTS)
    async def test_the_last_to_leave_closes_it(self, store: Store) -> None:
        for _ in range(2):
            async with store as entered:
                assert entered is store
        assert (await stored_user(store.unit_of_work, "ada")).username == "ada"
