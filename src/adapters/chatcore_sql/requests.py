"""What clients of other protocols asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update

from chatcore.entities import MessageId, OwnerId, Request
from chatcore.ports import RequestRepo
from chatcore.storage import StorageLedger, request_size
from chatcore_sql.mapped import Mapped
from chatcore_sql.pages import LIMIT
from chatcore_sql.statements import Statements
from chatcore_sql.tables import LARGEST_ID, Id, requests

_r = requests.c
_MAPPED = Mapped(Request, requests)
_THIS = (_r.user_id == bindparam("owner"), _r.reply_id == bindparam("reply"))
_ADD = insert(requests)
_GET = select(*_MAPPED.columns).where(*_THIS)
_OF_KIND = select(*_MAPPED.columns).where(_r.user_id == bindparam("owner"), _r.kind == bindparam("of_kind"))
_OLDEST = _OF_KIND.where(_r.reply_id > bindparam("after", type_=Id)).order_by(_r.reply_id).limit(LIMIT)
_NEWEST = _OF_KIND.where(_r.reply_id < bindparam("before", type_=Id)).order_by(_r.reply_id.desc()).limit(LIMIT)
_LOCK = _GET.with_for_update()
_CHANGE = update(requests).where(*_THIS)
_DELETE = delete(requests).where(*_THIS)


class SqlRequestRepo(RequestRepo):
    def __init__(self, statements: Statements, ledger: StorageLedger) -> None:
        self._statements = statements
        self._ledger = ledger

    async def add(self, request: Request) -> None:
        await self._statements.insert(_ADD, **asdict(request))
        self._ledger.ask(request.user_id, request_size(request))

    async def get(self, owner: OwnerId, reply_id: MessageId) -> Request | None:
        row = await self._statements.first(_GET, owner=owner, reply=reply_id)
        return _MAPPED.from_row(row) if row else None

    async def list(
        self, owner: OwnerId, kind: str, *, after: MessageId | None, limit: int, newest_first: bool
    ) -> Sequence[Request]:
        if newest_first:
            statement, place = _NEWEST, {"before": LARGEST_ID if after is None else after}
        else:
            statement, place = _OLDEST, {"after": after or 0}
        rows = await self._statements.rows(statement, owner=owner, of_kind=kind, limit=limit, **place)
        return [_MAPPED.from_row(row) for row in rows]

    async def change(self, owner: OwnerId, reply_id: MessageId, body: Mapping[str, Any]) -> bool:
        known = await self._locked(owner, reply_id)
        if known is None:
            return False
        self._ledger.ask(owner, request_size(replace(known, body=body)) - request_size(known))
        return await self._statements.change(_CHANGE, owner=owner, reply=reply_id, body=body) == 1

    async def delete(self, owner: OwnerId, reply_id: MessageId) -> bool:
        known = await self._locked(owner, reply_id)
        if known is None:
            return False
        self._ledger.note(owner, -request_size(known))
        return await self._statements.change(_DELETE, owner=owner, reply=reply_id) == 1

    async def _locked(self, owner: OwnerId, reply_id: MessageId) -> Request | None:
        row = await self._statements.lock(_LOCK, owner=owner, reply=reply_id)
        return _MAPPED.from_row(row) if row else None
