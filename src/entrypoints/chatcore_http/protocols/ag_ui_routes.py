"""/ag-ui: runs of AG-UI."""

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from dishka.integrations.litestar import FromDishka
from litestar import Response, Router, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from chatcore import (
    FollowReply,
    ListItems,
    Message,
    Owner,
    OwnerId,
    ReadConversation,
    RegenerateReply,
    Role,
    SendMessage,
    SessionWatch,
)
from chatcore.errors import NotFound
from chatcore_http.protocols.ag_ui import Run, RunEvents, question_of
from chatcore_http.protocols.ai_chats import CLIENT_ID
from chatcore_http.protocols.broken_streams import ending_of
from chatcore_http.routing import private_router
from chatcore_http.streams import Stream

_RUN_ID = "client_run_id"
"""The metadata of a user's message with the id of the run that sent it."""
_CALLED = {
    **dict.fromkeys(("content", "images", "metadata"), "messages"),
    "idempotency_key": "runId",
    "client_id": "threadId",
}


@dataclass(frozen=True, kw_only=True)
class Runs:
    """A thread is the conversation that its client has named (`Conversation.client_id`)."""

    send_message: SendMessage
    regenerate_reply: RegenerateReply
    follow_reply: FollowReply
    read_conversation: ReadConversation
    list_items: ListItems
    watch: SessionWatch

    async def ask(self, run: Run, by: Owner) -> Message:
        """Return the reply, in progress. A run is answered once; another run with the same message wants another
        reply."""
        question = await question_of(run)
        asked = await self._last_question(run.thread_id, by.owner)
        names = {CLIENT_ID: question.id, _RUN_ID: run.run_id}
        if asked and asked.metadata.get(CLIENT_ID) == question.id and asked.metadata.get(_RUN_ID) != run.run_id:
            sent = await self.regenerate_reply(by=by, conversation_id=asked.conversation_id, message_id=asked.id)
        else:
            sent = await self.send_message(
                by=by,
                conversation_id=None,
                client_id=run.thread_id,
                content=question.text,
                images=question.images,
                metadata=names,
                idempotency_key=run.run_id,
            )
        return sent.reply

    async def _last_question(self, thread_id: str, owner: OwnerId) -> Message | None:
        with suppress(NotFound):
            thread = await self.read_conversation(owner=owner, conversation_id=thread_id)
            page = await self.list_items(owner=owner, conversation_id=thread.id, limit=2)
            return next((message for message in page.items if message.role is Role.USER), None)
        return None

    def stream(self, run: Run, reply: Message, by: Owner) -> Response[Any]:
        events = self.follow_reply(
            owner=reply.user_id, conversation_id=reply.conversation_id, reply_id=reply.id, numbered=True
        )
        run_events = RunEvents(thread_id=run.thread_id, run_id=run.run_id, tools=bool(run.tools))
        alive, failed = self.watch.while_valid(by), partial(ending_of, run_events)
        return Stream(events, alive, run_events.encode, failed=failed, media_type="text/event-stream")


@post("/ag-ui", status_code=200, called=_CALLED)
async def run(data: JSONBody[Run], caller: NamedDependency[Owner], runs: FromDishka[Runs]) -> Response[Any]:
    return runs.stream(data, await runs.ask(data, caller), caller)


def routers(max_body_bytes: int) -> list[Router]:
    return [
        private_router("", [run], tag="ag-ui", keys=True, include_in_schema=False, request_max_body_size=max_body_bytes)
    ]
