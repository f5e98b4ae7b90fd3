"""`Chat`: the product, wired. `async with Chat(...) as chat`, then `await chat.use_cases.send_message(by=…, …)`."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, get_origin, get_type_hints

from chatcore.clock import SystemClock
from chatcore.errors import NotMigrated
from chatcore.hooks import NO_HOOKS, Hooks
from chatcore.issuing import SessionPolicy
from chatcore.mine import Mine
from chatcore.ports import (
    Cipher,
    Clock,
    LLMGateway,
    ModelEndpoint,
    ModelRelay,
    PasswordHasher,
    Store,
    TokenSigner,
    UnitOfWorkFactory,
    UnitsOfWork,
)
from chatcore.rate_limits import UNLIMITED, RateLimits
from chatcore.replies import Replies
from chatcore.shielding import ended
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
from chatcore.use_cases.adding import AddItems, AddMessage, UploadConversation
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
from chatcore.use_cases.api_keys import AuthenticateKey, CreateApiKey, ListApiKeys, RevokeApiKey
from chatcore.use_cases.branching import EditMessage, RegenerateReply
from chatcore.use_cases.chat_values import ChatDefaults
from chatcore.use_cases.conversations import (
    CreateConversation,
    DeleteConversation,
    ListConversations,
    ReadHistory,
    RenameConversation,
    SwitchBranch,
)
from chatcore.use_cases.encryption_keys import CountOldKeys, RotateKeys
from chatcore.use_cases.files import DeleteFile, FileLimits, FindFile, ListFiles, ReadFile, UploadFile
from chatcore.use_cases.following import FollowReply, StopReply
from chatcore.use_cases.items import DescribeConversation, ListItems, ListPath, ReadConversation, ReadImage, ReadItem
from chatcore.use_cases.model_configs import (
    CheckModelConfig,
    CreateModelConfig,
    DeleteModelConfig,
    ListModelConfigs,
    NoCipher,
    UpdateModelConfig,
)
from chatcore.use_cases.own_data import ImportConversations
from chatcore.use_cases.own_export import ExportOwnData
from chatcore.use_cases.owners import ForgetOwner, OpenOwner
from chatcore.use_cases.relay import FindModel, ListModels, RelayModel
from chatcore.use_cases.requests import DescribeRequest, EraseMessage, ListRequests, ReadRequest
from chatcore.use_cases.search import SearchConversations
from chatcore.use_cases.sending import SendMessage
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

LEASE = 5.0
"""Seconds without a sign of life, after which a process is taken for dead."""


class UseCases:
    """Everything a person can do: each use case is listed here, and nowhere else.

    One is made when it is first used, from `parts`: an object for each type that its fields name. What is no part
    and a dataclass is made in the same way; a field that has a default keeps it unless there is a part of its type.
    """

    # Conversations
    list_conversations: ListConversations
    create_conversation: CreateConversation
    read_history: ReadHistory
    rename_conversation: RenameConversation
    switch_branch: SwitchBranch
    search_conversations: SearchConversations
    delete_conversation: DeleteConversation

    # Replies
    add_message: AddMessage
    send_message: SendMessage
    edit_message: EditMessage
    regenerate_reply: RegenerateReply
    follow_reply: FollowReply
    stop_reply: StopReply

    # Conversations and replies in other protocols
    upload_conversation: UploadConversation
    add_items: AddItems
    read_conversation: ReadConversation
    read_image: ReadImage
    describe_conversation: DescribeConversation
    list_items: ListItems
    list_path: ListPath
    read_item: ReadItem
    read_request: ReadRequest
    list_requests: ListRequests
    describe_request: DescribeRequest
    erase_message: EraseMessage

    # Files
    upload_file: UploadFile
    list_files: ListFiles
    find_file: FindFile
    read_file: ReadFile
    delete_file: DeleteFile

    # Model endpoints
    list_model_configs: ListModelConfigs
    create_model_config: CreateModelConfig
    update_model_config: UpdateModelConfig
    check_model_config: CheckModelConfig
    delete_model_config: DeleteModelConfig

    # Calls that pass through
    list_models: ListModels
    find_model: FindModel
    relay_model: RelayModel

    # Accounts
    register: Register
    create_account: CreateAccount
    change_username: ChangeUsername
    change_email: ChangeEmail
    change_password: ChangePassword
    step_up: StepUp
    delete_account: DeleteAccount
    export_own_data: ExportOwnData
    import_conversations: ImportConversations

    # Owners of an embedding program
    open_owner: OpenOwner
    forget_owner: ForgetOwner

    # Sessions
    sign_in: SignIn
    refresh: Refresh
    authenticate: Authenticate
    sign_out: SignOut
    list_sessions: ListSessions
    revoke_session: RevokeSession
    revoke_other_sessions: RevokeOtherSessions

    # Personal API keys
    list_api_keys: ListApiKeys
    create_api_key: CreateApiKey
    revoke_api_key: RevokeApiKey
    authenticate_key: AuthenticateKey

    # Administration
    create_admin: CreateAdmin
    find_user: FindUser
    list_users: ListUsers
    list_roles: ListRoles
    list_sessions_of_user: ListSessionsOfUser
    disable_user: DisableUser
    enable_user: EnableUser
    delete_user: DeleteUser
    grant_role: GrantRole
    revoke_role: RevokeRole
    revoke_sessions_of_user: RevokeSessionsOfUser
    import_users: ImportUsers
    rotate_keys: RotateKeys
    count_old_keys: CountOldKeys

    def __init__(self, parts: Mapping[Any, object]) -> None:
        self._given = parts
        self._parts = dict(parts)

    def within(self, unit_of_work: UnitOfWorkFactory) -> "UseCases":
        """Return the same use cases, in other units of work."""
        return UseCases({**self._given, UnitOfWorkFactory: unit_of_work})

    if not TYPE_CHECKING:  # to a type checker the list above is complete

        def __getattr__(self, name: str) -> object:
            if name not in USE_CASES:
                raise AttributeError(f"There is no use case {name!r}.")
            return self._part(USE_CASES[name])

    def _part(self, kind: Any) -> object:
        if kind not in self._parts:
            self._parts[kind] = kind(**{name: self._part(needed) for name, needed in self._needs(kind)})
        return self._parts[kind]

    def _needs(self, kind: Any) -> Iterator[tuple[str, Any]]:
        types = get_type_hints(kind)
        for one in fields(kind):
            needed = types[one.name]
            if get_origin(needed) is UnitsOfWork:
                needed = UnitOfWorkFactory  # which has all repositories
            there = needed in self._parts
            if not one.init or (_has_default(one) and not there):
                continue
            if not there and not is_dataclass(needed):
                raise LookupError(f"{kind.__name__} needs {needed.__name__}, which is not among the parts.")
            yield one.name, needed


USE_CASES: Mapping[str, Any] = get_type_hints(UseCases)
"""Each use case's class, by the name of its attribute."""


def _has_default(one: Field[Any]) -> bool:
    return one.default is not MISSING or one.default_factory is not MISSING


class Chat:
    """Durable chat in another program. Open it once per process, with the program, and take `Mine` for each request:

    async with Chat(store=Database("sqlite:///chat.db"), gateway=OpenAIGateway(), model=model) as chat:
        me = await chat.of("alice")
        sent = await me.send("Hello")
        async for text in (await me.reply(sent.conversation_id)).text():
            print(text)
    """

    def __init__(
        self,
        *,
        store: Store,
        gateway: LLMGateway,
        model: ModelEndpoint | None = None,
        hooks: Hooks = NO_HOOKS,
        clock: Clock | None = None,
        cipher: Cipher | None = None,
        limits: RateLimits = UNLIMITED,
        file_limits: FileLimits | None = None,
        defaults: ChatDefaults | None = None,
        migrate: bool = True,
        grace: float = 20.0,
        lease: float | None = None,
        passwords: PasswordHasher | None = None,
        signer: TokenSigner | None = None,
        password_policy: PasswordPolicy | None = None,
        session_policy: SessionPolicy | None = None,
    ) -> None:
        """`store`, and `gateway` if it is a context manager, are opened and closed with the chat. `model`: the endpoint
        for users without one of their own; it replaces `defaults.model`.

        `cipher` seals and opens users' own API keys; without one they have no endpoints of their own. `migrate`: bring
        the schema up to date on opening; if False, raise `NotMigrated` where it is not. `grace`: seconds for replies in
        progress on closing; what is left then ends as `interrupted`. `lease`: seconds without a sign of life after
        which other processes take this one for dead, the same in all of them; by default 5 where the store is shared,
        else none.

        `passwords`, `signer` and the policies are for accounts of chatcore's own: without them the use cases that need
        them raise `LookupError`.
        """
        clock = clock or SystemClock()
        defaults = defaults or ChatDefaults()
        self._store = store
        self._gateway = gateway
        self._migrate = migrate
        self._replies = Replies(
            unit_of_work=store.unit_of_work,
            gateway=gateway,
            clock=clock,
            grace=grace,
            lease=lease or (LEASE if store.is_shared else None),
            hooks=hooks,
        )
        self._sweep = ExpirySweep(unit_of_work=store.unit_of_work, clock=clock)
        self._open = AsyncExitStack()
        self._is_open = False
        parts = {
            UnitOfWorkFactory: store.unit_of_work,
            LLMGateway: gateway,
            ModelRelay: gateway if isinstance(gateway, ModelRelay) else None,
            Hooks: hooks,
            Cipher: cipher or NoCipher(),
            PasswordHasher: passwords,
            TokenSigner: signer,
            Clock: clock,
            ChatDefaults: defaults if model is None else replace(defaults, model=model),
            PasswordPolicy: password_policy,
            SessionPolicy: session_policy,
            RateLimits: limits,
            FileLimits: file_limits or FileLimits(),
            Replies: self._replies,
        }
        self.use_cases: UseCases = UseCases({kind: part for kind, part in parts.items() if part is not None})

    async def __aenter__(self) -> Self:
        """Open the store and the gateway, end the replies of dead processes, and start the sweep. Raise `Unavailable`,
        `NotMigrated`."""
        if self._is_open:
            raise RuntimeError("This Chat is open already.")
        async with AsyncExitStack() as opened:
            await opened.enter_async_context(self._store)
            if self._migrate:
                await self._store.migrate()
            elif not await self._store.is_migrated():
                raise NotMigrated
            if isinstance(self._gateway, AbstractAsyncContextManager):
                await opened.enter_async_context(self._gateway)
            warming = asyncio.create_task(self._gateway.warm(), name="chatcore gateway")
            opened.push_async_callback(ended, warming)
            await opened.enter_async_context(self._replies)
            await opened.enter_async_context(self._sweep)
            self._open = opened.pop_all()
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the replies in progress `grace` seconds to end, and close what was opened."""
        self._is_open = False
        await self._open.aclose()

    async def of(self, user: str, *, tenant: str = "") -> Mine:
        """Return what a user of the program has. `user`: the program's own id, 1 to 255 characters, compared exactly;
        it needs no registration. `tenant`: up to 255 characters; the same id in two tenants is two users. Raise
        `ValidationFailed`, `Unavailable`."""
        if not self._is_open:
            raise RuntimeError("This Chat is not open: async with chat.")
        return Mine(await self.use_cases.open_owner(user=user, tenant=tenant), self.use_cases)

    async def forget(self, user: str, *, tenant: str = "") -> bool:
        """Stop the user's replies, and delete all that they have. Return False if there is no such user. Raise
        `ValidationFailed`, `Unavailable`."""
        return await self.use_cases.forget_owner(user=user, tenant=tenant)

    async def abandon(self) -> None:
        """Close as the process's death would: replies in progress stay as they were stored, and another process ends
        them as `interrupted`. For tests (`chatcore_testing.kill`)."""
        await self._replies.abandon()
        await self._open.aclose()

    def close_readers(self) -> None:
        """End all open streams and all later ones: each raises `Unavailable`, and its reader reads on from its cursor
        elsewhere. Replies continue. Servers wait for open streams before they close anything: call it at the first
        SIGTERM."""
        self._replies.close_readers()
