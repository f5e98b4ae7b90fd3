"""How text is found in a column: a bounded number of the owner's own rows is read, and looked at beside the event loop.

No database does that in a time that grows with the text alone: their comparisons may take the product of both lengths.
"""

import asyncio
from collections.abc import Sequence

from chatcore.ports import Matches
from chatcore.texts import Needle
from chatcore_sql.statements import Row


async def find(rows: Sequence[Row], text: str, *, limit: int, complete: bool) -> Matches[tuple[Row, int]]:
    """The first of the rows that have the text in their last column, and where. Each row begins with its id.

    `complete`: there are no rows but these.
    """
    found = await asyncio.to_thread(_find, rows, text, limit)
    if len(found) == limit:
        return Matches(found, int(found[-1][0][0]))
    return Matches(found, None if complete else int(rows[-1][0]))


def _find(rows: Sequence[Row], text: str, limit: int) -> Sequence[tuple[Row, int]]:
    needle, found = Needle(text), list[tuple[Row, int]]()
    for row in rows:
        place = needle.place_in(row[-1])
        if place is not None:
            found.append((row, place))
            if len(found) == limit:
                break
    return found


def escaped(text: str) -> str:
    """For a LIKE with `!` as its escape: `%` and `_` mean themselves."""
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")
