"""Writers to conversations of their own, all at once: every send must be taken, and all that was said be there after.

    python bench/writers.py [--seconds 60] [--writers 50]

On the database of DATABASE_URL, which is migrated, or else on a SQLite file of its own. Each writer has an account
and a conversation, sends, reads the reply to its end, and sends again. Then all histories are read back and the
accounts are deleted. It exits with 1 if a send failed, or if a message or a reply is missing or is not what was said.
"""

import argparse
import asyncio
import os
import secrets
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from chatcore import (
    ChatDefaults,
    ConversationId,
    CreateConversation,
    FollowReply,
    Message,
    OwnerId,
    Profile,
    ReadHistory,
    Replies,
    ReplyEnded,
    Status,
    SystemClock,
    UseCases,
    Vouched,
)
from chatcore.ports import Cipher, Clock, UnitOfWorkFactory
from chatcore_demo import DEMO_ENDPOINT, DemoModel
from chatcore_demo.model import ANSWER
from chatcore_memory import PlainCipher
from chatcore_sql import Database

PAGE = 200


@dataclass
class Writer:
    owner: OwnerId
    conversation: ConversationId
    said: list[str] = field(default_factory=list[str])
    waits: list[float] = field(default_factory=list[float])
    errors: Counter[str] = field(default_factory=Counter[str])


class Bench:
    def __init__(self, database: Database, replies: Replies, clock: SystemClock) -> None:
        self.database = database
        self.clock = clock
        unit_of_work = database.unit_of_work
        self.create = CreateConversation(unit_of_work=unit_of_work, clock=clock)
        self.follow = FollowReply(replies=replies)
        self.history = ReadHistory(unit_of_work=unit_of_work)
        self.send = UseCases(
            {
                UnitOfWorkFactory: unit_of_work,
                Replies: replies,
                Cipher: PlainCipher(),
                Clock: clock,
                ChatDefaults: ChatDefaults(model=DEMO_ENDPOINT),
            }
        ).send_message

    async def writer(self) -> Writer:
        async with self.database.unit_of_work() as work:
            name = f"writer-{secrets.token_hex(6)}"
            user = await work.users.add(
                username=name,
                email=None,
                password_hash="",
                roles=frozenset(),
                profile=Profile(),
                now=self.clock.now(),
            )
            await work.commit()
        return Writer(user.id, (await self.create(by=Vouched(user.id))).id)

    async def write(self, writer: Writer, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (begun := time.monotonic()) < end:
            content = f"{writer.owner} says {len(writer.said)} {secrets.token_hex(8)}"
            try:
                sent = await self.send(by=Vouched(writer.owner), conversation_id=writer.conversation, content=content)
                writer.waits.append(time.monotonic() - begun)
                writer.said.append(content)
                await self._read(writer, sent.reply)
            except Exception as error:
                writer.errors[f"{type(error).__name__} ({type(error.__cause__).__name__})"] += 1

    async def _read(self, writer: Writer, reply: Message) -> None:
        events = self.follow(owner=writer.owner, conversation_id=writer.conversation, reply_id=reply.id)
        async for event in events:
            if isinstance(event, ReplyEnded) and event.message.status is not Status.COMPLETE:
                writer.errors[f"a reply that ended as {event.message.status}"] += 1

    async def lost(self, writer: Writer) -> int:
        """How many of the messages and replies are not where they belong, word for word."""
        expected = [text for content in writer.said for text in (content, ANSWER.format(question=content))]
        stored = list[tuple[str, Status]]()
        before = None
        while True:
            page = await self.history(
                owner=writer.owner, conversation_id=writer.conversation, limit=PAGE, before=before
            )
            stored = [(message.content, message.status) for message in page.messages] + stored
            before = page.next_before_id
            if before is None:
                break
        if stored == [(text, Status.COMPLETE) for text in expected]:
            return 0
        return max(1, len(Counter((text, Status.COMPLETE) for text in expected) - Counter(stored)))

    async def forget(self, writer: Writer) -> None:
        async with self.database.unit_of_work() as work:
            await work.owners.delete(writer.owner)
            await work.commit()


async def run(url: str, writers: int, seconds: float) -> int:
    clock = SystemClock()
    async with Database(url) as database:
        await database.migrate()
        async with Replies(unit_of_work=database.unit_of_work, gateway=DemoModel(pause=0.001), clock=clock) as replies:
            bench = Bench(database, replies, clock)
            all_of_them = [await bench.writer() for _ in range(writers)]
            begun = time.monotonic()
            await asyncio.gather(*(bench.write(writer, seconds) for writer in all_of_them))
            took = time.monotonic() - begun
        lost = [await bench.lost(writer) for writer in all_of_them]
        in_use = database.connections_in_use
        for writer in all_of_them:
            await bench.forget(writer)
    return report(all_of_them, took, sum(lost), in_use)


def report(writers: list[Writer], took: float, lost: int, in_use: int) -> int:
    """The exit status."""
    errors = sum((writer.errors for writer in writers), Counter[str]())
    waits = sorted(wait for writer in writers for wait in writer.waits)
    sends = [len(writer.said) for writer in writers]
    print(f"{len(writers)} writers, {took:.1f} s: {sum(sends)} sends ({sum(sends) / took:.0f}/s; ", end="")
    print(f"each writer {min(sends)} to {max(sends)})")
    if waits:
        middle, late = waits[len(waits) // 2], waits[int(len(waits) * 0.99)]
        print(f"acknowledged within: median {middle:.3f} s, 99% {late:.3f} s, at most {waits[-1]:.3f} s")
    print(f"{errors.total()} errors, {lost} lost, {in_use} connections not given back")
    for error, count in errors.most_common():
        print(f"  {count} × {error}")
    return 1 if errors or lost or in_use or not waits else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--writers", type=int, default=50)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = os.environ.get("DATABASE_URL") or f"sqlite:///{Path(folder) / 'writers.db'}"
        return uvloop.run(run(url, arguments.writers, arguments.seconds))


if __name__ == "__main__":
    sys.exit(main())
