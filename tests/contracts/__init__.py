"""What the docstrings of `chatcore.ports` promise, as abstract tests: one set for the fakes and the real adapters.

Inherit a contract in a test module and provide the fixture that its base class names:

    class TestUsers(UserRepoContract):
        @pytest.fixture
        def unit_of_work(self) -> UnitOfWorkFactory:
            return MemoryDatabase().unit_of_work
"""

import pytest

pytest.register_assert_rewrite(
    "contracts.storage", "contracts.secrets", "contracts.gateway", "contracts.clock", "contracts.limits"
)
