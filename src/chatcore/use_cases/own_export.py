"""Export of all that a user owns, as a stream of entities."""

from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar

from chatcore import audit
from chatcore.authority import ANYTIME, Caller, Owner
from chatcore.endings import LoggedWork, with_logged_text
from chatcore.entities import ConversationId, Message, MessageId, ModelConfig, OwnerId, Session, User, UserId
from chatcore.errors import InsufficientScope, Raises
from chatcore.ports import ConversationRepo, ModelConfigRepo, Node, TokenStore, UnitsOfWork
from chatcore.use_cases.read_import import OwnConversation, OwnImage

T = TypeVar("T")

_PAGE = 100


OwnThing: TypeAlias = User | Session | ModelConfig | OwnConversation | Message | OwnImage


class ExportWork(LoggedWork, Protocol):
    tokens: TokenStore
    conversations: ConversationRepo
    model_configs: ModelConfigRepo


@dataclass(frozen=True, kw_only=True)
class ExportOwnData:
    """Export all that the caller owns: the account, the sessions, the model configurations without their keys, and each
    conversation with the messages of all branches and their images."""

    unit_of_work: UnitsOfWork[ExportWork]
    raises: ClassVar[Raises] = (*ANYTIME, InsufficientScope)

    async def __call__(
        self, *, by: Owner, branches: bool = False, images: bool = True
    ) -> AsyncGenerator[OwnThing, None]:
        """`branches`: each conversation has its `children`. `images`: False leaves them out.

        Read page by page, images one by one, so that a slow reader holds neither memory nor a database connection. A
        conversation is followed by its messages, each after its parent, and a message by its images."""
        by.require(None)
        owner, caller = by.owner, by if isinstance(by, Caller) else None
        audit.record("data_exported", user_id=owner, session_id=caller and caller.session.id)
        parts: list[AsyncGenerator[OwnThing, None]] = [
            self._configs(owner),
            self._conversations(owner, branches, images),
        ]
        if caller is not None:
            yield caller.user
            parts.insert(0, self._sessions(caller.user.id))
        for part in parts:
            async with aclosing(part):
                async for thing in part:
                    yield thing

    def _sessions(self, owner: UserId) -> AsyncGenerator[Session, None]:
        return self._newest_first(
            lambda work, offset: work.tokens.sessions(owner, limit=_PAGE, offset=offset),
            lambda session: (session.login_time, session.id),
        )

    def _configs(self, owner: OwnerId) -> AsyncGenerator[ModelConfig, None]:
        return self._newest_first(
            lambda work, offset: work.model_configs.list(owner, limit=_PAGE, offset=offset), lambda config: config.id
        )

    async def _newest_first(
        self, read: Callable[[ExportWork, int], Awaitable[Sequence[T]]], place: Callable[[T], Any]
    ) -> AsyncGenerator[T, None]:
        """Read page by page; each begins with the last thing of the one before. Where that is missing, a deletion has
        moved the others: read from the beginning again. Yield each thing once."""
        offset, shown, before = 0, None, None
        while True:
            async with self.unit_of_work(read_only=True) as work:
                page = await read(work, offset)
            places = [place(thing) for thing in page]
            if before is not None and before not in places:
                offset, before = 0, None
                continue
            for thing in page:
                if shown is None or place(thing) < shown:
                    shown = place(thing)
                    yield thing
            if len(page) < _PAGE:
                return
            offset, before = offset + len(page) - 1, places[-1]

    async def _conversations(self, owner: OwnerId, branches: bool, images: bool) -> AsyncGenerator[OwnThing, None]:
        after: ConversationId | None = None
        while True:
            async with self.unit_of_work(read_only=True) as work:
                page = await work.conversations.by_id(owner, after=after, limit=_PAGE)
            for conversation in page:
                async with aclosing(self._conversation(owner, conversation.id, branches, images)) as things:
                    async for thing in things:
                        yield thing
            if len(page) < _PAGE:
                return
            after = page[-1].id

    async def _conversation(
        self, owner: OwnerId, conversation_id: ConversationId, branches: bool, images: bool
    ) -> AsyncGenerator[OwnThing, None]:
        """Yield nothing if the conversation was deleted meanwhile."""
        async with self.unit_of_work(read_only=True) as work:
            conversation = await work.conversations.get(owner, conversation_id)
            current = await work.messages.last(owner, conversation_id)
            tree = await work.messages.tree(owner, conversation_id) if branches else ()
        if conversation is not None:
            yield OwnConversation(conversation, current, children=_children(tree))
            async with aclosing(self._messages(owner, conversation_id)) as messages:
                async for message in messages:
                    yield message
                    for number in range(message.images if images else 0):
                        if (image := await self._image(message, number)) is not None:
                            yield image

    async def _image(self, message: Message, number: int) -> OwnImage | None:
        async with self.unit_of_work(read_only=True) as work:
            image = await work.messages.image(message.user_id, message.conversation_id, message.id, number)
        return None if image is None else OwnImage(message.id, number, image)

    async def _messages(self, owner: OwnerId, conversation_id: ConversationId) -> AsyncGenerator[Message, None]:
        """Leave out what follows a message that was added meanwhile, above those that were read."""
        after, shown = None, set[MessageId | None]([None])
        while True:
            async with self.unit_of_work(read_only=True) as work:
                page = await work.messages.by_depth(owner, conversation_id, after=after, limit=_PAGE)
                page = [await with_logged_text(work, message) for message in page]
            if not page:
                return
            for message in page:
                if message.parent_id in shown:
                    shown.add(message.id)
                    yield message
            after = page[-1].id


def _children(tree: Sequence[Node]) -> Mapping[MessageId | None, Sequence[MessageId]]:
    children = defaultdict[MessageId | None, list[MessageId]](list)
    for node in tree:
        children[node.parent_id].append(node.id)
    return children
