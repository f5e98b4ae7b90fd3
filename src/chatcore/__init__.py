"""chatcore: a multi-user AI chat backend as a library.

Open a `Chat` with a store and a gateway, and take `Mine` for each of your program's users: `send`, `reply`, `history`.
What is not there is in `Chat.use_cases`: callable objects, listed in `UseCases`. `Hooks` are the seams; `SyncChat` is
for threads. Errors are one tree (`chatcore.errors`), what a program may replace is in `chatcore.ports`, and events and
errors as wire data are in `chatcore.wire`. This package needs nothing but Python; the adapters that ship with it are
`chatcore_sql`, `chatcore_openai`, `chatcore_security` and, for tests, `chatcore_memory`.
"""

from typing import TYPE_CHECKING, Any

from chatcore import errors, ports, wire
from chatcore.authority import Authority, Caller, Operator, Owner, Vouched
from chatcore.chat import USE_CASES, Chat, UseCases
from chatcore.clock import SystemClock
from chatcore.entities import (
    Conversation,
    ConversationId,
    Message,
    MessageId,
    ModelConfig,
    ModelConfigId,
    OwnerId,
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
from chatcore.events import ConversationTitled, Cursor, ReplyDelta, ReplyEnded, ReplyEvent, ReplyStarted, Silence
from chatcore.hooks import Ask, Hooks
from chatcore.issuing import SessionIssuer, SessionPolicy, SignedIn
from chatcore.mine import Mine
from chatcore.ports import (
    Delta,
    HookWork,
    LLMGateway,
    ModelEndpoint,
    Prompt,
    PromptMessage,
    Purpose,
    Rate,
    Store,
    TextKind,
    Turn,
)
from chatcore.prompt import PromptLimits
from chatcore.rate_limits import RateLimits
from chatcore.replies import Replies
from chatcore.session_watch import SessionWatch
from chatcore.streams import ReplyStream
from chatcore.sweep import ExpirySweep
from chatcore.sync import SyncChat, SyncMine, SyncReplyStream
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
    ListCursor,
    ListPage,
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
from chatcore.use_cases.owners import ForgetOwner, OpenOwner
from chatcore.use_cases.read_import import OwnConversation
from chatcore.use_cases.search import SearchConversations, SearchCursor, SearchPage
from chatcore.use_cases.sessions import (
    Authenticate,
    ListSessions,
    Refresh,
    RevokeOtherSessions,
    RevokeSession,
    SignIn,
    SignOut,
)
from chatcore.use_cases.user_import import ImportUsers
from chatcore.wire import Problem, problem

if TYPE_CHECKING:
    __version__: str

__all__ = [
    "USE_CASES",
    "AddMessage",
    "Ask",
    "Authenticate",
    "Authority",
    "Caller",
    "ChangeEmail",
    "ChangePassword",
    "ChangeUsername",
    "Chat",
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
    "Cursor",
    "DeleteAccount",
    "DeleteConversation",
    "DeleteModelConfig",
    "DeleteUser",
    "Delta",
    "DisableUser",
    "EditMessage",
    "EnableUser",
    "ExpirySweep",
    "ExportOwnData",
    "FindUser",
    "FollowReply",
    "ForgetOwner",
    "GrantRole",
    "History",
    "HookWork",
    "Hooks",
    "ImportConversations",
    "ImportUsers",
    "Imported",
    "LLMGateway",
    "ListConversations",
    "ListCursor",
    "ListModelConfigs",
    "ListPage",
    "ListRoles",
    "ListSessions",
    "ListSessionsOfUser",
    "ListUsers",
    "Message",
    "MessageId",
    "Mine",
    "ModelConfig",
    "ModelConfigId",
    "ModelEndpoint",
    "OpenOwner",
    "Operator",
    "OwnConversation",
    "OwnThing",
    "Owner",
    "OwnerId",
    "Page",
    "PasswordPolicy",
    "Problem",
    "Profile",
    "Prompt",
    "PromptLimits",
    "PromptMessage",
    "Purpose",
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
    "ReplyStream",
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
    "Store",
    "SwitchBranch",
    "SyncChat",
    "SyncMine",
    "SyncReplyStream",
    "SystemClock",
    "TextKind",
    "Turn",
    "UpdateModelConfig",
    "Usage",
    "UseCases",
    "User",
    "UserId",
    "Vouched",
    "__version__",
    "errors",
    "ports",
    "problem",
    "wire",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # only for who asks

        return version("chatcore")
    raise AttributeError(f"module 'chatcore' has no attribute {name!r}")
