"""GET /auth/me/export and POST /conversations/import: JSON Lines."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from chatcore.histories.own import LINES_AT_ONCE, numbered, read
from chatcore.ports import LLMGateway
from chatcore_app import Settings
from chatcore_memory import ScriptedModel
from integration.http_app import EVENTS, PASSWORD, Answer, Api, api_of, provided, settings_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

THEN = "2025-05-04T03:02:01.000001Z"
HEADER = {"kind": "export", "format": "chatcore export", "version": 1}
END = {"kind": "end"}
CONVERSATION = {"kind": "conversation", "id": 1, "title": "Plans", "created_at": THEN, "updated_at": THEN}
MESSAGE = {
    "kind": "message",
    "id": 1,
    "conversation_id": 1,
    "role": "user",
    "content": "我想去巴黎 🦄",
    "created_at": THEN,
}


def jsonl(*lines: object) -> bytes:
    return b"".join(
        line + b"\n" if isinstance(line, bytes) else json.dumps(line, ensure_ascii=False).encode() + b"\n"
        for line in lines
    )


def lines_of(answer: Answer) -> list[dict[str, Any]]:
    assert answer.status == 200, answer
    assert answer.body.endswith(b"\n")
    return [json.loads(line) for line in answer.body.splitlines()]


async def brought(api: Api, *lines: object) -> Any:
    return (await sent(api, *lines)).ok()


async def sent(api: Api, *lines: object) -> Answer:
    async def one_by_one() -> AsyncIterator[bytes]:
        for line in lines:
            yield jsonl(line)

    return await streamed(api, one_by_one())


async def streamed(api: Api, body: AsyncIterator[bytes]) -> Answer:
    headers = {"Authorization": f"Bearer {api.token}"}
    async with api.http.post("/conversations/import", data=body, headers=headers) as response:
        return Answer(response.status, response.headers, await response.read())


def own_settings(folder: Path, database_url: str, **environ: str) -> Settings:
    """For one more application on the same database; but a file of SQLite's serves one."""
    return settings_for(folder, **({} if "sqlite" in database_url else {"DATABASE_URL": database_url}), **environ)


def without_ids(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ids are numbered anew, conversations and messages each by themselves; what is about the account is left out."""
    numbers = dict[tuple[str, int], int]()

    def number(kind: str, id_: int | None) -> int | None:
        return None if id_ is None else numbers.setdefault((kind, id_), len(numbers))

    found = list[dict[str, Any]]()
    for line in lines:
        if line["kind"] == "conversation":
            current = line["current_message_id"]
            found.append({**line, "id": number("conversation", line["id"]), "config_id": None})
            found[-1]["current_message_id"] = ("message", current)
        elif line["kind"] == "message":
            conversation = number("conversation", line["conversation_id"])
            parent, own = number("message", line["parent_id"]), number("message", line["id"])
            found.append({**line, "conversation_id": conversation, "parent_id": parent, "id": own})
    for line in found:
        if line["kind"] == "conversation":
            line["current_message_id"] = number(*line["current_message_id"])
    return found


async def talked(api: Api) -> int:
    """A conversation with branches, of which not the newest is shown."""
    conversation = await api.conversation("Travel plans 🏝️")
    path = f"/conversations/{conversation}"
    first = (await api.post(f"{path}/chat", {"content": '我想去巴黎 🦄\n"%_\\\u2028'})).ok()
    await api.post(f"{path}/chat", {"content": "And then?"})
    await api.post(f"{path}/regenerate")
    edited = (await api.post(f"{path}/messages/{first['message']['id']}/edit", {"content": "To Rome"})).ok()
    await api.post(f"{path}/branch", {"message_id": first["message"]["id"]})
    assert edited["message"]["id"] not in [message["id"] for message in await api.messages(conversation)]
    return conversation


@asynccontextmanager
async def reading_slowly(api: Api) -> AsyncIterator[asyncio.StreamReader]:
    """An export, of which no more is taken than is asked for, but for what the system keeps."""
    url = api.http._base_url
    assert url is not None
    reader, writer = await asyncio.open_connection(url.host, url.port, limit=1000)
    head = f"GET /auth/me/export HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {api.token}\r\n\r\n"
    writer.write(head.encode())
    try:
        yield reader
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


# ---- export ----------------------------------------------------------------------------------------------


async def test_everything_is_there_in_its_order_and_no_key(ada: Api) -> None:
    config = {"model_url": "https://own.test/v1", "model_name": "own", "api_key": "sk-0123456789wxyz"}
    await ada.post("/auth/config/create", config)
    conversation = await talked(ada)
    answer = await ada.get("/auth/me/export")
    assert answer.headers["Content-Type"].partition(";")[0] == "application/jsonl"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="chatcore-export.jsonl"'
    assert answer.headers["Cache-Control"] == "no-store"
    lines = lines_of(answer)
    assert {**lines[0], "exported_at": None} == {**HEADER, "exported_at": None}
    kinds = [line["kind"] for line in lines]
    assert kinds == ["export", "user", "session", "model_config", "conversation", *["message"] * 7, "end"]
    assert lines[-1] == {"kind": "end", "conversations": 1, "messages": 7, "images": 0}
    assert lines[1] == {"kind": "user", **(await ada.get("/auth/me")).ok()}
    assert lines[3] == {"kind": "model_config", **(await ada.get("/auth/config")).ok()["items"][0]}
    assert b"0123456789" not in answer.body
    assert PASSWORD.encode() not in answer.body
    assert b"hash" not in answer.body
    shown = await ada.messages(conversation)
    told = {line["id"]: line for line in lines if line["kind"] == "message"}
    places = {message_id: place for place, message_id in enumerate(told)}
    for message in told.values():  # each after the one that it follows
        assert message["parent_id"] is None or places[message["parent_id"]] < places[message["id"]]
    for message in shown:
        siblings = message.pop("siblings")
        assert told[message["id"]] == {"kind": "message", **message}
        assert set(siblings) <= set(told)
    assert lines[4]["current_message_id"] == shown[-1]["id"]
    assert lines[4]["titled_by_user"] is True


async def test_an_account_without_anything_is_exported(ada: Api) -> None:
    assert [line["kind"] for line in lines_of(await ada.get("/auth/me/export"))] == ["export", "user", "session", "end"]


async def test_an_export_ends_with_its_session(database_url: str, tmp_path: Path) -> None:
    """Within a second, in the middle, and without its last line."""
    settings = own_settings(tmp_path, database_url)
    async with api_of(settings, provided(LLMGateway, ScriptedModel("Hello"))) as stranger:
        ada = await stranger.user()
        big = [{**MESSAGE, "id": number, "content": "x" * 150_000} for number in range(1, 101)]
        await brought(ada, HEADER, CONVERSATION, *big, END)
        async with reading_slowly(ada) as reader:
            body = await reader.read(1000)
            (await ada.post("/auth/logout")).ok()
            await asyncio.sleep(1.5)
            while more := await reader.read(2**16):
                body += more
        assert b'{"kind":"export"' in body
        assert b'"kind":"end"' not in body
        assert len(body) < 15_000_000


async def test_a_slow_reader_holds_no_connection(database_url: str, tmp_path: Path) -> None:
    settings = own_settings(tmp_path, database_url, DATABASE_POOL_SIZE="1")
    async with api_of(settings, provided(LLMGateway, ScriptedModel("Hello"))) as stranger:
        ada = await stranger.user()
        big = [{**MESSAGE, "id": number, "content": "x" * 150_000} for number in range(1, 101)]
        await brought(ada, HEADER, CONVERSATION, *big, END)
        async with reading_slowly(ada) as one, reading_slowly(ada) as other:
            await asyncio.gather(one.read(1000), other.read(1000))
            await asyncio.sleep(0.5)
            async with asyncio.timeout(5):
                conversation = await ada.conversation("Meanwhile")
                (await ada.post(f"/conversations/{conversation}/chat", {"content": "Hi"})).ok()
            body = b""
            while more := await one.read(2**16):
                body += more
            assert b'"kind":"end"' in body[-200:]


# ---- there and back --------------------------------------------------------------------------------------


async def test_export_import_export(stranger: Api, ada: Api) -> None:
    await talked(ada)
    await ada.conversation("Empty")
    first = await ada.get("/auth/me/export")
    bob = await stranger.user()
    report = (await bob.call("POST", "/conversations/import", first.body)).ok()
    assert [taken.pop("id") > 0 for taken in report["taken"]] == [True, True]
    assert report == {
        "conversations": 2,
        "messages": 7,
        "refusals": 0,
        "refused": [],
        "taken": [
            {"title": "Travel plans 🏝️", "messages": 7, "left_out": {}},
            {"title": "Empty", "messages": 0, "left_out": {}},
        ],
    }
    second = await bob.get("/auth/me/export")
    assert without_ids(lines_of(second)) == without_ids(lines_of(first))
    assert (await bob.get("/auth/config")).ok()["items"] == []
    (me,) = [line for line in lines_of(second) if line["kind"] == "user"]
    assert me["roles"] == ["user"]
    assert not {line["id"] for line in lines_of(second) if line["kind"] == "message"} & {
        line["id"] for line in lines_of(first) if line["kind"] == "message"
    }


async def test_an_imported_conversation_goes_on(stranger: Api, ada: Api) -> None:
    """Sent, regenerated, edited, switched and streamed, as any other."""
    await talked(ada)
    bob = await stranger.user()
    await bob.call("POST", "/conversations/import", (await ada.get("/auth/me/export")).body)
    (conversation,) = (await bob.get("/conversations")).ok()["items"]
    path = f"/conversations/{conversation['id']}"
    before = await bob.messages(conversation["id"])
    assert [message["content"] for message in before if message["role"] == "user"][-1] == "And then?"
    assert len(before[-1]["siblings"]) == 2
    said = (await bob.post(f"{path}/chat", {"content": "More"})).ok()
    assert said["message"]["parent_id"] == before[-1]["id"]
    (await bob.post(f"{path}/regenerate")).ok()
    (await bob.post(f"{path}/branch", {"message_id": before[0]["siblings"][-1]})).ok()
    assert (await bob.messages(conversation["id"]))[0]["content"] == "To Rome"
    assert (await bob.get(f"{path}/reply", EVENTS)).status == 200
    assert len((await bob.get("/conversations/search?q=巴黎")).ok()["items"]) == 1


# ---- what is taken and what is not -----------------------------------------------------------------------


async def test_nothing_but_conversations_of_ones_own_is_made_of_what_a_line_says(stranger: Api, ada: Api) -> None:
    """Mass assignment, and a model URL that nobody has looked at."""
    bob, theirs = await stranger.user(), await ada.conversation("Hers")
    account = (await ada.get("/auth/me")).ok()
    own = {"user_id": account["id"], "owner": account["id"], "config_id": 1, "writing_reply_id": 1, "is_active": False}
    before = [(await bob.get(path)).ok() for path in ("/auth/me", "/auth/sessions", "/auth/config")]
    imported = await brought(
        bob,
        HEADER,
        {"kind": "user", **account, "roles": ["admin"], "username": "mallory"},
        {"kind": "session", "id": "a session of one's choice", "user_id": account["id"]},
        {"kind": "model_config", "id": 1, "model_url": "http://169.254.169.254/", "model_name": "m", "api_key": "sk-x"},
        {**CONVERSATION, **own, "id": theirs, "title": "x\r\nSet-Cookie: a=b"},
        {**MESSAGE, **own, "conversation_id": theirs, "status": "complete"},
        END,
    )
    del imported["taken"]
    assert imported == {"conversations": 1, "messages": 1, "refusals": 0, "refused": []}
    assert [(await bob.get(path)).ok() for path in ("/auth/me", "/auth/sessions", "/auth/config")] == before
    assert (await ada.get("/auth/me")).ok() == account
    assert [(each["id"], each["title"]) for each in (await ada.get("/conversations")).ok()["items"]] == [
        (theirs, "Hers")
    ]
    assert await ada.messages(theirs) == []
    (made,) = (await bob.get("/conversations")).ok()["items"]
    assert made["id"] != theirs
    assert made["config_id"] is None
    assert "Set-Cookie" not in (await bob.get("/auth/me/export")).headers
    (await bob.post(f"/conversations/{made['id']}/chat", {"content": "Hello"})).ok()  # nothing is being written there


async def test_every_line_that_is_refused_is_named(ada: Api) -> None:
    report = await brought(
        ada,
        HEADER,  # 1
        {**CONVERSATION, "id": 7, "title": "First"},
        {**MESSAGE, "conversation_id": 7},
        {"kind": "user", "id": 1, "roles": ["admin"]},
        {"kind": "something new"},  # 5
        b"",
        CONVERSATION,
        MESSAGE,
        {**MESSAGE, "id": 2, "role": "wizard"},
        {**MESSAGE, "id": 3},  # 10
        {**CONVERSATION, "created_at": "2025-05-04T03:02:01"},
        MESSAGE,
        {**CONVERSATION, "id": 2},
        b'{"kind": "message", ',
        {**CONVERSATION, "id": 3},  # 15
        b'{"kind": "message", "content": "\xff"}',
        {**CONVERSATION, "id": 4},
        b"[" * 40_000,
        {**CONVERSATION, "id": 9, "title": "Last"},
        END,  # 20
    )
    assert [refusal["line"] for refusal in report["refused"]] == [9, 14, 16, 18]
    assert report["refused"][0]["reason"].startswith("role: ")
    assert (report["conversations"], report["messages"], report["refusals"]) == (2, 1, 4)
    assert [item["title"] for item in (await ada.get("/conversations")).ok()["items"]] == ["Last", "First"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        b"{}",
        b"nonsense",
        b"[" * 40_000,
        b'"\xff"',
        jsonl(CONVERSATION, MESSAGE),
        jsonl({**HEADER, "format": "something else"}),
        jsonl({**HEADER, "version": 2}),
    ],
)
async def test_what_is_no_export_is_refused(ada: Api, body: bytes) -> None:
    (await ada.call("POST", "/conversations/import", body)).problem(400, "validation_failed", "body")
    assert (await ada.get("/conversations")).ok()["items"] == []


async def test_an_import_has_a_limit_of_its_own(database_url: str, tmp_path: Path) -> None:
    settings = own_settings(tmp_path, database_url, MAX_BODY_BYTES="10000", MAX_IMPORT_BYTES="300000")
    async with api_of(settings, provided(LLMGateway, ScriptedModel("Hello"))) as stranger:
        ada = await stranger.user()
        fits = {**MESSAGE, "content": "x" * 250_000}
        assert (await brought(ada, HEADER, CONVERSATION, fits, END))["messages"] == 1
        too_much = await sent(ada, HEADER, CONVERSATION, fits, {**fits, "id": 2}, END)
        too_much.problem(413, "payload_too_large")
        (await ada.call("POST", "/conversations/create", b" " * 11_000)).problem(413, "payload_too_large")
        assert len((await ada.get("/conversations")).ok()["items"]) == 1


async def test_an_import_ends_with_its_session(database_url: str, tmp_path: Path) -> None:
    """What has come whole is kept; a client that says no more holds nothing."""
    settings = own_settings(tmp_path, database_url)
    async with api_of(settings) as stranger:
        ada = await stranger.user()
        begun = asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield jsonl(HEADER, CONVERSATION, MESSAGE, {**CONVERSATION, "id": 2})
            begun.set()
            await asyncio.sleep(20)
            yield jsonl(END)

        sending = asyncio.create_task(streamed(ada, slowly()))
        await begun.wait()
        await asyncio.sleep(0.3)
        assert len((await ada.get("/conversations")).ok()["items"]) == 1
        (await ada.post("/auth/logout")).ok()
        async with asyncio.timeout(10):
            (await sending).problem(401, "unauthenticated")


# ---- lines -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [b"[\n", b"\n", b'{"kind":"user"}\n', jsonl(MESSAGE), b"x" * 10_000])
async def test_others_have_their_turn_while_lines_are_read(line: bytes) -> None:
    """Though all of the body is there at once."""
    body = jsonl(HEADER, CONVERSATION) + line * (256 * 1024 // len(line))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield body

    beside = asyncio.create_task(others())
    async for _ in read(chunks()):
        pass
    beside.cancel()
    assert turns >= max(body.count(b"\n") // LINES_AT_ONCE, len(body) // 65536) >= 3


async def test_nonsense_is_not_read_to_its_end(ada: Api) -> None:
    """The answer comes while the client goes on sending."""
    answer = await ada.call("POST", "/conversations/import", jsonl(HEADER, CONVERSATION) + b"[\n" * 400_000)
    report = answer.ok()
    assert (report["conversations"], report["refusals"]) == (0, 2)
    assert report["refused"][-1]["reason"].startswith("is the last that was read")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
async def test_lines_are_the_same_however_they_are_cut(size: int) -> None:
    body = b"one\n\ntwo and more\n12345678\n123456789\nlast"

    async def chunks() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    found = [line async for line in numbered(chunks(), longest=8)]
    assert found == [(1, b"one"), (2, b""), (3, None), (4, b"12345678"), (5, None), (6, b"last")]


async def test_a_title_that_no_answer_can_have_is_refused_and_told(ada: Api) -> None:
    """JSON can say half of a pair of surrogates, which no UTF-8 has."""
    times = '"created_at": "2025-01-01T00:00:00Z", "updated_at": "2025-01-01T00:00:00Z"'
    lines = [
        '{"kind": "export", "format": "chatcore export", "version": 1}',
        f'{{"kind": "conversation", "id": 1, "title": "Half \\ud83d", {times}}}',
        '{"kind": "end"}',
    ]

    async def body() -> AsyncIterator[bytes]:
        yield "\n".join(lines).encode()

    (refused,) = (await streamed(ada, body())).ok()["refused"]
    assert (refused["line"], refused["title"]) == (2, "Half \ufffd")
    assert refused["reason"].startswith("title: ")
