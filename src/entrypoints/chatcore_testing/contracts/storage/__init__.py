"""The contract of `Store`: its units of work, and what their repositories promise."""

from abc import abstractmethod
from collections.abc import Iterable

from chatcore.ports import Store
from chatcore_testing.contract import Capability, Contract, Lacking, Made
from chatcore_testing.contracts.storage.accounts import UserRepoChecks
from chatcore_testing.contracts.storage.administration import AdministrationChecks, SealedKeysChecks
from chatcore_testing.contracts.storage.api_keys import ApiKeyChecks
from chatcore_testing.contracts.storage.branches import BranchesChecks
from chatcore_testing.contracts.storage.conversations import ConversationRepoChecks
from chatcore_testing.contracts.storage.deletion import AccountDeletionChecks
from chatcore_testing.contracts.storage.expiry import ExpiryChecks
from chatcore_testing.contracts.storage.files import FileRepoChecks
from chatcore_testing.contracts.storage.idempotency import IdempotencyChecks
from chatcore_testing.contracts.storage.images import ImageChecks
from chatcore_testing.contracts.storage.messages import MessageRepoChecks
from chatcore_testing.contracts.storage.model_configs import ModelConfigRepoChecks
from chatcore_testing.contracts.storage.order import OrderChecks
from chatcore_testing.contracts.storage.own_data import OwnDataChecks
from chatcore_testing.contracts.storage.owners import OwnerRepoChecks
from chatcore_testing.contracts.storage.quota import StorageQuotaChecks
from chatcore_testing.contracts.storage.reply_log import ReplyLogChecks
from chatcore_testing.contracts.storage.requests import RequestRepoChecks
from chatcore_testing.contracts.storage.search import SearchChecks
from chatcore_testing.contracts.storage.sessions import TokenStoreChecks
from chatcore_testing.contracts.storage.store import StoreItselfChecks
from chatcore_testing.contracts.storage.unit_of_work import UnitOfWorkChecks
from chatcore_testing.contracts.storage.workers import UnfinishedRepliesChecks, WorkersChecks

CHECKS = (
    StoreItselfChecks,
    UnitOfWorkChecks,
    OwnerRepoChecks,
    ConversationRepoChecks,
    MessageRepoChecks,
    BranchesChecks,
    OrderChecks,
    IdempotencyChecks,
    RequestRepoChecks,
    ImageChecks,
    FileRepoChecks,
    ReplyLogChecks,
    WorkersChecks,
    UnfinishedRepliesChecks,
    SearchChecks,
    OwnDataChecks,
    StorageQuotaChecks,
    ModelConfigRepoChecks,
    SealedKeysChecks,
    UserRepoChecks,
    TokenStoreChecks,
    ApiKeyChecks,
    AdministrationChecks,
    AccountDeletionChecks,
    ExpiryChecks,
)


class StoreContract(Contract, checks=CHECKS):
    """What `Store` promises."""

    @abstractmethod
    def store(self) -> Made[Store]:
        """Make one that is migrated and empty."""

    def limited_store(self, most: int) -> Made[Store]:
        """Make one in which an owner may store so many bytes."""
        raise Lacking(Capability.QUOTA)

    def numbered_store(self, ids: Iterable[int]) -> Made[Store]:
        """Make one whose messages get these ids, in this order."""
        raise Lacking(Capability.NUMBERING)
