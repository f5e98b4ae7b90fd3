"""Owners, and the deletion of all that one owns."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import BindParameter, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from chatcore.entities import OwnerId, storable
from chatcore.errors import Contention
from chatcore.ports import OwnerRepo
from chatcore_sql.dialects.mysql import BY_KEY, by_index
from chatcore_sql.functions import InTurn, InTurnShared
from chatcore_sql.pages import LIMIT, newest_first
from chatcore_sql.statements import Statements
from chatcore_sql.storage import stored_bytes
from chatcore_sql.tables import (
    LARGEST_ID,
    Id,
    conversations,
    files,
    messages,
    owners,
    reply_log,
    user_storage,
    users,
)

AT_ONCE = 500  # rows to find with one statement; for a list of 1,000 MariaDB reads the whole table

_o = owners.c
_c = conversations.c
_m = messages.c
_r = reply_log.c
_f = files.c
_OPEN = (_o.id == bindparam("owner"), _o.closed_at.is_(None))

_ADD = insert(owners)
_ADD_STORAGE = insert(user_storage)
_FIND = select(_o.id).where(_o.tenant == bindparam("tenant"), _o.external_id == bindparam("external_id"))
_NAME = select(_o.external_id, _o.tenant).where(_o.id == bindparam("owner"))
_IN_TURN = InTurn(bindparam("owner", type_=Id))
_HOLD = select(_o.id).where(*_OPEN, InTurnShared(bindparam("owner", type_=Id))).with_for_update(read=True)
_LOCK = select(_o.id).where(_o.id == bindparam("owner")).with_for_update()
_LOCK_ACCOUNT = select(users.c.id).where(users.c.id == bindparam("owner"), _IN_TURN).with_for_update()
_CLOSE = update(owners).where(*_OPEN).values(tenant=None, external_id=None).with_hint(**BY_KEY)
_CLOSED = select(_o.id).where(_o.closed_at.is_not(None)).order_by(_o.closed_at).limit(LIMIT)
_DELETE = delete(owners).where(_o.id == bindparam("owner"))
_DELETE_ACCOUNT = delete(users).where(users.c.id == bindparam("owner"), _IN_TURN)
_DELETE_LOG = delete(reply_log).where(_r.user_id == bindparam("owner"))
_CONVERSATIONS = select(_c.id).where(_c.user_id == bindparam("owner")).order_by(_c.id)
_LOCK_CONVERSATIONS = (
    select(_c.id)
    .where(_c.user_id == bindparam("owner"), _c.id.in_(bindparam("conversations", expanding=True)))
    .with_hint(conversations, **BY_KEY)
    .with_for_update()
)
# First looked for, then deleted by key: a range that is deleted locks what lies beside it.
_SOME_MESSAGES = newest_first(
    select(_m.id).with_hint(messages, **by_index("ix_messages_user_id_id")),
    {_m.user_id: bindparam("owner")},
    _m.id,
).limit(LIMIT)
_SOME_CONVERSATIONS = newest_first(
    select(_c.id).with_hint(conversations, **by_index("uq_conversations_user_id_id")),
    {_c.user_id: bindparam("owner")},
    _c.id,
).limit(LIMIT)
_SOME_FILES = newest_first(
    select(_f.id).with_hint(files, **by_index("ix_files_user_id_id")), {_f.user_id: bindparam("owner")}, _f.id
).limit(LIMIT)
_SOME_LOG = select(_r.reply_id).where(_r.user_id == bindparam("owner")).distinct().limit(LIMIT)
_THESE: BindParameter[int] = bindparam("these", expanding=True)
# With the part of a batch that goes at once: for each conversation PostgreSQL looks for its messages once more, among
# the entries of those that are just deleted.
_DELETIONS = (
    (1, _SOME_MESSAGES, delete(messages).where(_m.user_id == bindparam("owner"), _m.id.in_(_THESE))),
    (1, _SOME_LOG, delete(reply_log).where(_r.user_id == bindparam("owner"), _r.reply_id.in_(_THESE))),
    (20, _SOME_CONVERSATIONS, delete(conversations).where(_c.user_id == bindparam("owner"), _c.id.in_(_THESE))),
    (500, _SOME_FILES, delete(files).where(_f.user_id == bindparam("owner"), _f.id.in_(_THESE))),
)


async def add_owner(statements: Statements, **values: object) -> OwnerId:
    """Store an owner, who has nothing yet."""
    owner = OwnerId(await statements.insert(_ADD, **values))
    await statements.insert(_ADD_STORAGE, user_id=owner, stored_bytes=0)
    return owner


class SqlOwnerRepo(OwnerRepo):
    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    async def find(self, tenant: str, external_id: str) -> OwnerId | None:
        if storable(tenant + external_id) != tenant + external_id:
            return None
        row = await self._statements.first(_FIND, tenant=tenant, external_id=external_id)
        return OwnerId(row[0]) if row else None

    async def name(self, owner: OwnerId) -> tuple[str, str]:
        row = await self._statements.first(_NAME, owner=owner)
        return (row[0] or "", row[1] or "") if row else ("", "")

    async def add(self, tenant: str, external_id: str, *, now: datetime) -> OwnerId:
        try:
            return await add_owner(self._statements, tenant=tenant, external_id=external_id, created_at=now)
        except IntegrityError:
            raise Contention from None  # the database's message has the id in it

    async def hold(self, owner: OwnerId) -> bool:
        return await self._statements.lock(_HOLD, owner=owner) is not None

    async def stored_bytes(self, owner: OwnerId) -> int:
        return await stored_bytes(self._statements, owner) or 0

    async def close(self, owner: OwnerId, *, now: datetime) -> bool:
        await self._statements.change(_DELETE_ACCOUNT, owner=owner)  # first, as `TokenStore.hold` takes it
        return await self._statements.change(_CLOSE, owner=owner, closed_at=now) == 1

    async def delete_some(self, owner: OwnerId, *, limit: int) -> int:
        for part, some, deletion in _DELETIONS:
            page = {"before": LARGEST_ID, "limit": -(-limit // part)}
            rows = await self._statements.rows(some, owner=owner, **page)
            if keys := sorted(row[0] for row in rows):
                await self._statements.change(deletion, owner=owner, these=keys)
                return len(keys)
        return 0

    async def delete(self, owner: OwnerId) -> bool:
        await self._statements.lock(_LOCK_ACCOUNT, owner=owner)  # first, as `TokenStore.hold` takes it
        await self._statements.lock(_LOCK, owner=owner)
        await self._lock_conversations(owner)
        deleted = await self._statements.change(_DELETE, owner=owner)  # foreign keys take along all but the log
        await self._statements.change(_DELETE_LOG, owner=owner)
        return deleted == 1

    async def closed(self, *, limit: int) -> Sequence[OwnerId]:
        return [OwnerId(row[0]) for row in await self._statements.rows(_CLOSED, limit=limit)]

    async def _lock_conversations(self, owner: OwnerId) -> None:
        """So that all is taken in the order in which those who write and end replies take it: the conversation, then
        its owner and its index entries, then the log. Else the two wait for each other."""
        ids = [row[0] for row in await self._statements.rows(_CONVERSATIONS, owner=owner)]
        for start in range(0, len(ids), AT_ONCE):
            chunk = ids[start : start + AT_ONCE]
            await self._statements.lock(_LOCK_CONVERSATIONS, owner=owner, conversations=chunk)
