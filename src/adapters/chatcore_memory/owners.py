"""Owners in memory."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from chatcore.entities import OwnerId
from chatcore.errors import Contention
from chatcore.ports import OwnerRepo
from chatcore_memory.state import State, Transaction, without


class MemoryOwners(OwnerRepo):
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def find(self, tenant: str, external_id: str) -> OwnerId | None:
        return await self._transaction.read(lambda state: _named(state, (tenant, external_id)))

    async def name(self, owner: OwnerId) -> tuple[str, str]:
        name = await self._transaction.read(lambda state: state.owners.get(owner))
        return (name[1], name[0]) if name else ("", "")

    async def add(self, tenant: str, external_id: str, *, now: datetime) -> OwnerId:
        owner = OwnerId(self._transaction.new_id())

        def insert(state: State) -> OwnerId:
            if _named(state, (tenant, external_id)) is not None:
                raise Contention
            state.owners[owner] = (tenant, external_id)
            return owner

        return await self._transaction.write(insert)

    async def hold(self, owner: OwnerId) -> bool:
        return await self._transaction.write(lambda state: owner in state.owners)

    async def stored_bytes(self, owner: OwnerId) -> int:
        return await self._transaction.read(lambda state: state.stored[owner])

    async def close(self, owner: OwnerId, *, now: datetime) -> bool:
        def close(state: State) -> bool:
            if owner not in state.owners:
                return False
            _leave(state, owner)
            state.closed.add(owner)
            return True

        return await self._transaction.write(close)

    async def delete_some(self, owner: OwnerId, *, limit: int) -> int:
        def remove(state: State) -> int:
            tables: tuple[dict[Any, Any], ...] = (
                state.messages,
                state.reply_log,
                state.conversations,
                state.closing,
                state.files,
            )
            for table in tables:
                keys: list[Any] = [key for key, thing in table.items() if thing.user_id == owner][:limit]
                for key in keys:
                    del table[key]
                if keys:
                    return len(keys)
            return 0

        return await self._transaction.write(remove)

    async def delete(self, owner: OwnerId) -> bool:
        def remove(state: State) -> bool:
            if owner not in state.owners and owner not in state.closed:
                return False
            _leave(state, owner)
            state.closed.discard(owner)
            state.model_configs = without(state.model_configs, owner)
            state.conversations = without(state.conversations, owner)
            state.closing = without(state.closing, owner)
            state.messages = without(state.messages, owner)
            state.requests = without(state.requests, owner)
            state.files = without(state.files, owner)
            state.file_parts = {key: part for key, part in state.file_parts.items() if key[0] in state.files}
            state.images = {place: images for place, images in state.images.items() if place[0] != owner}
            state.idempotency = {key: named for key, named in state.idempotency.items() if key in state.messages}
            state.reply_log = without(state.reply_log, owner)
            del state.stored[owner]
            state.writers = {key: worker for key, worker in state.writers.items() if key in state.messages}
            return True

        return await self._transaction.write(remove)

    async def closed(self, *, limit: int) -> Sequence[OwnerId]:
        return await self._transaction.read(lambda state: sorted(state.closed)[:limit])


def _named(state: State, name: tuple[str, str]) -> OwnerId | None:
    return next((owner for owner, known in state.owners.items() if known == name), None)


def _leave(state: State, owner: OwnerId) -> None:
    """Nobody finds it, or its account, any more."""
    state.owners.pop(owner, None)
    state.users = {key: user for key, user in state.users.items() if key != owner}
    state.sessions = without(state.sessions, owner)
    state.refresh_tokens = without(state.refresh_tokens, owner)
