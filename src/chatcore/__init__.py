"""chatcore: a multi-user AI chat backend as a library.

The use cases are callable objects; give them adapters for the ports (`chatcore.ports`), open `Replies` once around
them, and call them with keyword arguments. Errors are one tree (`chatcore.errors`). This package needs nothing but
Python; the adapters that ship with it are `chatcore_sql`, `chatcore_openai`, `chatcore_security` and, for tests,
`chatcore_memory`.
"""

from chatcore.clock import SystemClock
from chatcore.entities import (
    Conversation,
    ConversationId,
    Message,
    MessageId,
    ModelConfig,
    ModelConfigId,
    Profile,
    Role,
    Session,
    SessionId,
    Status,
    Usage,
    User,
    UserId,
)
from chatcore.errors import ChatcoreError
from chatcore.events import ReplyDelta, ReplyEnded, ReplyEvent, ReplyStarted, Silence
from chatcore.ports import Caller, ModelEndpoint, TextKind
from chatcore.prompt import PromptLimits
from chatcore.replies import Replies
from chatcore.use_cases.accounts import PasswordPolicy, Register
from chatcore.use_cases.chat import ChatDefaults, ChatOptions, FollowReply, SendMessage, Sent, StopReply
from chatcore.use_cases.conversations import (
    CreateConversation,
    DeleteConversation,
    History,
    ListConversations,
    Page,
    ReadHistory,
)
from chatcore.use_cases.model_configs import CreateModelConfig, DeleteModelConfig, ListModelConfigs, UpdateModelConfig
from chatcore.use_cases.sessions import (
    Authenticate,
    Refresh,
    SessionIssuer,
    SessionPolicy,
    SignedIn,
    SignIn,
    SignOut,
)

__all__ = [
    "Authenticate",
    "Caller",
    "ChatDefaults",
    "ChatOptions",
    "ChatcoreError",
    "Conversation",
    "ConversationId",
    "CreateConversation",
    "CreateModelConfig",
    "DeleteConversation",
    "DeleteModelConfig",
    "FollowReply",
    "History",
    "ListConversations",
    "ListModelConfigs",
    "Message",
    "MessageId",
    "ModelConfig",
    "ModelConfigId",
    "ModelEndpoint",
    "Page",
    "PasswordPolicy",
    "Profile",
    "PromptLimits",
    "ReadHistory",
    "Refresh",
    "Register",
    "Replies",
    "ReplyDelta",
    "ReplyEnded",
    "ReplyEvent",
    "ReplyStarted",
    "Role",
    "SendMessage",
    "Sent",
    "Session",
    "SessionId",
    "SessionIssuer",
    "SessionPolicy",
    "SignIn",
    "SignOut",
    "SignedIn",
    "Silence",
    "Status",
    "StopReply",
    "SystemClock",
    "TextKind",
    "UpdateModelConfig",
    "Usage",
    "User",
    "UserId",
]
