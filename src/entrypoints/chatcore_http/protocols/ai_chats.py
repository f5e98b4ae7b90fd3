"""What the AI SDK's clients do in a chat, over the use cases: send, edit, regenerate, resume, stop, read."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from chatcore import (
    ChatOptions,
    Conversation,
    EditMessage,
    FollowReply,
    ListItems,
    Message,
    ModelConfigId,
    Owner,
    OwnerId,
    ReadConversation,
    RegenerateReply,
    ReplyEvent,
    Role,
    SendMessage,
    Status,
    StopReply,
)
from chatcore.entities import MessageId
from chatcore.errors import FieldError, NotFound, ValidationFailed
from chatcore.wire import Json
from chatcore_http.protocols.ai_sdk import Chat, message_id, question_of, reply_of, ui_message
from chatcore_http.protocols.questions import Question

CLIENT_ID = "client_message_id"
"""The metadata of a user's message with the id that the client gave it."""
CALLED = {**dict.fromkeys(("content", "images", "metadata", "idempotency_key"), "messages"), "client_id": "id"}
"""What clients call a message's parts."""
_PAGE, _PAGES = 100, 10
_MISSING = "There is no such message."
_PLACEHOLDER = "DEFAULT_THREAD_ID"
"""Of older versions of assistant-ui, for each of its chats."""


@dataclass(frozen=True, kw_only=True)
class AiChats:
    """A chat is the conversation that its client has named (`Conversation.client_id`)."""

    send_message: SendMessage
    edit_message: EditMessage
    regenerate_reply: RegenerateReply
    follow_reply: FollowReply
    stop_reply: StopReply
    read_conversation: ReadConversation
    list_items: ListItems

    async def ask(self, chat: Chat, by: Owner) -> Message:
        """Return the reply, in progress. A message of the client's is sent once, whatever is repeated."""
        if chat.id == _PLACEHOLDER:
            raise ValidationFailed(
                [FieldError("id", "is assistant-ui's placeholder: update it, or send the thread's id")]
            )
        options = ChatOptions(config_id=None if chat.config_id is None else ModelConfigId(chat.config_id))
        if chat.trigger == "regenerate-message":
            return await self._regenerate(chat, by, options)
        question = await question_of(chat)
        if chat.message_id is not None and (earlier := await self._earlier(chat.id, chat.message_id, by.owner)):
            return await self._ask_again(earlier, question, by, options)
        sent = await self.send_message(
            by=by,
            conversation_id=None,
            client_id=chat.id,
            content=question.text,
            images=question.images,
            options=options,
            metadata=_named(question),
            idempotency_key=question.id,
        )
        return sent.reply

    async def active(self, chat_id: str, owner: OwnerId) -> AsyncGenerator[ReplyEvent, None] | None:
        """Return the events of the reply in progress, from its beginning; None if there is none."""
        with suppress(NotFound):
            chat = await self.read_conversation(owner=owner, conversation_id=chat_id)
            if chat.writing_reply_id is not None:
                return self._events(chat, chat.writing_reply_id)
        return None

    def events_of(self, reply: Message) -> AsyncGenerator[ReplyEvent, None]:
        return self.follow_reply(
            owner=reply.user_id, conversation_id=reply.conversation_id, reply_id=reply.id, numbered=True
        )

    async def stop(self, chat_id: str, by: Owner) -> Json:
        """Return the last message, stopped or ended before."""
        chat = await self.read_conversation(owner=by.owner, conversation_id=chat_id)
        return ui_message(await self.stop_reply(by=by, conversation_id=chat.id))

    async def messages(self, chat_id: str, owner: OwnerId, *, limit: int, before: str | None) -> Json:
        """Return the newest messages older than `before`, oldest first, without the reply in progress, which the client
        resumes."""
        chat = await self.read_conversation(owner=owner, conversation_id=chat_id)
        after = None if before is None else (await self._find(chat, before)).id
        page = await self.list_items(owner=owner, conversation_id=chat.id, after=after, limit=limit)
        shown = [_shown(message) for message in reversed(page.items) if message.status is not Status.WRITING]
        return {"messages": shown, "hasMore": page.has_more}

    def _events(self, chat: Conversation, reply_id: MessageId) -> AsyncGenerator[ReplyEvent, None]:
        return self.follow_reply(owner=chat.user_id, conversation_id=chat.id, reply_id=reply_id, numbered=True)

    async def _regenerate(self, chat: Chat, by: Owner, options: ChatOptions) -> Message:
        conversation = await self.read_conversation(owner=by.owner, conversation_id=chat.id)
        named = None if chat.message_id is None else (await self._find(conversation, chat.message_id)).id
        sent = await self.regenerate_reply(by=by, conversation_id=conversation.id, message_id=named, options=options)
        return sent.reply

    async def _ask_again(self, earlier: Message, question: Question, by: Owner, options: ChatOptions) -> Message:
        """An earlier message that is sent as it was wants another reply; with another text or images it is an edit."""
        if earlier.role is not Role.USER:
            raise NotFound(_MISSING)
        if earlier.content == question.text and earlier.images == len(question.images):
            sent = await self.regenerate_reply(
                by=by, conversation_id=earlier.conversation_id, message_id=earlier.id, options=options
            )
        else:
            sent = await self.edit_message(
                by=by,
                conversation_id=earlier.conversation_id,
                message_id=earlier.id,
                content=question.text,
                images=question.images,
                options=options,
                metadata=_named(question),
            )
        return sent.reply

    async def _earlier(self, chat_id: str, name: str, owner: OwnerId) -> Message | None:
        """Return a message of the chat; None if it was never stored, as after a refusal."""
        try:
            return await self._find(await self.read_conversation(owner=owner, conversation_id=chat_id), name)
        except NotFound:
            return None

    async def _find(self, chat: Conversation, name: str) -> Message:
        """Look among the last messages of the active branch, which the client shows."""
        after, number = None, reply_of(name)
        for _ in range(_PAGES):
            page = await self.list_items(owner=chat.user_id, conversation_id=chat.id, after=after, limit=_PAGE)
            for message in page.items:
                if message.id == number or message.metadata.get(CLIENT_ID) == name:
                    return message
            if not page.has_more or not page.items:
                break
            after = page.items[-1].id
        raise NotFound(_MISSING)


def _named(question: Question) -> Mapping[str, str]:
    return {CLIENT_ID: question.id}


def _shown(message: Message) -> Json:
    """Under the id that the client knows."""
    return ui_message(message) | {"id": message.metadata.get(CLIENT_ID) or message_id(message.id)}
