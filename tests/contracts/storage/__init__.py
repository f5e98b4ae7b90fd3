"""The storage ports' contracts. Each needs one fixture, `unit_of_work`: a `UnitOfWorkFactory`, fresh and empty."""

from contracts.storage.accounts import TokenStoreContract, UserRepoContract
from contracts.storage.base import StorageContract
from contracts.storage.conversations import ConversationRepoContract, ModelConfigRepoContract
from contracts.storage.messages import MessageRepoContract, ReplyLogContract, UnfinishedRepliesContract
from contracts.storage.unit_of_work import UnitOfWorkContract

__all__ = [
    "ConversationRepoContract",
    "MessageRepoContract",
    "ModelConfigRepoContract",
    "ReplyLogContract",
    "StorageContract",
    "TokenStoreContract",
    "UnfinishedRepliesContract",
    "UnitOfWorkContract",
    "UserRepoContract",
]
