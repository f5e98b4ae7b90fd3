"""chatcore: a multi-user AI chat backend as a library.

Open a `Chat` with a store and a gateway, and take `Mine` for each of your program's users: `send`, `reply`, `history`.
What is not there is in `Chat.use_cases`: callable objects, listed in `UseCases`. `Hooks` are the seams; `SyncChat` is
for threads. Errors are one tree (`chatcore.errors`), what a program may replace is in `chatcore.ports`, and events and
errors as wire data are in `chatcore.wire`. This package needs nothing but Python; the adapters that ship with it are
`chatcore_sql`, `chatcore_openai`, `chatcore_security` and, for tests, `chatcore_memory`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chatcore import errors as errors
    from chatcore import ports as ports
    from chatcore import wire as wire
    from chatcore.authority import Authority as Authority
    from chatcore.authority import Caller as Caller
    from chatcore.authority import Operator as Operator
    from chatcore.authority import Owner as Owner
    from chatcore.authority import Vouched as Vouched
    from chatcore.chat import USE_CASES as USE_CASES
    from chatcore.chat import Chat as Chat
    from chatcore.chat import UseCases as UseCases
    from chatcore.clock import SystemClock as SystemClock
    from chatcore.entities import Conversation as Conversation
    from chatcore.entities import ConversationId as ConversationId
    from chatcore.entities import File as File
    from chatcore.entities import FileId as FileId
    from chatcore.entities import Image as Image
    from chatcore.entities import Message as Message
    from chatcore.entities import MessageId as MessageId
    from chatcore.entities import ModelConfig as ModelConfig
    from chatcore.entities import ModelConfigId as ModelConfigId
    from chatcore.entities import OwnerId as OwnerId
    from chatcore.entities import Page as Page
    from chatcore.entities import Profile as Profile
    from chatcore.entities import Role as Role
    from chatcore.entities import Scope as Scope
    from chatcore.entities import Session as Session
    from chatcore.entities import SessionId as SessionId
    from chatcore.entities import Status as Status
    from chatcore.entities import Usage as Usage
    from chatcore.entities import User as User
    from chatcore.entities import UserId as UserId
    from chatcore.errors import ChatcoreError as ChatcoreError
    from chatcore.events import ConversationTitled as ConversationTitled
    from chatcore.events import Cursor as Cursor
    from chatcore.events import ReplyDelta as ReplyDelta
    from chatcore.events import ReplyEnded as ReplyEnded
    from chatcore.events import ReplyEvent as ReplyEvent
    from chatcore.events import ReplyStarted as ReplyStarted
    from chatcore.events import Silence as Silence
    from chatcore.hooks import Ask as Ask
    from chatcore.hooks import Hooks as Hooks
    from chatcore.issuing import SessionIssuer as SessionIssuer
    from chatcore.issuing import SessionPolicy as SessionPolicy
    from chatcore.issuing import SignedIn as SignedIn
    from chatcore.mine import Mine as Mine
    from chatcore.ports import Delta as Delta
    from chatcore.ports import HookWork as HookWork
    from chatcore.ports import LLMGateway as LLMGateway
    from chatcore.ports import ModelEndpoint as ModelEndpoint
    from chatcore.ports import Prompt as Prompt
    from chatcore.ports import PromptMessage as PromptMessage
    from chatcore.ports import Purpose as Purpose
    from chatcore.ports import Rate as Rate
    from chatcore.ports import Store as Store
    from chatcore.ports import TextKind as TextKind
    from chatcore.ports import Turn as Turn
    from chatcore.prompt import PromptLimits as PromptLimits
    from chatcore.rate_limits import RateLimits as RateLimits
    from chatcore.replies import Replies as Replies
    from chatcore.session_watch import SessionWatch as SessionWatch
    from chatcore.streams import ReplyStream as ReplyStream
    from chatcore.sweep import ExpirySweep as ExpirySweep
    from chatcore.sync import SyncChat as SyncChat
    from chatcore.sync import SyncMine as SyncMine
    from chatcore.sync import SyncReplyStream as SyncReplyStream
    from chatcore.use_cases.accounts import ChangeEmail as ChangeEmail
    from chatcore.use_cases.accounts import ChangePassword as ChangePassword
    from chatcore.use_cases.accounts import ChangeUsername as ChangeUsername
    from chatcore.use_cases.accounts import CreateAccount as CreateAccount
    from chatcore.use_cases.accounts import DeleteAccount as DeleteAccount
    from chatcore.use_cases.accounts import PasswordPolicy as PasswordPolicy
    from chatcore.use_cases.accounts import Register as Register
    from chatcore.use_cases.accounts import StepUp as StepUp
    from chatcore.use_cases.adding import AddItems as AddItems
    from chatcore.use_cases.adding import AddMessage as AddMessage
    from chatcore.use_cases.adding import UploadConversation as UploadConversation
    from chatcore.use_cases.administration import CreateAdmin as CreateAdmin
    from chatcore.use_cases.administration import DeleteUser as DeleteUser
    from chatcore.use_cases.administration import DisableUser as DisableUser
    from chatcore.use_cases.administration import EnableUser as EnableUser
    from chatcore.use_cases.administration import FindUser as FindUser
    from chatcore.use_cases.administration import GrantRole as GrantRole
    from chatcore.use_cases.administration import ListRoles as ListRoles
    from chatcore.use_cases.administration import ListSessionsOfUser as ListSessionsOfUser
    from chatcore.use_cases.administration import ListUsers as ListUsers
    from chatcore.use_cases.administration import RevokeRole as RevokeRole
    from chatcore.use_cases.administration import RevokeSessionsOfUser as RevokeSessionsOfUser
    from chatcore.use_cases.api_keys import AuthenticateKey as AuthenticateKey
    from chatcore.use_cases.api_keys import CreateApiKey as CreateApiKey
    from chatcore.use_cases.api_keys import ListApiKeys as ListApiKeys
    from chatcore.use_cases.api_keys import RevokeApiKey as RevokeApiKey
    from chatcore.use_cases.branching import EditMessage as EditMessage
    from chatcore.use_cases.branching import RegenerateReply as RegenerateReply
    from chatcore.use_cases.chat_values import Asked as Asked
    from chatcore.use_cases.chat_values import ChatDefaults as ChatDefaults
    from chatcore.use_cases.chat_values import ChatOptions as ChatOptions
    from chatcore.use_cases.chat_values import Earlier as Earlier
    from chatcore.use_cases.chat_values import Sent as Sent
    from chatcore.use_cases.conversations import CreateConversation as CreateConversation
    from chatcore.use_cases.conversations import DeleteConversation as DeleteConversation
    from chatcore.use_cases.conversations import History as History
    from chatcore.use_cases.conversations import ListConversations as ListConversations
    from chatcore.use_cases.conversations import ListCursor as ListCursor
    from chatcore.use_cases.conversations import ListPage as ListPage
    from chatcore.use_cases.conversations import ReadHistory as ReadHistory
    from chatcore.use_cases.conversations import RenameConversation as RenameConversation
    from chatcore.use_cases.conversations import SwitchBranch as SwitchBranch
    from chatcore.use_cases.encryption_keys import CountOldKeys as CountOldKeys
    from chatcore.use_cases.encryption_keys import Rotated as Rotated
    from chatcore.use_cases.encryption_keys import RotateKeys as RotateKeys
    from chatcore.use_cases.files import DeleteFile as DeleteFile
    from chatcore.use_cases.files import FileLimits as FileLimits
    from chatcore.use_cases.files import FindFile as FindFile
    from chatcore.use_cases.files import ListFiles as ListFiles
    from chatcore.use_cases.files import ReadFile as ReadFile
    from chatcore.use_cases.files import UploadFile as UploadFile
    from chatcore.use_cases.following import FollowReply as FollowReply
    from chatcore.use_cases.following import StopReply as StopReply
    from chatcore.use_cases.items import DescribeConversation as DescribeConversation
    from chatcore.use_cases.items import ListItems as ListItems
    from chatcore.use_cases.items import ListPath as ListPath
    from chatcore.use_cases.items import ReadConversation as ReadConversation
    from chatcore.use_cases.items import ReadImage as ReadImage
    from chatcore.use_cases.items import ReadItem as ReadItem
    from chatcore.use_cases.model_configs import Checked as Checked
    from chatcore.use_cases.model_configs import CheckModelConfig as CheckModelConfig
    from chatcore.use_cases.model_configs import CreateModelConfig as CreateModelConfig
    from chatcore.use_cases.model_configs import DeleteModelConfig as DeleteModelConfig
    from chatcore.use_cases.model_configs import ListModelConfigs as ListModelConfigs
    from chatcore.use_cases.model_configs import UpdateModelConfig as UpdateModelConfig
    from chatcore.use_cases.own_data import ImportConversations as ImportConversations
    from chatcore.use_cases.own_data import Imported as Imported
    from chatcore.use_cases.own_export import ExportOwnData as ExportOwnData
    from chatcore.use_cases.own_export import OwnThing as OwnThing
    from chatcore.use_cases.owners import ForgetOwner as ForgetOwner
    from chatcore.use_cases.owners import OpenOwner as OpenOwner
    from chatcore.use_cases.read_import import OwnConversation as OwnConversation
    from chatcore.use_cases.read_import import OwnImage as OwnImage
    from chatcore.use_cases.relay import FindModel as FindModel
    from chatcore.use_cases.relay import ListModels as ListModels
    from chatcore.use_cases.relay import OfferedModel as OfferedModel
    from chatcore.use_cases.relay import Relayed as Relayed
    from chatcore.use_cases.relay import RelayModel as RelayModel
    from chatcore.use_cases.requests import DescribeRequest as DescribeRequest
    from chatcore.use_cases.requests import EraseMessage as EraseMessage
    from chatcore.use_cases.requests import ListRequests as ListRequests
    from chatcore.use_cases.requests import ReadRequest as ReadRequest
    from chatcore.use_cases.requests import Requested as Requested
    from chatcore.use_cases.search import SearchConversations as SearchConversations
    from chatcore.use_cases.search import SearchCursor as SearchCursor
    from chatcore.use_cases.search import SearchPage as SearchPage
    from chatcore.use_cases.sending import SendMessage as SendMessage
    from chatcore.use_cases.sessions import Authenticate as Authenticate
    from chatcore.use_cases.sessions import ListSessions as ListSessions
    from chatcore.use_cases.sessions import Refresh as Refresh
    from chatcore.use_cases.sessions import RevokeOtherSessions as RevokeOtherSessions
    from chatcore.use_cases.sessions import RevokeSession as RevokeSession
    from chatcore.use_cases.sessions import SignIn as SignIn
    from chatcore.use_cases.sessions import SignOut as SignOut
    from chatcore.use_cases.user_import import ImportUsers as ImportUsers
    from chatcore.wire import Problem as Problem
    from chatcore.wire import problem as problem

    __version__: str

_HOMES = {
    "authority": "Authority Caller Operator Owner Vouched",
    "chat": "USE_CASES Chat UseCases",
    "clock": "SystemClock",
    "entities": (
        "Conversation ConversationId File FileId Image Message MessageId ModelConfig ModelConfigId OwnerId Page "
        "Profile Role Scope Session SessionId Status Usage User UserId"
    ),
    "errors": "ChatcoreError",
    "events": "ConversationTitled Cursor ReplyDelta ReplyEnded ReplyEvent ReplyStarted Silence",
    "hooks": "Ask Hooks",
    "issuing": "SessionIssuer SessionPolicy SignedIn",
    "mine": "Mine",
    "ports": "Delta HookWork LLMGateway ModelEndpoint Prompt PromptMessage Purpose Rate Store TextKind Turn",
    "prompt": "PromptLimits",
    "rate_limits": "RateLimits",
    "replies": "Replies",
    "session_watch": "SessionWatch",
    "streams": "ReplyStream",
    "sweep": "ExpirySweep",
    "sync": "SyncChat SyncMine SyncReplyStream",
    "use_cases.accounts": (
        "ChangeEmail ChangePassword ChangeUsername CreateAccount DeleteAccount PasswordPolicy Register StepUp"
    ),
    "use_cases.adding": "AddItems AddMessage UploadConversation",
    "use_cases.administration": (
        "CreateAdmin DeleteUser DisableUser EnableUser FindUser GrantRole ListRoles ListSessionsOfUser "
        "ListUsers RevokeRole RevokeSessionsOfUser"
    ),
    "use_cases.api_keys": "AuthenticateKey CreateApiKey ListApiKeys RevokeApiKey",
    "use_cases.branching": "EditMessage RegenerateReply",
    "use_cases.chat_values": "Asked ChatDefaults ChatOptions Earlier Sent",
    "use_cases.conversations": (
        "CreateConversation DeleteConversation History ListConversations ListCursor ListPage "
        "ReadHistory RenameConversation SwitchBranch"
    ),
    "use_cases.encryption_keys": "CountOldKeys Rotated RotateKeys",
    "use_cases.files": "DeleteFile FileLimits FindFile ListFiles ReadFile UploadFile",
    "use_cases.following": "FollowReply StopReply",
    "use_cases.items": "DescribeConversation ListItems ListPath ReadConversation ReadImage ReadItem",
    "use_cases.model_configs": (
        "Checked CheckModelConfig CreateModelConfig DeleteModelConfig ListModelConfigs UpdateModelConfig"
    ),
    "use_cases.own_data": "ImportConversations Imported",
    "use_cases.own_export": "ExportOwnData OwnThing",
    "use_cases.owners": "ForgetOwner OpenOwner",
    "use_cases.read_import": "OwnConversation OwnImage",
    "use_cases.relay": "FindModel ListModels OfferedModel RelayModel Relayed",
    "use_cases.requests": "DescribeRequest EraseMessage ListRequests ReadRequest Requested",
    "use_cases.search": "SearchConversations SearchCursor SearchPage",
    "use_cases.sending": "SendMessage",
    "use_cases.sessions": "Authenticate ListSessions Refresh RevokeOtherSessions RevokeSession SignIn SignOut",
    "use_cases.user_import": "ImportUsers",
    "wire": "Problem problem",
}
"""The names of each module, which is imported with the first of them: a program pays for what it uses."""
_HOME = {name: f"chatcore.{module}" for module, names in _HOMES.items() for name in names.split()}

if not TYPE_CHECKING:
    __all__ = sorted(_HOME)

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            return import_module("importlib.metadata").version("chatcore")
        if name in _HOME:
            value = globals()[name] = getattr(import_module(_HOME[name]), name)
            return value
        if name in ("errors", "ports", "wire"):
            return import_module(f"chatcore.{name}")
        raise AttributeError(f"module 'chatcore' has no attribute {name!r}")
