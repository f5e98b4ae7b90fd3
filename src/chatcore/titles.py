"""Conversations that the model titles, beside its first reply."""

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass, replace

from chatcore.entities import MAX_TITLE, title_of
from chatcore.errors import ChatcoreError
from chatcore.hooks import NO_HOOKS, Hooks, stream
from chatcore.live_reply import LiveReply
from chatcore.ports import LLMGateway, ModelEndpoint, Prompt, Purpose, Turn, UnitOfWorkFactory
from chatcore.shielding import retry_on_contention, shielded

_log = logging.getLogger("chatcore.replies")
_TITLE_TIMEOUT = 30.0  # seconds


@dataclass(frozen=True)
class Titles:
    unit_of_work: UnitOfWorkFactory
    gateway: LLMGateway
    hooks: Hooks = NO_HOOKS

    async def give(self, live: LiveReply, endpoint: ModelEndpoint, prompt: Prompt, turn: Turn) -> None:
        """Ask for a title with one short call. If that fails, the conversation keeps the title that it has."""
        try:
            async with asyncio.timeout(_TITLE_TIMEOUT):
                title = await self._answer(endpoint, prompt, replace(turn, purpose=Purpose.TITLE))
            if title:
                await shielded(self._store(live, title))
        except (ChatcoreError, TimeoutError) as failure:
            _log.info("no title for conversation %d: %s", live.reply.conversation_id, type(failure).__name__)
        except Exception:
            _log.exception("no title for conversation %d: internal error, not the model's", live.reply.conversation_id)

    async def _answer(self, endpoint: ModelEndpoint, prompt: Prompt, turn: Turn) -> str:
        answer = ""
        async with aclosing(stream(self.hooks, self.gateway, endpoint, prompt, turn)) as deltas:
            async for delta in deltas:
                if delta.reasoned:
                    answer = ""
                if len(answer) < MAX_TITLE:  # a model that chats on is heard out, but not remembered
                    answer += delta.text
        return title_of(answer)

    @retry_on_contention
    async def _store(self, live: LiveReply, title: str) -> None:
        async with self.unit_of_work() as work:
            stored = await work.conversations.set_title(live.reply.user_id, live.reply.conversation_id, title)
            await work.commit()
        if stored:
            live.titled(title)
