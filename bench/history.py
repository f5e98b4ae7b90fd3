"""What a page of a conversation's history costs when it has 1,000 messages, and when it has 1,000,000.

    python bench/history.py [--requests 300] [--rounds 7] [--limit 50] [--database URL ...]

On each server (MariaDB or MySQL, PostgreSQL) two conversations of one user are filled, and the newest page, one from
the middle and the oldest are read of both, as `GET /conversations/{id}` reads them. What is counted is time, from the
question to the last row: the database does the work, and that is another process. The pages take turns and the least
of the rounds counts, as the least disturbed one. It exits with 1 if any page of the long conversation costs more than
1.2 times what the same page of the short one does.
"""

import argparse
import sys
import time
from datetime import UTC, datetime

import uvloop
from databases import execute, new_database
from sqlalchemy import make_url

from chatcore import ReadHistory
from chatcore.entities import ConversationId, MessageId, OwnerId, Profile, User
from chatcore_sql import Database

SERVERS = ("mysql://root@127.0.0.1:3306", "postgresql://postgres@127.0.0.1:5432/postgres")
SHORT, LONG = 1_000, 1_000_000
AT_MOST = 1.2  # times the short conversation's page

_COLUMNS = "(user_id, conversation_id, parent_id, depth, role, content, status, created_at)"
_VALUES = (
    "{user}, {conversation}, n, n - 1, CASE WHEN n % 2 = 1 THEN 'user' ELSE 'assistant' END, {text}, 'complete', {now}"
)
_TEXT = "CONCAT('Message number ', n, REPEAT(' and so on', 20))"
_NUMBERS = {
    # Recursion is in every MySQL since 8.0 and MariaDB since 10.2, unlike their own ways to count.
    "mysql": "(WITH RECURSIVE d(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM d WHERE n < 1000) "
    "SELECT (a.n - 1) * 1000 + b.n AS n FROM d a CROSS JOIN d b) numbers",
    "postgresql": "generate_series(1, {number}) AS numbers(n)",
}


async def filled(url: str) -> tuple[User, dict[int, ConversationId]]:
    """A user, and by its length the user's conversation; others' messages lie between."""
    now = datetime.now(UTC)
    async with Database(url) as database, database.unit_of_work() as work:
        user = await work.users.add(
            username="ada", email=None, password_hash="-", roles=frozenset({"user"}), profile=Profile(), now=now
        )
        added = [await work.conversations.add(user.id, title="", config_id=None, now=now) for _ in (SHORT, LONG)]
        await work.commit()
    conversations: dict[int, ConversationId] = dict(zip((SHORT, LONG), [each.id for each in added], strict=True))
    await execute(url, *(filling(url, user.id, of, number) for number, of in conversations.items()), *analysis(url))
    return user, conversations


def filling(url: str, user: OwnerId, conversation: ConversationId, number: int) -> str:
    kind = make_url(url).get_backend_name()
    now = "UTC_TIMESTAMP(6)" if kind == "mysql" else "now()"
    values = _VALUES.format(user=user, conversation=conversation, text=_TEXT, now=now)
    numbers = _NUMBERS[kind].format(number=number)
    return f"INSERT INTO messages {_COLUMNS} SELECT {values} FROM {numbers} WHERE n <= {number} ORDER BY n".replace(
        "%", "%%" if kind == "mysql" else "%"
    )


def analysis(url: str) -> tuple[str, ...]:
    """What a server that has had these tables for long knows about them."""
    if make_url(url).get_backend_name() == "mysql":
        return ("ANALYZE TABLE messages, conversations",)
    return ("VACUUM ANALYZE messages", "VACUUM ANALYZE conversations")


async def compare(url: str, options: argparse.Namespace) -> bool:
    """Whether a page costs the same in both."""
    began = time.perf_counter()
    user, conversations = await filled(url)
    kind = make_url(url).get_backend_name()
    print(f"{kind}: {SHORT + LONG:,} messages stored in {time.perf_counter() - began:.0f} s")
    async with Database(url, pool_size=1) as database:
        read = ReadHistory(unit_of_work=database.unit_of_work)
        pages: dict[tuple[str, int], MessageId | None] = {}
        first: dict[int, MessageId] = {}
        for number, conversation in conversations.items():
            newest = await read(owner=user.id, conversation_id=conversation, limit=1)
            last = newest.messages[0].id
            first[number] = MessageId(last - number + 1)
            pages["newest", number] = None
            pages["middle", number] = MessageId(last - number // 2)
            pages["oldest", number] = MessageId(first[number] + options.limit)
        costs = dict.fromkeys(pages, float("inf"))
        for _ in range(options.rounds):
            for page, before in pages.items():
                began = time.perf_counter()
                for _ in range(options.requests):
                    found = await read(
                        owner=user.id, conversation_id=conversations[page[1]], limit=options.limit, before=before
                    )
                    assert len(found.messages) == options.limit
                costs[page] = min(costs[page], (time.perf_counter() - began) / options.requests)
    return told(costs)


def told(costs: dict[tuple[str, int], float]) -> bool:
    good = True
    for place in ("newest", "middle", "oldest"):
        short, long = costs[place, SHORT], costs[place, LONG]
        print(
            f"  {place}: {short * 1e6:6.0f} µs of {SHORT:,}, {long * 1e6:6.0f} µs of {LONG:,}: {long / short:.2f} times"
        )
        good = good and long / short <= AT_MOST
    return good


async def main(options: argparse.Namespace) -> bool:
    good = True
    for server in options.database or SERVERS:
        async with new_database(server) as url:
            good = await compare(url, options) and good
    return good


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--database", action="append", metavar="URL", help="a server, instead of those of compose.yaml")
    parser.add_argument("--requests", type=int, default=300, help="of each page, in each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--limit", type=int, default=50, help="messages on a page")
    sys.exit(0 if uvloop.run(main(parser.parse_args())) else 1)
