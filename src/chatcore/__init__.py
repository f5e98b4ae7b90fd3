"""chatcore: a multi-user AI chat backend as a library.

The use cases are callable objects; give them adapters for the ports (`chatcore.ports`), open `Replies` once around
them, and call them with keyword arguments. Errors are one tree (`chatcore.errors`). This package needs nothing but
Python; the adapters that ship with it are `chatcore_sql`, `chatcore_openai`, `chatcore_security` and, for tests,
`chatcore_memory`.
"""

from chatcore.authority import Authority, Caller, Operator, Owner, Vouched
from chatcore.clock import SystemClock
from chatcore.entities import (
    Conversation,
    ConversationId,
    Message,
    MessageId,
    ModelConfig,
    ModelConfigId,
    Page,
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
from chatcore.events import ConversationTitled, ReplyDelta, ReplyEnded, ReplyEvent, ReplyStarted, Silence
from chatcore.ports import ModelEndpoint, Rate, TextKind
from chatcore.prompt import PromptLimits
from chatcore.rate_limits import RateLimits
from chatcore.replies import Replies
from chatcore.session_watch import SessionWatch
from chatcore.sweep import ExpirySweep
from chatcore.use_cases.accounts import (
    ChangeEmail,
    ChangePassword,
    ChangeUsername,
    CreateAccount,
    DeleteAccount,
    PasswordPolicy,
    Register,
    StepUp,
)
from chatcore.use_cases.administration import (
    CreateAdmin,
    DeleteUser,
    DisableUser,
    EnableUser,
    FindUser,
    GrantRole,
    ListRoles,
    ListSessionsOfUser,
    ListUsers,
    RevokeRole,
    RevokeSessionsOfUser,
)
from chatcore.use_cases.asking import ChatDefaults, ChatOptions, Sent
from chatcore.use_cases.chat import EditMessage, FollowReply, RegenerateReply, SendMessage, StopReply
from chatcore.use_cases.conversations import (
    AddMessage,
    CreateConversation,
    DeleteConversation,
    History,
    ListConversations,
    ReadHistory,
    RenameConversation,
    SwitchBranch,
)
from chatcore.use_cases.encryption_keys import CountOldKeys, Rotated, RotateKeys
from chatcore.use_cases.model_configs import (
    Checked,
    CheckModelConfig,
    CreateModelConfig,
    DeleteModelConfig,
    ListModelConfigs,
    UpdateModelConfig,
)
from chatcore.use_cases.own_data import ExportOwnData, ImportConversations, Imported, OwnThing
from chatcore.use_cases.read_import import OwnConversation
from chatcore.use_cases.search import SearchConversations, SearchCursor, SearchPage
from chatcore.use_cases.sessions import (
    Authenticate,
    ListSessions,
    Refresh,
    RevokeOtherSessions,
    RevokeSession,
    SessionIssuer,
    SessionPolicy,
    SignedIn,
    SignIn,
    SignOut,
)
from chatcore.use_cases.user_import import ImportUsers

__all__ = [
    "AddMessage",
    "Authenticate",
    "Authority",
    "Caller",
    "ChangeEmail",
    "ChangePassword",
    "ChangeUsername",
    "ChatDefaults",
    "ChatOptions",
    "ChatcoreError",
    "CheckModelConfig",
    "Checked",
    "Conversation",
    "ConversationId",
    "ConversationTitled",
    "CountOldKeys",
    "CreateAccount",
    "CreateAdmin",
    "CreateConversation",
    "CreateModelConfig",
    "DeleteAccount",
    "DeleteConversation",
    "DeleteModelConfig",
    "DeleteUser",
    "DisableUser",
    "EditMessage",
    "EnableUser",
    "ExpirySweep",
    "ExportOwnData",
    "FindUser",
    "FollowReply",
    "GrantRole",
    "History",
    "ImportConversations",
    "ImportUsers",
    "Imported",
    "ListConversations",
    "ListModelConfigs",
    "ListRoles",
    "ListSessions",
    "ListSessionsOfUser",
    "ListUsers",
    "Message",
    "MessageId",
    "ModelConfig",
    "ModelConfigId",
    "ModelEndpoint",
    "Operator",
    "OwnConversation",
    "OwnThing",
    "Owner",
    "Page",
    "PasswordPolicy",
    "Profile",
    "PromptLimits",
    "Rate",
    "RateLimits",
    "ReadHistory",
    "Refresh",
    "RegenerateReply",
    "Register",
    "RenameConversation",
    "Replies",
    "ReplyDelta",
    "ReplyEnded",
    "ReplyEvent",
    "ReplyStarted",
    "RevokeOtherSessions",
    "RevokeRole",
    "RevokeSession",
    "RevokeSessionsOfUser",
    "Role",
    "RotateKeys",
    "Rotated",
    "SearchConversations",
    "SearchCursor",
    "SearchPage",
    "SendMessage",
    "Sent",
    "Session",
    "SessionId",
    "SessionIssuer",
    "SessionPolicy",
    "SessionWatch",
    "SignIn",
    "SignOut",
    "SignedIn",
    "Silence",
    "Status",
    "StepUp",
    "StopReply",
    "SwitchBranch",
    "SystemClock",
    "TextKind",
    "UpdateModelConfig",
    "Usage",
    "User",
    "UserId",
    "Vouched",
]
