"""What the core asks of the outside: one Protocol per conversation with it.

Adapters subclass these, so that a missing method fails when the adapter is made. What a docstring promises
here is held by the contracts of `chatcore_testing`, for the in-memory adapters and the real ones alike.

Owned things are asked for with their owner; another's thing and a missing thing give the same answer, `None`
or `False`. The ports that see across owners say so: `TokenStore`, where the secret itself is the proof, `Workers`,
`UnfinishedReplies`, `Administration`, `SealedKeys` and `OwnerRepo.closed`.

Any method that reaches a database raises `Unavailable` when that is gone, and `Contention` when the database gives the
unit of work up for the sake of others: a deadlock, a lock that was waited for too long, or a commit that lost to one on
another node. Nothing of that unit is stored then, and it may be run again from its beginning.

A method runs to completion despite the cancellation of its caller, and raises the cancellation then.
"""

from chatcore.ports.accounts import Administration, NewUser, UserRepo
from chatcore.ports.clock import Clock
from chatcore.ports.conversations import NO_METADATA, ConversationRepo, Hit, Matches, MessageRef
from chatcore.ports.files import FILE_PART, FileRepo
from chatcore.ports.messages import PAGE_BYTES, Idempotency, MessageRepo, Node
from chatcore.ports.model_configs import Cipher, ModelConfigRepo, SealedKeys
from chatcore.ports.models import (
    Delta,
    ImagePart,
    LLMGateway,
    ModelEndpoint,
    Part,
    Prompt,
    PromptMessage,
    Purpose,
    TextPart,
    Turn,
)
from chatcore.ports.owners import OwnerRepo
from chatcore.ports.passwords import PasswordHasher
from chatcore.ports.rates import Rate, RateLimiter
from chatcore.ports.relay import ModelRelay, OpenAnswer
from chatcore.ports.reply_log import LogCursor, LogEntry, ReplyLog, TextKind
from chatcore.ports.requests import RequestRepo
from chatcore.ports.sessions import AccessClaims, TokenSigner, TokenStore
from chatcore.ports.store import Store
from chatcore.ports.unit_of_work import AuthorityWork, HookWork, Transaction, UnitOfWork, UnitOfWorkFactory, UnitsOfWork
from chatcore.ports.workers import Heartbeat, UnfinishedReplies, Workers

__all__ = [
    "FILE_PART",
    "NO_METADATA",
    "PAGE_BYTES",
    "AccessClaims",
    "Administration",
    "AuthorityWork",
    "Cipher",
    "Clock",
    "ConversationRepo",
    "Delta",
    "FileRepo",
    "Heartbeat",
    "Hit",
    "HookWork",
    "Idempotency",
    "ImagePart",
    "LLMGateway",
    "LogCursor",
    "LogEntry",
    "Matches",
    "MessageRef",
    "MessageRepo",
    "ModelConfigRepo",
    "ModelEndpoint",
    "ModelRelay",
    "NewUser",
    "Node",
    "OpenAnswer",
    "OwnerRepo",
    "Part",
    "PasswordHasher",
    "Prompt",
    "PromptMessage",
    "Purpose",
    "Rate",
    "RateLimiter",
    "ReplyLog",
    "RequestRepo",
    "SealedKeys",
    "Store",
    "TextKind",
    "TextPart",
    "TokenSigner",
    "TokenStore",
    "Transaction",
    "Turn",
    "UnfinishedReplies",
    "UnitOfWork",
    "UnitOfWorkFactory",
    "UnitsOfWork",
    "UserRepo",
    "Workers",
]
