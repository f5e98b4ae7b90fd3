"""What clients of other protocols asked for, in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

from chatcore.entities import MessageId, OwnerId, Request
from chatcore.errors import NotFound
from chatcore.ports import RequestRepo
from chatcore.storage import request_size
from chatcore_memory.state import State, Transaction, owned


class MemoryRequests(RequestRepo):
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def add(self, request: Request) -> None:
        def insert(state: State) -> None:
            if owned(state.conversations, request.user_id, request.conversation_id) is None:
                raise NotFound
            state.requests[request.reply_id] = request
            self._transaction.ledger.ask(request.user_id, request_size(request))

        await self._transaction.write(insert)

    async def get(self, owner: OwnerId, reply_id: MessageId) -> Request | None:
        return await self._transaction.read(lambda state: owned(state.requests, owner, reply_id))

    async def list(
        self, owner: OwnerId, kind: str, *, after: MessageId | None, limit: int, newest_first: bool
    ) -> Sequence[Request]:
        def select(state: State) -> Sequence[Request]:
            theirs = [each for each in state.requests.values() if (each.user_id, each.kind) == (owner, kind)]
            theirs.sort(key=attrgetter("reply_id"), reverse=newest_first)
            if after is not None:
                theirs = [each for each in theirs if (each.reply_id < after) == newest_first and each.reply_id != after]
            return theirs[:limit]

        return await self._transaction.read(select)

    async def change(self, owner: OwnerId, reply_id: MessageId, body: Mapping[str, Any]) -> bool:
        def update(state: State) -> bool:
            known = owned(state.requests, owner, reply_id)
            if known is None:
                return False
            changed = state.requests[reply_id] = replace(known, body=body)
            self._transaction.ledger.ask(owner, request_size(changed) - request_size(known))
            return True

        return await self._transaction.write(update)

    async def delete(self, owner: OwnerId, reply_id: MessageId) -> bool:
        def remove(state: State) -> bool:
            known = owned(state.requests, owner, reply_id)
            if known is None:
                return False
            del state.requests[reply_id]
            self._transaction.ledger.note(owner, -request_size(known))
            return True

        return await self._transaction.write(remove)
