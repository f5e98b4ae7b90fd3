"""The storage ports' contracts. Each needs one fixture, `unit_of_work`: a `UnitOfWorkFactory`, fresh and empty."""

from contracts.storage.accounts import UserRepoContract
from contracts.storage.base import StorageContract
from contracts.storage.conversations import ConversationRepoContract
from contracts.storage.deletion import AccountDeletionContract
from contracts.storage.idempotency import IdempotencyContract
from contracts.storage.messages import MessageRepoContract
from contracts.storage.model_configs import ModelConfigRepoContract
from contracts.storage.reply_log import ReplyLogContract, UnfinishedRepliesContract
from contracts.storage.sessions import TokenStoreContract
from contracts.storage.unit_of_work import UnitOfWorkContract

__all__ = [
    "AccountDeletionContract",
    "ConversationRepoContract",
    "IdempotencyContract",
    "MessageRepoContract",
    "ModelConfigRepoContract",
    "ReplyLogContract",
    "StorageContract",
    "TokenStoreContract",
    "UnfinishedRepliesContract",
    "UnitOfWorkContract",
    "UserRepoContract",
]
