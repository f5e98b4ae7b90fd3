"""A database with as much in it as plans and costs need to show: one owner with nearly everything, and many others."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from typing import Any

from sqlalchemy import Table, insert
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from chatcore.entities import Scope
from chatcore_sql.tables import (
    conversations,
    file_parts,
    files,
    message_images,
    messages,
    metadata,
    model_configs,
    owners,
    refresh_tokens,
    reply_log,
    requests,
    sessions,
    user_roles,
    users,
    workers,
)
from chatcore_sql.url import engine_url
from chatcore_testing.contracts.storage.base import NOW

BUSY, QUIET, EARLY = 1, 500, 3
"""Owners: the one with nearly everything, and two of the others, the last of whom wrote 2,000 messages before all."""
EARLY_CONVERSATIONS = 500
OTHERS = 1000
SHORT = 1000
"""Conversations with `IN_SHORT` messages each: first the early owner's, from number 1 on, then the busy one's."""
IN_SHORT = 4
LONG = 40_000
"""Messages of the busy owner's last conversation, written after all others."""
LONG_CONVERSATION = SHORT + 2 * OTHERS + 1
WRITTEN = range(1, SHORT + 2 * OTHERS, 20)
"""The conversations in which a reply is being written; the log has twenty rows of each."""
WORKERS = 10
"""They write these in turn, and the last one is asked to stop what it writes. The worker of two of them is dead."""

_ANALYZE = {
    "sqlite": "ANALYZE {}",
    "mysql": "ANALYZE TABLE {}",
    "postgresql": "ANALYZE {}",
}

Rows = Iterator[dict[str, Any]]


def conversation_of(owner: int) -> int:
    """A short one: of the busy owner's the oldest."""
    return {BUSY: EARLY_CONVERSATIONS + 1, EARLY: 1}.get(owner, SHORT + 2 * (owner - 1))


def name_of(conversation: int) -> str:
    """Its client's."""
    return f"chat{conversation}"


def message_of(conversation: int, place: int) -> int:
    """The number of a conversation's message, from 0; those of short conversations come first."""
    return (conversation - 1) * IN_SHORT + place + 1


def owner_of(conversation: int) -> int:
    """Of a short one."""
    if conversation <= SHORT:
        return EARLY if conversation <= EARLY_CONVERSATIONS else BUSY
    return (conversation - SHORT - 1) // 2 + 2


def worker_of(conversation: int) -> int | None:
    if conversation not in WRITTEN:
        return None
    number = WRITTEN.index(conversation)
    return 10**6 if number in (70, 100) else number % WORKERS + 1


def digest_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


def at(number: int) -> Any:
    return NOW + timedelta(seconds=number)


async def fill(url: str) -> None:
    """A migrated database without users; its statistics are made afterwards. Takes seconds."""
    engine = create_async_engine(engine_url(url), poolclass=NullPool)
    async with engine.begin() as connection:
        for table, rows in _TABLES.items():
            left = rows()
            while batch := list(islice(left, 5000)):
                await connection.execute(insert(table), batch)
        if engine.dialect.name == "postgresql":
            for name in ("owners", "model_configs", "conversations", "messages", "files", "workers"):
                await connection.exec_driver_sql(
                    f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), max(id)) FROM {name}"
                )
        for name in metadata.tables:
            await connection.exec_driver_sql(_ANALYZE[engine.dialect.name].format(name))


def _owners() -> Iterator[int]:
    return iter(range(1, OTHERS + 2))


def _all_owners() -> Rows:
    """As many that are no accounts, too."""
    for owner in _owners():
        yield {"id": owner, "tenant": None, "external_id": None, "created_at": NOW}
    for owner in _owners():
        yield {"id": OTHERS + 1 + owner, "tenant": "acme", "external_id": f"external{owner}", "created_at": NOW}


def _users() -> Rows:
    for owner in _owners():
        yield {
            "id": owner,
            "username": f"user{owner}",
            "username_key": f"user{owner}",
            "email": f"user{owner}@example.org",
            "email_key": f"user{owner}@example.org",
            "password_hash": "x" * 100,
            "is_active": True,
            "created_at": NOW,
            "updated_at": NOW,
        }


def _user_roles() -> Rows:
    for owner in _owners():
        yield {"user_id": owner, "role": "user"}


def _signed_in() -> Iterator[tuple[int, int]]:
    """Each session's number, and whose it is."""
    return enumerate([*[BUSY] * 500, *(owner for owner in range(2, OTHERS + 2) for _ in range(4))])


def session_of(owner: int) -> str:
    return f"session{0 if owner == BUSY else 500 + 4 * (owner - 2)}"


def token_of(owner: int) -> bytes:
    """The refresh token of that session which is unused."""
    return digest_of(int(session_of(owner).removeprefix("session")) * 3 + 2)


def config_of(owner: int) -> int:
    return 1 if owner == BUSY else 500 + 2 * (owner - 1)


def _sessions() -> Rows:
    for number, owner in _signed_in():
        yield _session(f"session{number}", owner, number)
    yield from _keys()


def _session(session_id: str, owner: int, number: int, **key: object) -> dict[str, Any]:
    return {
        "id": session_id,
        "user_id": owner,
        "login_time": at(number),
        "authenticated_at": at(number),
        "last_used_at": at(number),
        "expires_at": at(10_000_000),
        "user_agent": "Mozilla/5.0",
        "address": "127.0.0.1",
        "is_key": False,
        "key_name": None,
        "key_hint": None,
        "key_scopes": None,
        "key_digest": None,
        **key,
    }


def key_of(owner: int) -> bytes:
    """The digest of the owner's first API key."""
    return digest_of(_key_numbers(owner)[0])


def _key_numbers(owner: int) -> range:
    """They are apart from those of the tokens."""
    first = 10**6 + 100 * owner
    return range(first, first + (50 if owner == BUSY else 1))


def _keys() -> Rows:
    for owner in _owners():
        for number in _key_numbers(owner):
            grant = {"key_name": "laptop", "key_hint": "wxyz", "key_scopes": {Scope.CHAT}}
            yield _session(f"key{number}", owner, number, is_key=True, key_digest=digest_of(number), **grant)


def _refresh_tokens() -> Rows:
    for number, owner in _signed_in():
        for turn in range(3):
            yield {
                "digest": digest_of(number * 3 + turn),
                "session_id": f"session{number}",
                "user_id": owner,
                "created_at": at(number),
                "expires_at": at(10_000_000),
                "used_at": at(number) if turn < 2 else None,
            }


def _model_configs() -> Rows:
    whose = [*[BUSY] * 500, *(owner for owner in range(2, OTHERS + 2) for _ in range(2))]
    for number, owner in enumerate(whose, 1):
        yield {
            "id": number,
            "user_id": owner,
            "model_url": "https://example.org/v1",
            "model_name": "model",
            "sealed_key": "x" * 200,
            "api_key_hint": "abcd",
            "created_at": at(number),
            "updated_at": at(number),
        }


def _conversations() -> Rows:
    for number in range(1, LONG_CONVERSATION + 1):
        yield {
            "id": number,
            "user_id": BUSY if number == LONG_CONVERSATION else owner_of(number),
            "title": f"Conversation {number}",
            "titled_by_user": False,
            "writing_reply_id": message_of(number, IN_SHORT - 1) if number in WRITTEN else None,
            "writing_worker_id": worker_of(number),
            "stop_requested": worker_of(number) == WORKERS,
            "client_id": name_of(number),
            "created_at": at(number),
            "updated_at": at(number),
        }


def _messages() -> Rows:
    for conversation in _conversations():
        for place in range(LONG if conversation["id"] == LONG_CONVERSATION else IN_SHORT):
            number = message_of(conversation["id"], place)
            asked = place % 2 == 0
            yield {
                "id": number,
                "user_id": conversation["user_id"],
                "conversation_id": conversation["id"],
                "parent_id": number - 1 if place else 0,
                "depth": place,
                "active": True,
                "role": "user" if asked else "assistant",
                "content": "Some words that somebody has said to the model, or that it has answered to them. " * 3,
                "status": "complete",
                "idempotency_key": f"key{number}" if asked else None,
                "idempotency_digest": digest_of(number) if asked else None,
                "created_at": at(number),
            }


def _requests() -> Rows:
    """One for each reply."""
    for message in _messages():
        if message["role"] == "assistant":
            yield {
                "user_id": message["user_id"],
                "reply_id": message["id"],
                "conversation_id": message["conversation_id"],
                "kind": "response",
                "body": {"instructions": "Be brief."},
                "created_at": NOW,
            }


def _message_images() -> Rows:
    """Two of each question, without their bytes."""
    for message in _messages():
        for number in range(2 if message["role"] == "user" else 0):
            yield {
                "user_id": message["user_id"],
                "message_id": message["id"],
                "number": number,
                "conversation_id": message["conversation_id"],
                "media_type": "image/png",
                "size": 0,
                "data": b"",
            }


def _files() -> Rows:
    """With the ids of the configurations."""
    for config in _model_configs():
        yield {
            "id": config["id"],
            "user_id": config["user_id"],
            "collection": f"collection{config['id'] % 2}",
            "name": "notes.txt",
            "media_type": "text/plain",
            "size": 0,
            "digest": digest_of(config["id"]),
            "created_at": config["created_at"],
        }


def _file_parts() -> Rows:
    """Two of each, without their bytes."""
    for file in _files():
        for number in range(2):
            yield {"user_id": file["user_id"], "file_id": file["id"], "number": number, "data": b""}


def _reply_log() -> Rows:
    for conversation in _conversations():
        for row in range(20 if conversation["writing_reply_id"] else 0):
            yield {
                "user_id": conversation["user_id"],
                "reply_id": conversation["writing_reply_id"],
                "text_offset": row * 10,
                "kind": "answer",
                "text": "0123456789",
            }


def _workers() -> Rows:
    for number in range(1, WORKERS + 1):
        yield {"id": number, "renewed_at": 0}


_TABLES: dict[Table, Any] = {
    owners: _all_owners,
    users: _users,
    user_roles: _user_roles,
    sessions: _sessions,
    refresh_tokens: _refresh_tokens,
    model_configs: _model_configs,
    conversations: _conversations,
    messages: _messages,
    requests: _requests,
    message_images: _message_images,
    files: _files,
    file_parts: _file_parts,
    reply_log: _reply_log,
    workers: _workers,
}
