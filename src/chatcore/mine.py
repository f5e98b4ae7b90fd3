"""`Mine`: what one user has, for the program that vouches for them."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chatcore.authority import Owner
from chatcore.bounds import check
from chatcore.entities import Conversation, ConversationId, Image, Message, MessageId, ModelConfigId, Role
from chatcore.errors import FieldError
from chatcore.events import Cursor
from chatcore.ports import NO_METADATA, UnitOfWorkFactory
from chatcore.streams import ReplyStream, place
from chatcore.use_cases.chat_values import NO_OPTIONS, ChatOptions, Sent
from chatcore.use_cases.conversations import History, ListCursor, ListPage
from chatcore.use_cases.own_export import OwnThing
from chatcore.use_cases.search import SearchCursor, SearchPage

if TYPE_CHECKING:
    from chatcore.chat import UseCases


@dataclass(frozen=True, slots=True)
class Mine:
    """One user's conversations. Immutable and cheap: take one per request, from `Chat.of`.

    Ids are those of conversations and messages of this user; another's and missing ones are `NotFound` alike. Each
    method raises what its use case declares in `raises`, such as `SendMessage.raises` for `send`, and
    `ValidationFailed` for what is out of bounds. After `Chat.forget` every change raises `Unauthenticated`.
    """

    by: Owner
    use_cases: "UseCases"

    # ---- replies -----------------------------------------------------------------------------------------

    async def send(
        self,
        content: str,
        *,
        to: int | None = None,
        key: str | None = None,
        images: Sequence[Image] = (),
        options: ChatOptions = NO_OPTIONS,
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> Sent:
        """Send a message, and start the model's reply, which continues without readers. Once this returns, both are
        stored.

        `content`: 1 to 200,000 characters; it may be empty if there are images. `images`: at most 10, each of up to 5
        MiB, together 20: PNG, JPEG, WebP or GIF. `to`: a conversation; None starts a new one. `key`: 1 to 255
        characters that make the send unique within 24 hours in its conversation, so it needs `to`: sent again with the
        same content, images, options and metadata, it gives the same message and reply; with others,
        `IdempotencyKeyReused`. `metadata`: at most 16 pairs, stored with the message: names of 1 to 64 characters,
        values up to 512.

        Raise `ConversationBusy` while a reply is in progress in the conversation.
        """
        return await self.use_cases.send_message(
            by=self.by,
            conversation_id=None if to is None else _conversation(to),
            content=content,
            images=images,
            options=options,
            metadata=metadata,
            idempotency_key=key,
        )

    async def edit(
        self,
        conversation: int,
        message: int,
        content: str,
        *,
        images: Sequence[Image] = (),
        options: ChatOptions = NO_OPTIONS,
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> Sent:
        """Send another message in the place of an earlier one of the user's, in a new branch. Otherwise as `send`."""
        return await self.use_cases.edit_message(
            by=self.by,
            conversation_id=_conversation(conversation),
            message_id=_message(message),
            content=content,
            images=images,
            options=options,
            metadata=metadata,
        )

    async def regenerate(
        self, conversation: int, message: int | None = None, *, options: ChatOptions = NO_OPTIONS
    ) -> Sent:
        """Start another reply in a new branch. `message`: the reply, or the message to reply to; None: the last
        reply."""
        return await self.use_cases.regenerate_reply(
            by=self.by,
            conversation_id=_conversation(conversation),
            message_id=None if message is None else _message(message),
            options=options,
        )

    async def reply(self, conversation: int, *, after: Cursor | int | None = 0) -> ReplyStream:
        """Open the conversation's last reply, or that of the cursor, in progress or ended, in whichever process.

        `after`: the code points that the reader has, or an event's `cursor`. The text read before and the text that
        follows are together the stored text. Raise `NotFound` here, before anything is streamed.
        """
        cursor, offset = place(after)
        return await ReplyStream.opened(
            self.use_cases.follow_reply(
                owner=self.by.owner,
                conversation_id=_conversation(conversation),
                reply_id=cursor and cursor.reply_id,
                after=offset,
            )
        )

    async def resume(self, conversation: int, last_event_id: str | None, *, after: int = 0) -> ReplyStream | None:
        """Open a reply as `reply` does, for a browser's `EventSource`. `last_event_id`: the header `Last-Event-ID`,
        which wins over `after`. Return None if nothing follows: answer 204, and the browser does not ask again."""
        events = self.use_cases.follow_reply.resume(
            owner=self.by.owner,
            conversation_id=_conversation(conversation),
            last_event_id=last_event_id,
            after=after,
        )
        first = await anext(events, None)
        return None if first is None else ReplyStream(first, events)

    async def stop(self, conversation: int) -> Message:
        """Stop the reply in progress, in whichever process, and keep its text. Return the stored reply; without one in
        progress, the last reply unchanged."""
        return await self.use_cases.stop_reply(by=self.by, conversation_id=_conversation(conversation))

    # ---- conversations -----------------------------------------------------------------------------------

    async def conversations(self, *, limit: int = 20, offset: int = 0, cursor: ListCursor | None = None) -> ListPage:
        """List conversations, most recently used first. `limit`: 1 to 100. `offset`: up to 1,000,000. `cursor`: `next`
        of the page before, instead of `offset`."""
        return await self.use_cases.list_conversations(owner=self.by.owner, limit=limit, offset=offset, cursor=cursor)

    async def create(
        self, *, title: str | None = None, config: int | None = None, metadata: Mapping[str, str] = NO_METADATA
    ) -> Conversation:
        """Create an empty conversation. `title`: 1 to 200 characters; without one the first message gives it. `config`:
        the model configuration that it uses. `metadata`: as in `send`."""
        config_id = None if config is None else ModelConfigId(_id("config", config))
        return await self.use_cases.create_conversation(by=self.by, title=title, config_id=config_id, metadata=metadata)

    async def history(self, conversation: int, *, limit: int = 50, before: int | None = None) -> History:
        """Return the newest messages of the active branch, or those before the message `before`, oldest first. `limit`:
        1 to 200; a page has at most 4 MiB of text, but at least one message."""
        return await self.use_cases.read_history(
            owner=self.by.owner,
            conversation_id=_conversation(conversation),
            limit=limit,
            before=None if before is None else _message(before),
        )

    async def image(self, conversation: int, message: int, number: int) -> Image:
        """Return a message's image of this number, from 0."""
        return await self.use_cases.read_image(
            owner=self.by.owner,
            conversation_id=_conversation(conversation),
            message_id=_message(message),
            number=_id("number", number),
        )

    async def add(self, conversation: int, role: Role, content: str) -> Message:
        """Append a message to the active branch without asking a model. `content`: 1 to 200,000 characters."""
        return await self.use_cases.add_message(
            by=self.by, conversation_id=_conversation(conversation), role=role, content=content
        )

    async def switch(self, conversation: int, message: int) -> History:
        """Make the branch through a message the active one, and return its newest messages."""
        return await self.use_cases.switch_branch(
            by=self.by, conversation_id=_conversation(conversation), message_id=_message(message)
        )

    async def rename(self, conversation: int, title: str) -> Conversation:
        """Set the title, 1 to 200 characters, which only another rename changes."""
        return await self.use_cases.rename_conversation(
            by=self.by, conversation_id=_conversation(conversation), title=title
        )

    async def delete(self, conversation: int) -> None:
        """Delete a conversation with its messages; a reply in progress is stopped first."""
        await self.use_cases.delete_conversation(by=self.by, conversation_id=_conversation(conversation))

    async def search(self, q: str, *, limit: int = 20, cursor: SearchCursor | None = None) -> SearchPage:
        """Search titles and messages for a text of 1 to 200 characters. `limit`: 1 to 100. `cursor`: `next` of the page
        before; a page may have few hits, or none, while there is a next one."""
        return await self.use_cases.search_conversations(
            owner=self.by.owner, q=q, limit=limit, cursor=cursor or SearchCursor()
        )

    def export(self) -> AsyncGenerator[OwnThing, None]:
        """Yield all that the user has: model configurations, and each conversation before its messages, which are
        before their images. `chatcore.histories.own` writes them as lines that `import_conversations` reads."""
        return self.use_cases.export_own_data(by=self.by)

    # ---- the program's own transaction -------------------------------------------------------------------

    def within(self, unit_of_work: UnitOfWorkFactory) -> "Mine":
        """Return the same user in a transaction of the program's: `me.within(database.within(session))`. Its commit
        stores what is sent, and the reply begins then. Stop a reply, and delete a conversation in which one is being
        written, outside of it: the reply's end would wait for your commit."""
        return Mine(self.by, self.use_cases.within(unit_of_work))


def _conversation(given: int) -> ConversationId:
    return ConversationId(_id("conversation", given))


def _message(given: int) -> MessageId:
    return MessageId(_id("message", given))


def _id(name: str, given: int) -> int:
    """An id of the wrong type is the same error whatever the storage."""
    is_id = type(given) is int
    check(None if is_id else FieldError(name, "must be an id: an integer"))
    return given
