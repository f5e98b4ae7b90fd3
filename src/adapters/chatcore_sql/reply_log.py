"""The text of replies that are being written."""

from collections.abc import Sequence
from functools import lru_cache

from sqlalchemy import Select, and_, bindparam, delete, or_, select

from chatcore.entities import MessageId, OwnerId
from chatcore.ports import LogCursor, LogEntry, ReplyLog, TextKind
from chatcore_sql.cuts import packed, unpacked
from chatcore_sql.statements import Statements
from chatcore_sql.tables import reply_log

_r = reply_log.c
_THIS = (_r.user_id == bindparam("owner"), _r.reply_id == bindparam("reply"))
_LAST = 2**31 - 1  # of the column's type
_READ = select(_r.text_offset, _r.kind, _r.text, _r.cuts).where(*_THIS).order_by(_r.text_offset)
_DELETE = delete(reply_log).where(*_THIS)


class SqlReplyLog(ReplyLog):
    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    async def append(self, entries: Sequence[LogEntry]) -> None:
        rows = [
            (entry.user_id, entry.reply_id, entry.start, entry.kind.value, entry.text, packed(entry.cuts))
            for entry in entries
        ]
        await self._statements.insert_or_replace_all(reply_log, rows)

    async def read(self, owner: OwnerId, reply_id: MessageId) -> Sequence[LogEntry]:
        rows = await self._statements.rows(_READ, owner=owner, reply=reply_id)
        return [
            LogEntry(owner, reply_id, offset, TextKind(kind), text, unpacked(cuts)) for offset, kind, text, cuts in rows
        ]

    async def since(self, cursors: Sequence[LogCursor], *, within: int) -> Sequence[LogEntry]:
        if not cursors:
            return []
        rows = await self._statements.rows(_since(_size(len(cursors))), **_numbered(cursors, within))
        found = [
            LogEntry(owner, reply, offset, TextKind(kind), text, unpacked(cuts))
            for owner, reply, offset, kind, text, cuts in rows
        ]
        return sorted(found, key=lambda entry: (entry.reply_id, entry.start))

    async def delete(self, owner: OwnerId, reply_id: MessageId) -> None:
        await self._statements.change(_DELETE, owner=owner, reply=reply_id)


def _size(cursors: int) -> int:
    """The next power of two: a handful of statements serves any number of replies."""
    return 1 << max(cursors - 1, 0).bit_length()


@lru_cache(maxsize=16)
def _since(size: int) -> Select[int, int, int, str, str, bytes | None]:
    places = (
        and_(
            _r.user_id == bindparam(f"owner{number}"),
            _r.reply_id == bindparam(f"reply{number}"),
            _r.text_offset >= bindparam(f"offset{number}"),
            _r.text_offset < bindparam(f"end{number}"),
        )
        for number in range(size)
    )
    return select(_r.user_id, _r.reply_id, _r.text_offset, _r.kind, _r.text, _r.cuts).where(or_(*places))


def _numbered(cursors: Sequence[LogCursor], within: int) -> dict[str, int]:
    values: dict[str, int] = {}
    for number in range(_size(len(cursors))):
        cursor = cursors[min(number, len(cursors) - 1)]  # the last one fills up: a place named twice is one place
        values |= {
            f"owner{number}": cursor.user_id,
            f"reply{number}": cursor.reply_id,
            f"offset{number}": cursor.offset,
            f"end{number}": min(cursor.offset + within, _LAST),
        }
    return values
