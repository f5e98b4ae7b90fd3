"""How the databases find what the repositories ask for: the statements that are really sent, on a filled database.

Every method of every repository is in `CALLS`. Each of its statements is explained, and refused if it reads a whole
table, sorts, or finds rows by anything but an index that starts with the owner or the key of the very row. Then what
it has read is counted, because a plan does not say how much of an index it walks.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, get_type_hints

import pytest
from sqlalchemy import event

from chatcore.entities import (
    Conversation,
    ConversationId,
    Failure,
    FileId,
    Image,
    Message,
    MessageId,
    ModelConfigId,
    OwnerId,
    Profile,
    RefreshToken,
    Request,
    Role,
    Session,
    SessionId,
    Status,
    UserId,
    WorkerId,
)
from chatcore.ports import (
    Administration,
    ConversationRepo,
    FileRepo,
    Idempotency,
    LogCursor,
    LogEntry,
    MessageRepo,
    ModelConfigRepo,
    NewUser,
    Node,
    OwnerRepo,
    ReplyLog,
    RequestRepo,
    SealedKeys,
    TextKind,
    TokenStore,
    UnfinishedReplies,
    UnitOfWork,
    UserRepo,
    Workers,
)
from chatcore_sql import Database
from chatcore_sql.statements import Transaction
from chatcore_sql.tables import metadata
from chatcore_testing.contracts.storage.base import NOW, later
from integration import filling
from integration.databases import KINDS, migrated_database
from integration.plans import LOOKS, Look, Looking, keys

REPOSITORIES = {
    "owners": OwnerRepo,
    "users": UserRepo,
    "tokens": TokenStore,
    "model_configs": ModelConfigRepo,
    "conversations": ConversationRepo,
    "messages": MessageRepo,
    "requests": RequestRepo,
    "files": FileRepo,
    "reply_log": ReplyLog,
    "workers": Workers,
    "unfinished": UnfinishedReplies,
    "administration": Administration,
    "sealed_keys": SealedKeys,
}


@dataclass(frozen=True, slots=True)
class Whose:
    """Where a call is made: everything in it is this owner's."""

    name: str
    owner: UserId
    conversation: ConversationId
    message: MessageId
    session: SessionId
    token: bytes
    config: ModelConfigId
    deep: MessageId | None = None

    def __str__(self) -> str:
        return self.name


def whose(name: str, owner: int, conversation: int, place: int, *, deep: bool = False) -> Whose:
    message = MessageId(filling.message_of(conversation, place))
    return Whose(
        name,
        UserId(OwnerId(owner)),
        ConversationId(conversation),
        message,
        SessionId(filling.session_of(owner)),
        filling.token_of(owner),
        ModelConfigId(filling.config_of(owner)),
        message if deep else None,
    )


BUSY, QUIET, LONG = filling.BUSY, filling.QUIET, filling.LONG_CONVERSATION
PLACES = [
    whose("busy-oldest", BUSY, filling.conversation_of(BUSY), 3),
    whose("busy-longest", BUSY, LONG, filling.LONG - 1),
    whose("busy-longest-deep", BUSY, LONG, 101, deep=True),
    whose("busy-longest-middle", BUSY, LONG, filling.LONG // 2 + 1, deep=True),
    whose("busy-longest-second-page", BUSY, LONG, filling.LONG - 19, deep=True),
    whose("quiet", QUIET, filling.conversation_of(QUIET), 3),
    whose("early", filling.EARLY, filling.conversation_of(filling.EARLY), 3),
]
SOME_PLACES = [PLACES[0], PLACES[1], PLACES[-1]]
"""For what takes long to undo."""


# ---- the calls ----

Call = Callable[[UnitOfWork, Whose], Awaitable[Any]]


async def finish(work: UnitOfWork, it: Whose) -> None:
    message = await work.messages.get(it.owner, it.conversation, it.message)
    assert message is not None
    await work.messages.finish(replace(message, status=Status.FAILED, error=Failure(code="x", detail="y")))


async def reseal(work: UnitOfWork, it: Whose) -> None:
    config = await work.model_configs.get(it.owner, it.config)
    assert config is not None
    assert await work.sealed_keys.replace(config, sealed_key="again", sealed_with="newest")


async def save(work: UnitOfWork, it: Whose) -> None:
    config = await work.model_configs.get(it.owner, it.config)
    assert config is not None
    assert await work.model_configs.save(replace(config, model_name="another"))


def a_session(it: Whose) -> Session:
    return Session(
        id=SessionId("new"), user_id=it.owner, login_time=NOW, authenticated_at=NOW, last_used_at=NOW, expires_at=NOW
    )


def a_token(it: Whose) -> RefreshToken:
    return RefreshToken(digest=b"\xff" * 32, session_id=it.session, user_id=it.owner, created_at=NOW, expires_at=NOW)


def a_request(it: Whose) -> Request:
    return Request(
        user_id=it.owner,
        conversation_id=it.conversation,
        reply_id=MessageId(10**9),
        kind="response",
        body={},
        created_at=NOW,
    )


def a_conversation(it: Whose) -> Conversation:
    return Conversation(id=it.conversation, user_id=it.owner, title="x", created_at=NOW, updated_at=NOW)


def a_message(it: Whose) -> Message:
    return Message(
        id=it.message, user_id=it.owner, conversation_id=it.conversation, role=Role.USER, content="x", created_at=NOW
    )


WORKER = WorkerId(filling.WORKERS)

SOME_CURSORS = [
    LogCursor(OwnerId(filling.owner_of(number)), MessageId(filling.message_of(number, filling.IN_SHORT - 1)), 150)
    for number in filling.WRITTEN[:10]
]
"""Of readers of replies that other processes write."""


def place_of(it: Whose) -> Node:
    place = it.message - filling.message_of(it.conversation, 0)
    return Node(it.message, MessageId(it.message - 1) if place else None, place, True, NOW)


def path_of(it: Whose) -> list[MessageId]:
    """As much of a branch as there is in a short conversation."""
    return [MessageId(it.message - place) for place in reversed(range(filling.IN_SHORT))]


CALLS: Mapping[str, Sequence[Call]] = {
    "users.add": [
        lambda work, _: work.users.add(
            username="new", email=None, password_hash="", roles=frozenset({"user"}), profile=Profile(), now=NOW
        )
    ],
    "users.find": [
        lambda work, it: work.users.find(f"user{it.owner}"),
        lambda work, it: work.users.find(f"user{it.owner}@example.org"),
    ],
    "users.hold": [lambda work, it: work.users.hold(it.owner, password_hash="x")],
    "users.set_password_hash": [
        lambda work, it: work.users.set_password_hash(it.owner, "y", now=NOW),
        lambda work, it: work.users.set_password_hash(it.owner, "y", known="x", now=NOW),
    ],
    "users.set_username": [lambda work, it: work.users.set_username(it.owner, "another", now=NOW)],
    "users.set_email": [lambda work, it: work.users.set_email(it.owner, "x@example.org", now=NOW)],
    "owners.find": [
        lambda work, it: work.owners.find("acme", f"external{it.owner}"),
        lambda work, _: work.owners.find("acme", "nobody"),
    ],
    "owners.add": [lambda work, _: work.owners.add("acme", "new", now=NOW)],
    "owners.name": [lambda work, it: work.owners.name(it.owner)],
    "owners.hold": [lambda work, it: work.owners.hold(it.owner)],
    "owners.close": [lambda work, it: work.owners.close(it.owner, now=NOW)],
    "owners.delete_some": [lambda work, it: work.owners.delete_some(it.owner, limit=20)],
    "owners.delete": [lambda work, it: work.owners.delete(it.owner)],
    "tokens.add_session": [lambda work, it: work.tokens.add_session(a_session(it))],
    "tokens.caller": [lambda work, it: work.tokens.caller(it.owner, it.session)],
    "tokens.key_holder": [lambda work, it: work.tokens.key_holder(filling.key_of(it.owner))],
    "tokens.hold": [
        lambda work, it: work.tokens.hold(it.owner, it.session, now=NOW),
        lambda work, it: work.tokens.hold(it.owner, it.session, alone=True, now=NOW),
        lambda work, it: work.tokens.hold(it.owner, it.session, role="user", now=NOW),
    ],
    "tokens.alive": [lambda work, it: work.tokens.alive([it.session, SessionId("session7")], now=NOW)],
    "tokens.touch": [lambda work, it: work.tokens.touch(it.owner, it.session, now=NOW)],
    "tokens.sessions": [lambda work, it: work.tokens.sessions(it.owner, limit=20, offset=0)],
    "tokens.keys": [lambda work, it: work.tokens.keys(it.owner, limit=20, offset=0)],
    "tokens.live_keys": [lambda work, it: work.tokens.live_keys(it.owner, limit=50, now=NOW)],
    "tokens.revoke": [lambda work, it: work.tokens.revoke(it.owner, it.session, now=NOW)],
    "tokens.revoke_others": [lambda work, it: work.tokens.revoke_others(it.owner, it.session, now=NOW)],
    "tokens.revoke_all": [
        lambda work, it: work.tokens.revoke_all(it.owner, keys=False, now=NOW),
        lambda work, it: work.tokens.revoke_all(it.owner, keys=True, now=NOW),
    ],
    "tokens.delete_expired": [lambda work, _: work.tokens.delete_expired(before=later(-1e8), limit=20)],
    "administration.users": [
        lambda work, _: work.administration.users(limit=20),
        lambda work, _: work.administration.users(containing="user1", before=UserId(OwnerId(50)), limit=20),
    ],
    "administration.user": [lambda work, it: work.administration.user(it.owner)],
    "owners.closed": [lambda work, _: work.owners.closed(limit=20)],
    "administration.closed_conversations": [lambda work, _: work.administration.closed_conversations(limit=20)],
    "administration.roles": [lambda work, _: work.administration.roles()],
    "administration.taken": [
        lambda work, it: work.administration.taken(
            usernames=[f"user{it.owner}", "x"], emails=[f"user{it.owner}@example.org", "x@example.org"]
        )
    ],
    "administration.add_users": [
        lambda work, _: work.administration.add_users([NewUser(username="new", password_hash="")], now=NOW)
    ],
    "administration.lock": [lambda work, _: work.administration.lock()],
    "administration.only_admin": [lambda work, _: work.administration.only_admin()],
    "administration.set_active": [lambda work, it: work.administration.set_active(it.owner, False, now=NOW)],
    "administration.grant": [lambda work, it: work.administration.grant(it.owner, "admin", now=NOW)],
    "administration.revoke": [lambda work, it: work.administration.revoke(it.owner, "user", now=NOW)],
    "sealed_keys.count": [lambda work, _: work.sealed_keys.count(but="newest", limit=20)],
    "sealed_keys.list": [lambda work, _: work.sealed_keys.list(but="newest", limit=20)],
    "sealed_keys.replace": [reseal],
    "tokens.add_refresh_token": [lambda work, it: work.tokens.add_refresh_token(a_token(it))],
    "tokens.refresh_token": [lambda work, it: work.tokens.refresh_token(it.token)],
    "tokens.exchange": [lambda work, it: work.tokens.exchange(it.token, now=NOW)],
    "model_configs.add": [
        lambda work, it: work.model_configs.add(it.owner, model_url="http://x", model_name="m", now=NOW)
    ],
    "model_configs.list": [lambda work, it: work.model_configs.list(it.owner, limit=20, offset=0)],
    "model_configs.get": [lambda work, it: work.model_configs.get(it.owner, it.config)],
    "model_configs.newest": [lambda work, it: work.model_configs.newest(it.owner)],
    "model_configs.lock": [lambda work, it: work.model_configs.lock(it.owner, it.config)],
    "model_configs.save": [save],
    "model_configs.delete": [lambda work, it: work.model_configs.delete(it.owner, it.config)],
    "conversations.add": [lambda work, it: work.conversations.add(it.owner, title="x", config_id=it.config, now=NOW)],
    "conversations.get": [lambda work, it: work.conversations.get(it.owner, it.conversation)],
    "conversations.named": [lambda work, it: work.conversations.named(it.owner, filling.name_of(it.conversation))],
    "conversations.set_metadata": [
        lambda work, it: work.conversations.set_metadata(it.owner, it.conversation, {"a": "b"})
    ],
    "conversations.lock": [lambda work, it: work.conversations.lock(it.owner, it.conversation)],
    "conversations.list": [lambda work, it: work.conversations.list(it.owner, limit=20, offset=0)],
    "conversations.list_below": [
        lambda work, it: work.conversations.list_below(it.owner, updated_at=NOW, before=it.conversation, limit=20)
    ],
    "conversations.used_since": [lambda work, it: work.conversations.used_since(it.owner, later(10**8), limit=20)],
    "conversations.by_id": [
        lambda work, it: work.conversations.by_id(it.owner, after=None, limit=20),
        lambda work, it: work.conversations.by_id(it.owner, after=it.conversation, limit=20),
    ],
    "conversations.restore": [lambda work, it: work.conversations.restore(a_conversation(it))],
    "conversations.titled": [
        lambda work, it: work.conversations.titled(it.owner, "unicorn", before=None, limit=20, within=30),
        lambda work, it: work.conversations.titled(it.owner, "e", before=it.conversation, limit=20, within=30),
    ],
    "conversations.touch": [lambda work, it: work.conversations.touch(it.owner, it.conversation, now=NOW)],
    "conversations.set_title": [
        lambda work, it: work.conversations.set_title(it.owner, it.conversation, "x"),
        lambda work, it: work.conversations.set_title(it.owner, it.conversation, "x", by_user=True),
    ],
    "owners.stored_bytes": [lambda work, it: work.owners.stored_bytes(it.owner)],
    "conversations.delete": [lambda work, it: work.conversations.delete(it.owner, it.conversation, limit=20, now=NOW)],
    "conversations.claim": [
        lambda work, it: work.conversations.claim(it.owner, it.conversation, it.message, WORKER, now=NOW)
    ],
    "conversations.release": [
        lambda work, it: work.conversations.release(it.owner, it.conversation, it.message, now=NOW)
    ],
    "conversations.request_stop": [
        lambda work, it: work.conversations.request_stop(it.owner, it.conversation, it.message)
    ],
    "messages.add": [
        lambda work, it: work.messages.add(
            it.owner,
            it.conversation,
            parent_id=it.message,
            role=Role.USER,
            content="x",
            writing=False,
            model=None,
            now=NOW,
            idempotency=Idempotency("new", bytes(32)),
            images=[Image("image/png", b"x")],
        )
    ],
    "messages.get": [lambda work, it: work.messages.get(it.owner, it.conversation, it.message)],
    "messages.sent_with": [
        lambda work, it: work.messages.sent_with(it.owner, it.conversation, f"key{it.message - 1}", since=NOW),
        lambda work, it: work.messages.sent_with(it.owner, it.conversation, f"key{it.message - 1}", since=later(1e8)),
    ],
    "messages.reply_to": [
        lambda work, it: work.messages.reply_to(it.owner, it.conversation, MessageId(it.message - 1))
    ],
    "messages.place": [lambda work, it: work.messages.place(it.owner, it.conversation, it.message)],
    "messages.last": [lambda work, it: work.messages.last(it.owner, it.conversation)],
    "messages.told": [
        lambda work, it: work.messages.told(it.owner, it.conversation, limit=20, max_bytes=10_000, through=it.deep),
        lambda work, it: work.messages.told(it.owner, it.conversation, limit=20, max_bytes=10_000, among=path_of(it)),
    ],
    "messages.forget_key": [
        lambda work, it: work.messages.forget_key(it.owner, it.conversation, f"key{it.message - 1}", before=later(1e8))
    ],
    "messages.history": [lambda work, it: work.messages.history(it.owner, it.conversation, limit=20, before=it.deep)],
    "messages.by_depth": [
        lambda work, it: work.messages.by_depth(it.owner, it.conversation, after=None, limit=20),
        lambda work, it: work.messages.by_depth(it.owner, it.conversation, after=it.message, limit=20),
        lambda work, it: work.messages.by_depth(it.owner, it.conversation, after=None, limit=20, active_only=True),
    ],
    "messages.restore": [lambda work, it: work.messages.restore(a_message(it), active=True)],
    "messages.begun_with": [lambda work, it: work.messages.begun_with(it.owner, "unicorn", among=[it.conversation])],
    "messages.containing": [
        lambda work, it: work.messages.containing(it.owner, "unicorn", before=it.deep, limit=20, within=30),
        lambda work, it: work.messages.containing(it.owner, "e", before=it.message, limit=5, within=30),
    ],
    "messages.last_reply": [lambda work, it: work.messages.last_reply(it.owner, it.conversation)],
    "messages.tree": [lambda work, it: work.messages.tree(it.owner, it.conversation)],
    "messages.activate": [
        lambda work, it: work.messages.activate(it.owner, it.conversation, after=place_of(it), path=[]),
        lambda work, it: work.messages.activate(it.owner, it.conversation, after=None, path=path_of(it)),
    ],
    "messages.finish": [finish],
    "messages.erase": [lambda work, it: work.messages.erase(it.owner, it.conversation, it.message)],
    "messages.cuts": [lambda work, it: work.messages.cuts(it.owner, it.conversation, it.message)],
    "messages.image": [lambda work, it: work.messages.image(it.owner, it.conversation, MessageId(it.message - 1), 0)],
    "messages.images_of": [
        lambda work, it: work.messages.images_of(
            it.owner, it.conversation, [MessageId(it.message - 1), it.message], max_bytes=1000
        )
    ],
    "files.add": [
        lambda work, it: work.files.add(
            it.owner,
            collection="new",
            name="notes.txt",
            media_type="text/plain",
            size=0,
            digest=filling.digest_of(it.config),
            now=NOW,
        )
    ],
    "files.write": [lambda work, it: work.files.write(it.owner, FileId(it.config), 2, b"x")],
    "files.get": [lambda work, it: work.files.get(it.owner, FileId(it.config))],
    "files.same": [
        lambda work, it: work.files.same(it.owner, f"collection{it.config % 2}", filling.digest_of(it.config))
    ],
    "files.list": [
        lambda work, it: work.files.list(it.owner, collection=None, before=None, limit=20),
        lambda work, it: work.files.list(it.owner, collection="collection1", before=FileId(it.config + 1), limit=20),
    ],
    "files.count": [lambda work, it: work.files.count(it.owner, limit=1000)],
    "files.read": [lambda work, it: work.files.read(it.owner, FileId(it.config), 1)],
    "files.delete": [lambda work, it: work.files.delete(it.owner, FileId(it.config))],
    "requests.add": [lambda work, it: work.requests.add(a_request(it))],
    "requests.get": [lambda work, it: work.requests.get(it.owner, it.message)],
    "requests.list": [
        lambda work, it: work.requests.list(it.owner, "response", after=it.message, limit=20, newest_first=True),
        lambda work, it: work.requests.list(it.owner, "response", after=None, limit=20, newest_first=False),
    ],
    "requests.change": [lambda work, it: work.requests.change(it.owner, it.message, {})],
    "requests.delete": [lambda work, it: work.requests.delete(it.owner, it.message)],
    "reply_log.append": [
        lambda work, it: work.reply_log.append([LogEntry(it.owner, it.message, 0, TextKind.ANSWER, "x")])
    ],
    "reply_log.read": [lambda work, it: work.reply_log.read(it.owner, it.message)],
    "reply_log.delete": [lambda work, it: work.reply_log.delete(it.owner, it.message)],
    "reply_log.since": [
        lambda work, it: work.reply_log.since([LogCursor(it.owner, it.message, 0)], within=1000),
        lambda work, _: work.reply_log.since(SOME_CURSORS, within=1000),
    ],
    "workers.join": [lambda work, _: work.workers.join()],
    "workers.renew": [lambda work, _: work.workers.renew(WORKER)],
    "workers.is_alive": [lambda work, _: work.workers.is_alive(WORKER)],
    "workers.silent": [lambda work, _: work.workers.silent(longer_than=timedelta(seconds=5))],
    "workers.expire": [lambda work, _: work.workers.expire(WORKER, longer_than=timedelta(days=-1))],
    "unfinished.orphans": [lambda work, _: work.unfinished.orphans(limit=100)],
    "unfinished.still": [
        lambda work, it: work.unfinished.still([it.message]),
        lambda work, _: work.unfinished.still([cursor.reply_id for cursor in SOME_CURSORS]),
    ],
    "unfinished.of": [lambda work, it: work.unfinished.of(it.owner)],
}

ANY_WAY = {
    # Across owners by design.
    "tokens.delete_expired": "sessions refresh_tokens",
    "administration.users": "users user_roles",
    "owners.closed": "owners",
    "administration.closed_conversations": "conversations",
    "administration.only_admin": "user_roles roles users",
    "administration.lock": "roles",
    "administration.roles": "roles",  # there are two
    "sealed_keys.count": "model_configs",
    "sealed_keys.list": "model_configs",
    "unfinished.orphans": "conversations",  # what dead processes have left
    "workers.renew": "conversations",  # what this one is to stop
    "unfinished.of": "conversations",  # also by the owner: all of an account that is being deleted
    "model_configs.delete": "conversations",  # a reference that is set NULL
    "owners.stored_bytes": "user_storage",  # one row for each user
    "owners.delete": "reply_log",  # where little is at any time
}
"""Methods that may find the rows of these tables otherwise."""

READS_ALL = {*ANY_WAY, "messages.tree", "files.count"} - {"workers.renew"}
"""Methods that may read as much as there is: of one conversation, of a user's files, or of what has to be undone."""

READS_AT_MOST = {"sqlite": 10_000, "mysql": 450, "postgresql": 120}
"""Rows that a call may read for a page of 20 and what belongs to it, where MySQL counts each table that it makes for
itself; with SQLite, steps of its virtual machine."""


ITS_OWN = 2200
"""Rows of the early owner, and not those of all who wrote later, that a plan for these values may read."""


ADDING = (".add", ".write", ".add_users", ".restore", ".append", ".add_session", ".add_refresh_token")
"""Methods that may look for nothing."""


def deletes(method: str) -> bool:
    return method.endswith(".delete")


METHODS = sorted(CALLS, key=deletes)
"""Those that delete last: MySQL's statistics take what is undone for done."""


def test_every_foreign_key_has_its_index() -> None:
    """Or to delete what is referred to would read the whole table, which no plan tells."""
    for table in metadata.sorted_tables:
        for reference in table.foreign_key_constraints:
            width = len(reference.columns)
            starts = [set(columns[:width]) for columns, _ in keys(table.name).values()]
            assert set(reference.columns.keys()) in starts, reference.name


def test_every_method_of_every_repository_is_here() -> None:
    assert set(REPOSITORIES) == set(get_type_hints(UnitOfWork))
    methods = {
        f"{name}.{method}" for name, port in REPOSITORIES.items() for method in vars(port) if not method.startswith("_")
    }
    assert set(CALLS) == methods


# ---- the tests ----


@pytest.fixture(scope="module", params=KINDS)
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Kind and URL."""
    with migrated_database(request.param, tmp_path_factory.mktemp("databases")) as url:
        asyncio.run(filling.fill(url))
        yield request.param, url


async def looks(filled: tuple[str, str], call: Call, it: Whose) -> list[Look]:
    """At the statements of a call, which is undone."""
    kind, url = filled
    looking = Looking(kind)
    async with Database(url, pool_size=1) as database:
        event.listen(database._writing.engine, "before_cursor_execute", looking.before)
        async with database.unit_of_work() as work:
            await call(work, it)
    return looking.looks


@pytest.mark.parametrize("method", METHODS)
async def test_rows_are_found_by_an_index_that_starts_with_their_owner(filled: tuple[str, str], method: str) -> None:
    for call in CALLS[method]:
        for it in SOME_PLACES if deletes(method) else PLACES:
            found = await looks(filled, call, it)
            assert found or method.endswith(ADDING)
            for look in found:
                assert look.complaints(ANY_WAY.get(method)) == [], it.name
                assert look.reads <= READS_AT_MOST[filled[0]] or method in READS_ALL, (it.name, look)
                assert look.custom_reads <= ITS_OWN or it.owner == BUSY or method in ANY_WAY, (it.name, look)


SIBLINGS = {"parent_id", "conversation_id"}


@pytest.mark.parametrize("method", ["messages.get", "messages.history", "messages.last_reply"])
async def test_siblings_are_read_from_their_index_alone(filled: tuple[str, str], method: str) -> None:
    for call in CALLS[method]:
        for it in PLACES:
            accesses = [access for look in await looks(filled, call, it) for access in look.accesses]
            of_siblings = [access for access in accesses if set(access.columns) >= SIBLINGS]
            assert of_siblings, it.name
            assert all(access.index_only for access in of_siblings), (it.name, of_siblings)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id FROM messages WHERE content = 'x'",
        "SELECT id FROM messages WHERE id > 5 ORDER BY id",
        "SELECT content FROM messages WHERE user_id = 1 ORDER BY created_at DESC LIMIT 20",
        "SELECT title FROM conversations WHERE config_id = 1",
    ],
)
async def test_what_reads_too_much_is_found(filled: tuple[str, str], query: str) -> None:
    kind, url = filled
    async with Database(url) as database:
        transaction = Transaction(database._reading, "BEGIN")
        look = await transaction._write(lambda connection: LOOKS[kind](connection, query, ()))
        await transaction.close()
    assert look.complaints(None)


async def test_what_walks_an_index_is_counted(filled: tuple[str, str]) -> None:
    kind, url = filled
    query = f"SELECT max(role) FROM messages WHERE user_id = {BUSY} AND conversation_id = {LONG}"
    async with Database(url) as database:
        transaction = Transaction(database._reading, "BEGIN")
        look = await transaction._write(lambda connection: LOOKS[kind](connection, query, ()))
        await transaction.close()
    assert look.reads > READS_AT_MOST[kind]
