"""Replies as clients of other protocols know them: each with its question and with what was asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from chatcore.authority import ANYTIME, CHANGING, Owner, acting
from chatcore.bounds import METADATA, Bounds, Range, need
from chatcore.endings import LoggedWork, with_logged_text
from chatcore.entities import ConversationId, Message, MessageId, OwnerId, Page, Request, Scope, Status
from chatcore.errors import ConversationBusy, NotFound, Raises, StorageFull, ValidationFailed
from chatcore.ports import NO_METADATA, PAGE_BYTES, AuthorityWork, Clock, MessageRepo, RequestRepo, UnitsOfWork
from chatcore.shielding import retry_on_contention
from chatcore.texts import bytes_of

_MISSING = "There is no such reply."
_PAGE, _PAGES = 100, 10
_LIMIT = Bounds(limit=Range(1, 100))


class ReadingWork(LoggedWork, Protocol):
    requests: RequestRepo


class RequestWork(AuthorityWork, Protocol):
    messages: MessageRepo
    requests: RequestRepo


@dataclass(frozen=True, slots=True)
class Requested:
    """`question`: the message that the reply answers. `reply`: with the text that it has so far."""

    request: Request
    question: Message
    reply: Message


@dataclass(frozen=True, kw_only=True)
class ReadRequest:
    """Return a reply that was asked for in another protocol, with its question and its request."""

    unit_of_work: UnitsOfWork[ReadingWork]
    raises: ClassVar[Raises] = (*ANYTIME, NotFound)

    async def __call__(
        self, *, owner: OwnerId, conversation_id: ConversationId, reply_id: MessageId, kind: str
    ) -> Requested:
        async with self.unit_of_work(read_only=True) as work:
            request = await work.requests.get(owner, reply_id)
            if request is None or request.kind != kind or request.conversation_id != conversation_id:
                raise NotFound(_MISSING)
            return await _requested(work, request)


@dataclass(frozen=True, kw_only=True)
class ListRequests:
    """List the replies of one kind, by their ids. `after`: the last one of the page before. `model`, `metadata`: only
    those that were asked for with this model and these pairs; 1,000 are looked at for a page, which may have fewer than
    its `limit` though others follow. A page has at most 4 MiB of text, but at least one reply if there is one."""

    unit_of_work: UnitsOfWork[ReadingWork]
    bounds: ClassVar[Bounds] = _LIMIT
    raises: ClassVar[Raises] = (*ANYTIME, ValidationFailed)

    async def __call__(
        self,
        *,
        owner: OwnerId,
        kind: str,
        model: str | None = None,
        metadata: Mapping[str, str] = NO_METADATA,
        after: MessageId | None = None,
        limit: int = 20,
        newest_first: bool = False,
    ) -> Page[Requested]:
        self.bounds.check(limit=limit)
        wanted = _Wanted(model, metadata)
        found = list[Request]()
        async with self.unit_of_work(read_only=True) as work:
            for _ in range(_PAGES):
                page = await work.requests.list(owner, kind, after=after, limit=_PAGE, newest_first=newest_first)
                found += filter(wanted.has, page)
                if len(found) > limit or len(page) < _PAGE:
                    return await _page(work, found[:limit], more=len(found) > limit)
                after = page[-1].reply_id
            return await _page(work, found, more=True)


@dataclass(frozen=True, slots=True)
class _Wanted:
    model: str | None
    metadata: Mapping[str, str]

    def has(self, request: Request) -> bool:
        if self.model is not None and request.body.get("model") != self.model:
            return False
        return self.metadata.items() <= (request.body.get("metadata") or {}).items()


async def _page(work: ReadingWork, requests: Sequence[Request], *, more: bool) -> Page[Requested]:
    items, size = list[Requested](), 0
    for request in requests:
        item = await _requested(work, request)
        size += bytes_of(item.question) + bytes_of(item.reply)
        if items and size > PAGE_BYTES:
            return Page(items, has_more=True)
        items.append(item)
    return Page(items, has_more=more)


@dataclass(frozen=True, kw_only=True)
class DescribeRequest:
    """Set the metadata of a reply that was asked for in another protocol."""

    unit_of_work: UnitsOfWork[RequestWork]
    clock: Clock
    bounds: ClassVar[Bounds] = Bounds(metadata=METADATA)
    raises: ClassVar[Raises] = (*CHANGING, ValidationFailed, NotFound, StorageFull)

    @retry_on_contention
    async def __call__(self, *, by: Owner, reply_id: MessageId, kind: str, metadata: Mapping[str, str]) -> None:
        need(metadata=metadata)
        self.bounds.check(metadata=metadata)
        async with acting(self.unit_of_work, by, now=self.clock.now(), scope=Scope.CHAT) as work:
            request = await work.requests.get(by.owner, reply_id)
            if request is None or request.kind != kind:
                raise NotFound(_MISSING)
            body: Mapping[str, Any] = {**request.body, "metadata": dict(metadata)}
            await work.requests.change(by.owner, reply_id, body)
            await work.commit()


@dataclass(frozen=True, kw_only=True)
class EraseMessage:
    """Delete what a message says, for good; its place in the conversation stays, so that its branches do. Of a reply
    that was asked for in another protocol the request is deleted, too. `with_question`: and the message that it
    answers, unless there are other replies to that."""

    unit_of_work: UnitsOfWork[RequestWork]
    clock: Clock
    raises: ClassVar[Raises] = (*CHANGING, NotFound, ConversationBusy)

    @retry_on_contention
    async def __call__(
        self, *, by: Owner, conversation_id: ConversationId, message_id: MessageId, with_question: bool = False
    ) -> None:
        """Raise `ConversationBusy` for a reply in progress."""
        async with acting(self.unit_of_work, by, now=self.clock.now(), scope=Scope.CHAT) as work:
            message = await work.messages.get(by.owner, conversation_id, message_id)
            if message is None or message.status is Status.DELETED:
                raise NotFound("There is no such message.")
            if not await work.messages.erase(by.owner, conversation_id, message_id):
                raise ConversationBusy
            await work.requests.delete(by.owner, message_id)
            if with_question and message.parent_id is not None and message.siblings == (message_id,):
                await work.messages.erase(by.owner, conversation_id, message.parent_id)
            await work.commit()


async def _requested(work: ReadingWork, request: Request) -> Requested:
    owner, conversation_id = request.user_id, request.conversation_id
    reply = await work.messages.get(owner, conversation_id, request.reply_id)
    question = None
    if reply is not None and reply.parent_id is not None:
        question = await work.messages.get(owner, conversation_id, reply.parent_id)
    if reply is None or question is None:
        raise NotFound(_MISSING)
    return Requested(request, question, await with_logged_text(work, reply))
