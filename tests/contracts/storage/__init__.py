"""The storage ports' contracts. Each needs one fixture, `unit_of_work`: a `UnitOfWorkFactory`, fresh and empty."""

from contracts.storage.accounts import UserRepoContract
from contracts.storage.administration import AdministrationContract, SealedKeysContract
from contracts.storage.base import StorageContract
from contracts.storage.branches import BranchesContract
from contracts.storage.conversations import ConversationRepoContract
from contracts.storage.deletion import AccountDeletionContract
from contracts.storage.expiry import ExpiryContract
from contracts.storage.idempotency import IdempotencyContract
from contracts.storage.messages import MessageRepoContract
from contracts.storage.model_configs import ModelConfigRepoContract
from contracts.storage.order import OrderContract
from contracts.storage.own_data import OwnDataContract
from contracts.storage.owners import OwnerRepoContract
from contracts.storage.quota import StorageQuotaContract
from contracts.storage.reply_log import ReplyLogContract
from contracts.storage.search import SearchContract
from contracts.storage.sessions import TokenStoreContract
from contracts.storage.unit_of_work import UnitOfWorkContract
from contracts.storage.workers import UnfinishedRepliesContract, WorkersContract

__all__ = [
    "AccountDeletionContract",
    "AdministrationContract",
    "BranchesContract",
    "ConversationRepoContract",
    "ExpiryContract",
    "IdempotencyContract",
    "MessageRepoContract",
    "ModelConfigRepoContract",
    "OrderContract",
    "OwnDataContract",
    "OwnerRepoContract",
    "ReplyLogContract",
    "SealedKeysContract",
    "SearchContract",
    "StorageContract",
    "StorageQuotaContract",
    "TokenStoreContract",
    "UnfinishedRepliesContract",
    "UnitOfWorkContract",
    "UserRepoContract",
    "WorkersContract",
]
