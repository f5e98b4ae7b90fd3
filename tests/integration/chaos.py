"""Servers that are killed while they are talked to, again and again; what they had promised must still be true.

One life of a server: its clients send and read, and at a random moment it is killed (-9). Then, after another start:

- it is ready within `READY_WITHIN`, as the rule (a machine may have other things to do);
- no reply of it is left `writing`: at once on SQLite, `BURIED_WITHIN` later on a database server, since everybody who
  could take the dead for dead dies as well, and is to have lived for a whole lease before;
- every message that was acknowledged is in its conversation once, and sent again with its idempotency key it is the
  same one; one that was not acknowledged is there once after it has been sent again;
- a reply has all text that a reader had been shown more than `KEPT_AFTER` before the kill, and none but the model's.
"""

import asyncio
import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from aiohttp import ClientError

from integration.http_app import EVENTS, Api, Event, text_of
from integration.model_server import Answer, ModelServer, chunk, stream
from integration.processes import Server, serving

LANES = 4
"""So many servers at once; on a database server they share one database."""

READY_WITHIN = 5.0  # seconds
BURIED_WITHIN = 10.0
KEPT_AFTER = 1.0

_CLIENTS = 6  # of each server
_LIVES = (0.0, 2.5)  # seconds from the first message to the kill
_THOUGHTS = ("Let me\r\n", "see 🤔")
_WORDS = tuple(f"{number} 🦜\r\n" for number in range(25))
_PAUSES = (0.001, 0.02, 0.08)  # seconds
_SAID = "".join((*_THOUGHTS, *_WORDS))


@dataclass(slots=True)
class Tally:
    """What has been survived, for the summary. Times are in seconds."""

    kills: int = 0
    acknowledged: int = 0
    completed: int = 0
    interrupted: int = 0
    unacknowledged: int = 0
    starts: list[float] = field(default_factory=list)
    slowest_burial: float = 0.0

    @property
    def usual_start(self) -> float:
        return median(self.starts)

    def __str__(self) -> str:
        return (
            f"{self.kills} kills; of {self.acknowledged} acknowledged messages none lost or doubled, their replies "
            f"{self.completed} complete and {self.interrupted} interrupted, none left; {self.unacknowledged} messages "
            f"not acknowledged, and sent again; ready after {self.usual_start:.1f} s, at worst {max(self.starts):.1f}; "
            f"all replies ended {self.slowest_burial:.1f} s later at worst"
        )


@dataclass(slots=True, eq=False)
class Said:
    """One message, as its client knows it. `shown`: when how much of the reply's text had been read."""

    conversation: int
    content: str
    key: str
    reply_id: int | None = None
    message_id: int | None = None
    shown: list[tuple[float, str]] = field(default_factory=list)
    end: dict[str, Any] | None = None

    def heard(self, event: Event) -> None:
        if event.type == "reply.started":
            self.message_id, self.reply_id = event.data["message_id"], event.data["reply_id"]
        before = self.shown[-1][1] if self.shown else ""
        self.shown.append((time.monotonic(), before + text_of([event])))
        self.end = event.data.get("message", self.end)

    def shown_before(self, moment: float) -> str:
        return next((text for when, text in reversed(self.shown) if when <= moment), "")


def talking(pause: float) -> Answer:
    """What a model says, with this pause before each of its words."""
    thoughts = (chunk(reasoning=thought) for thought in _THOUGHTS)
    words = (step for word in _WORDS for step in (pause, chunk(word)))
    return stream(*thoughts, *words, chunk(finish="stop"))


async def survive(url: str, kills: int, folder: Path) -> Tally:
    """So many kills in all. `url`: a migrated database; for SQLite each lane has a file of its own in `folder`."""
    tally, starting = Tally(), asyncio.Lock()  # one start at a time, which is measured
    async with ModelServer() as model, asyncio.TaskGroup() as lanes:
        model.script(*(talking(random.choice(_PAUSES)) for _ in range(20 * kills)))
        model.always = talking(min(_PAUSES))
        for number in range(min(LANES, kills)):
            own = folder / f"lane{number}"
            own.mkdir()
            environ = {"OPENAI_BASE_URL": model.url, "DATA_DIR": str(own)}
            if not url.startswith("sqlite:"):
                environ["DATABASE_URL"] = url
            share = kills // LANES + (number < kills % LANES)
            lanes.create_task(_Lane(own, environ, tally, starting).run(share))
    return tally


class _Lane:
    """One server after another in the same folder, and their clients, who are one user with many conversations."""

    def __init__(self, folder: Path, environ: dict[str, str], tally: Tally, starting: asyncio.Lock) -> None:
        self._folder = folder
        self._environ = environ
        self._tally = tally
        self._said: list[Said] = []
        self._token = ""
        self._starting = starting

    async def run(self, kills: int) -> None:
        killed_at, last = 0.0, list[Said]()
        for _ in range(kills):
            async with self._started() as (server, user):
                await self._check(user, last, killed_at)
                last = await self._talk_until_killed(server, user)
                killed_at = time.monotonic()
            self._tally.kills += 1
        async with self._started() as (server, user):
            await self._check(user, last, killed_at)
            await self._check_all(user)
            assert (await server.stop()).code == 0

    @asynccontextmanager
    async def _started(self) -> AsyncIterator[tuple[Server, Api]]:
        async with AsyncExitStack() as stack:
            async with self._starting:
                begun = time.monotonic()
                server = await stack.enter_async_context(serving(self._folder, **self._environ))
                (await server.api.get("/ready")).ok()
                took = time.monotonic() - begun
            self._tally.starts.append(took)
            if not self._token:
                self._token = (await server.api.register(f"user{secrets.token_hex(6)}"))["access_token"]
            yield server, server.api.with_token(self._token)

    async def _talk_until_killed(self, server: Server, user: Api) -> list[Said]:
        said = list[Said]()
        clients = [asyncio.create_task(_talk(user, await user.conversation(), said)) for _ in range(_CLIENTS)]
        await asyncio.sleep(random.uniform(*_LIVES))
        server.send(signal.SIGKILL)
        await asyncio.gather(*clients)
        await server.ended()
        self._said += said
        return said

    # ---- after the next start --------------------------------------------------------------------------------

    async def _check(self, user: Api, said: list[Said], killed_at: float) -> None:
        """What was said to the server that was killed then."""
        await self._until_nothing_is_written(user, said)
        for one in said:
            if one.reply_id is not None:
                self._tally.acknowledged += 1
                reply = _reply_to(one, await _history(user, one.conversation))
                _check_text(one, reply, killed_at)
                self._tally.completed += reply["status"] == "complete"
                self._tally.interrupted += reply["status"] == "interrupted"
        await asyncio.gather(*(self._send_again(user, one) for one in said))

    async def _until_nothing_is_written(self, user: Api, said: list[Said]) -> None:
        within, ready_at = BURIED_WITHIN if "DATABASE_URL" in self._environ else 0, time.monotonic()
        while writing := [number for number in _conversations(said) if await _is_writing(user, number)]:
            late = time.monotonic() - ready_at
            assert late < within, f"{late:.1f} s later conversations {writing} are still being written"
            await asyncio.sleep(0.1)
        self._tally.slowest_burial = max(self._tally.slowest_burial, time.monotonic() - ready_at)

    async def _send_again(self, user: Api, one: Said) -> None:
        """With its key: what was acknowledged is the same, and what was not is said now."""
        events = await _send(user, one.conversation, one.content, one.key)
        started, end = events[0].data, events[-1].data
        if one.reply_id is None:
            self._tally.unacknowledged += 1
            one.message_id, one.reply_id = started["message_id"], started["reply_id"]
        assert (started["message_id"], started["reply_id"]) == (one.message_id, one.reply_id), one
        one.end = end["message"]
        assert text_of(events) == _text(end["message"])

    async def _check_all(self, user: Api) -> None:
        """Once more, at the very end."""
        for conversation in _conversations(self._said):
            history = await _history(user, conversation)
            said = [one for one in self._said if one.conversation == conversation]
            contents = Counter(message["content"] for message in history if message["role"] == "user")
            assert contents == Counter(one.content for one in said)
            for one in said:
                assert _reply_to(one, history) == one.end
        replies = sum(one.end["status"] in ("complete", "interrupted") for one in self._said if one.end)
        assert replies == len(self._said)


async def _talk(user: Api, conversation: int, said: list[Said]) -> None:
    """One message after another, until the server is gone."""
    while True:
        one = Said(conversation, f"What of {secrets.token_hex(6)}?", secrets.token_hex(8))
        said.append(one)
        try:
            path, headers = f"/conversations/{conversation}/chat", {**EVENTS, "Idempotency-Key": one.key}
            async with user.events(path, {"content": one.content}, headers) as events:
                async for event in events:
                    one.heard(event)
        except (ClientError, ConnectionError):
            return
        if one.end is None:
            return  # the stream ended with the server


async def _send(user: Api, conversation: int, content: str, key: str) -> list[Event]:
    path, headers = f"/conversations/{conversation}/chat", {**EVENTS, "Idempotency-Key": key}
    async with user.events(path, {"content": content}, headers) as events:
        return await events.rest()


async def _history(user: Api, conversation: int) -> list[dict[str, Any]]:
    page = (await user.get(f"/conversations/{conversation}?limit=200")).ok()
    assert not page["has_more"]
    messages: list[dict[str, Any]] = page["messages"]
    return messages


async def _is_writing(user: Api, conversation: int) -> bool:
    return any(message["status"] == "writing" for message in await _history(user, conversation))


def _conversations(said: Iterable[Said]) -> list[int]:
    return sorted({one.conversation for one in said})


def _reply_to(one: Said, history: list[dict[str, Any]]) -> dict[str, Any]:
    places = [place for place, message in enumerate(history) if message["content"] == one.content]
    assert len(places) == 1, f"{one} is there {len(places)} times"
    message, reply = history[places[0] : places[0] + 2]
    assert (message["id"], reply["id"], reply["parent_id"]) == (one.message_id, one.reply_id, message["id"]), one
    return reply


def _text(message: dict[str, Any]) -> str:
    return f"{message['reasoning'] or ''}{message['content']}"


def _check_text(one: Said, reply: dict[str, Any], killed_at: float) -> None:
    text = _text(reply)
    if one.end is not None:
        assert reply == one.end
    assert reply["status"] in ("complete", "interrupted")
    assert _SAID.startswith(text)
    assert text == _SAID or reply["status"] == "interrupted"
    assert text.startswith(one.shown_before(killed_at - KEPT_AFTER)), one
