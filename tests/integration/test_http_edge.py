"""What a client may send before its request is known: how much, how slowly, and in which form."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from pathlib import Path

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from chatcore.ports import LLMGateway
from chatcore_http import body_limits, http_protocol
from chatcore_http.http_protocol import BoundedHTTP
from chatcore_memory import ScriptedModel, Stall
from integration.http_app import CurrentModel, provided, settings_for
from integration.processes import serving
from integration.raw_http import Line, line, line_to, memory_of
from integration.ws_client import Served, connected, served

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = CurrentModel()
HOST = b"Host: test\r\n"
GET = b"GET /health HTTP/1.1\r\n" + HOST
POST = b"POST /auth/login HTTP/1.1\r\n" + HOST
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
HEADER_BYTES = 32 * 1024
MANY = 60_000_000
"""Bytes, of which no server needs to look at more than the first few."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    settings = settings_for(tmp_path_factory.mktemp("data"), HEADER_TIMEOUT="60")
    async with served(settings, provided(LLMGateway, MODEL)) as house:
        yield house


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hasty(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """A server that waits for nothing for long."""
    settings = settings_for(
        tmp_path_factory.mktemp("data"),
        HEADER_TIMEOUT="0.5",
        BODY_TIMEOUT="1",
        MAX_UNFINISHED_BODY_BYTES="2000000",
    )
    async with served(settings, provided(LLMGateway, MODEL)) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def opened(house: Served) -> AsyncIterator[Line]:
    opened = await line(house.stranger)
    yield opened
    opened.writer.close()


async def healthy(opened: Line) -> None:
    status, _, answer = await opened.answer()
    assert (status, answer) == (200, {"status": "healthy"})


def head_of(headers: int, size: int) -> bytes:
    """Of a GET with so many headers, which are as large as this together."""
    few = HOST + b"".join(b"X-%d: a\r\n" % number for number in range(headers - 2))
    return b"GET /health HTTP/1.1\r\n" + few + b"Last: %b\r\n\r\n" % (b"b" * (size - len(few) - len(b"Last: \r\n")))


# ---- the request line ------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [1, 100])
async def test_a_target_may_have_8_kib(opened: Line, pieces: int) -> None:
    target = b"/health?" + b"a" * (8 * 1024 - len("/health?"))
    for number, fits in ((0, True), (1, False)):
        request = b"GET %b HTTP/1.1\r\n" % (target + b"a" * number) + HOST + b"\r\n"
        step = -(-len(request) // pieces)
        for start in range(0, len(request), step):
            await opened.say(request[start : start + step])
        await (healthy(opened) if fits else opened.refusal(414, "uri_too_long"))


async def test_of_a_target_without_end_only_the_beginning_is_read(opened: Line) -> None:
    sending = asyncio.create_task(opened.endless(b"a" * 60_000))
    opened.writer.write(b"GET /")
    await opened.refusal(414, "uri_too_long")
    with pytest.raises(ConnectionError):
        await sending


# ---- headers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fits", "headers", "size"),
    [
        (True, 2, HEADER_BYTES),
        (False, 2, HEADER_BYTES + 1),
        (True, 100, HEADER_BYTES),
        (False, 101, 10_000),
        (True, 100, 10_000),
    ],
)
async def test_headers_may_have_32_kib_and_be_a_hundred(opened: Line, fits: bool, headers: int, size: int) -> None:
    await opened.say(head_of(headers, size))
    await (healthy(opened) if fits else opened.refusal(431, "headers_too_large"))


ENDLESS = {
    "lines": (GET, b"a: b\r\n" * 1000),
    "a value": (GET + b"a: ", b"b" * 6000),
    "a name": (GET, b"a" * 6000),
    "empty lines": (b"", b"\r\n" * 3000),
    "blanks": (b"GET ", b" " * 6000),
    "blanks before a value": (GET + b"a:", b" " * 6000),
    "trailers": (POST + CHUNKED + b"0\r\n", b"a: b\r\n" * 1000),
    "a trailer": (POST + CHUNKED + b"0\r\na: ", b"b" * 6000),
    "a chunk's extension": (POST + CHUNKED + b"1;", b"a" * 6000),
    "a chunk's size": (POST + CHUNKED, b"0" * 6000),
    "headers of a handshake": (
        b"GET /conversations/ws/1 HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
        b"a: b\r\n" * 1000,
    ),
}


@pytest.mark.parametrize("kind", ENDLESS)
async def test_of_what_has_no_end_only_the_beginning_is_read(opened: Line, kind: str) -> None:
    beginning, piece = ENDLESS[kind]
    opened.writer.write(beginning)
    sending = asyncio.create_task(opened.endless(piece))
    await opened.refusal(431, "headers_too_large")
    with pytest.raises(ConnectionError):
        await sending
    assert opened.sent < http_protocol.LINGER_BYTES + 30_000_000  # what the system's buffers hold comes on top


async def test_trailers_are_not_taken_for_headers(opened: Line, house: Served) -> None:
    ada = await house.stranger.user()
    request = b"POST /conversations/create HTTP/1.1\r\n" + HOST + CHUNKED
    await opened.say(request + b"2\r\n{}\r\n0\r\nAuthorization: Bearer %b\r\n\r\n" % (ada.token or "").encode())
    assert (await opened.answer())[0] == 401


@pytest.mark.parametrize("piece", [b"a: b\r\n" * 10_000, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n" * 2000])
async def test_what_is_sent_without_end_leaves_no_memory_behind(tmp_path: Path, piece: bytes) -> None:
    async with serving(tmp_path) as server:
        (await server.api.get("/health")).ok()
        before, most = memory_of(server.pid), 0
        attacker = await line(server.api)
        attacker.writer.write(GET)
        sending = asyncio.create_task(attacker.endless(piece))
        while attacker.sent < MANY and not sending.done():
            (await server.api.get("/health")).ok()
            most = max(most, memory_of(server.pid))
        sending.cancel()
        assert most - before < 32_000_000


# ---- forms -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        GET + b"Host: other\r\n\r\n",
        GET + b"host: test\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nA: b\r\n\r\n",
        b"GET /health HTTP/1.0\r\n" + 2 * HOST + b"\r\n",
        GET + b"A: b\r\n c\r\n\r\n",
        GET + b"A : b\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        POST + CHUNKED + b"nonsense\r\n",
        b"CONNECT test:443 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"CONNECT test:443 HTTP/1.1\r\n" + HOST + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        GET + b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\n{}",
        GET + b"Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_refused(opened: Line, request_: bytes) -> None:
    with capture_logs() as logs:
        await opened.say(request_)
        await opened.refusal(400, "malformed_request")
    assert {entry["log_level"] for entry in logs} == {"info"}


async def test_an_old_client_need_not_name_a_host(opened: Line) -> None:
    await opened.say(b"GET /health HTTP/1.0\r\n\r\n")
    await healthy(opened)


H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


@pytest.mark.parametrize("pieces", [1, 3, 1000])
@pytest.mark.parametrize("chunked", [True, False])
async def test_an_upgrade_that_is_not_offered_is_ignored(opened: Line, pieces: int, chunked: bool) -> None:
    """Its body is its own, never another request (RFC 9110 §7.8); Java's client asks for HTTP/2 this way."""
    body = b'{"refresh_token": "GET /health HTTP/1.1"}'
    if chunked:
        sent = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        sent = b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    request = POST.replace(b"login", b"refresh") + H2C + b"Content-Type: application/json\r\n" + sent
    for _ in range(2):
        step = -(-len(request) // pieces)
        for start in range(0, len(request), step):
            await opened.say(request[start : start + step])
        status, _, problem = await opened.answer()
        assert (status, problem["code"]) == (401, "unauthenticated")
    await opened.say(2 * (GET + H2C + b"\r\n"))
    for _ in range(2):
        await healthy(opened)


async def test_in_an_envelope_refusals_are_in_one_too(tmp_path: Path) -> None:
    async with served(settings_for(tmp_path, RESPONSE_ENVELOPE="code")) as house:
        opened = await line(house.stranger)
        await opened.say(GET + HOST + b"\r\n")
        status, headers, answer = await opened.answer()
        assert (status, headers["content-type"]) == (400, "application/json")
        assert (answer["code"], answer["data"]["code"]) == (0, "malformed_request")
        opened.writer.close()


# ---- several requests on one connection ------------------------------------------------------------------


async def test_requests_that_come_at_once_are_answered_in_their_order(opened: Line, house: Served) -> None:
    """And the others are parsed when it is their turn."""
    asked = [b"/health", b"/nope", b"/auth/me"] * 200
    bodies = [b"POST %b HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n12345" % path for path in asked]
    sending = asyncio.create_task(opened.say(b"".join(bodies)))
    waiting = 0
    for path in asked:
        status, _, _ = await opened.answer()
        assert status == {b"/health": 405, b"/nope": 404, b"/auth/me": 405}[path]
        waiting = max(waiting, *(len(it.pipeline) for it in connections_of(house)))
    await sending
    assert waiting < 100  # no more than a few KiB of them


async def test_a_connection_that_waits_for_its_next_request_keeps_nothing_of_the_last(
    opened: Line, house: Served
) -> None:
    await opened.say(head_of(100, 30_000))
    await healthy(opened)
    address = opened.writer.get_extra_info("sockname")
    (connection,) = [it for it in connections_of(house) if it.client == address]
    assert (connection._unread.obj, connection.headers) == (b"", [])
    assert not connection.scope
    assert not connection.cycle
    await opened.say(head_of(100, 30_000))
    await healthy(opened)


def connections_of(house: Served) -> Iterator[BoundedHTTP]:
    yield from (it for it in house.server.server_state.connections if isinstance(it, BoundedHTTP))


async def test_a_body_in_many_small_chunks_lets_others_have_their_turn(
    opened: Line, house: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 0
    parse = BoundedHTTP._parse

    def counting(self: BoundedHTTP) -> None:
        nonlocal most
        parse(self)
        most = max(most, self._findings)

    monkeypatch.setattr(BoundedHTTP, "_parse", counting)
    content = json.dumps({"username": "nobody", "password": "a" * 40_000}).encode()
    await opened.say(POST + CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in content) + b"0\r\n\r\n")
    assert (await opened.answer())[0] in (400, 401)
    assert 0 < most < 2000


async def test_an_answer_that_has_begun_is_not_followed_by_a_refusal(opened: Line, house: Served) -> None:
    ada, stall = await house.stranger.user(), Stall()
    MODEL.model = ScriptedModel("Hel", stall, "lo")
    body = b'{"content":"Hi","stream":true}'
    path = f"/conversations/{await ada.conversation()}/chat".encode()
    head = b"POST %b HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n"
    await opened.say(head % (path, (ada.token or "").encode(), len(body)) + body + b"nonsense\r\n\r\n")
    assert b"HTTP/1.1" not in await opened.reader.read()
    stall.release()


# ---- time ------------------------------------------------------------------------------------------------


async def test_who_says_nothing_is_left(hasty: Served) -> None:
    opened = await line(hasty.stranger)
    assert await opened.reader.read() == b""
    opened.writer.close()


@pytest.mark.parametrize("beginning", [b"", GET + b"\r\n"])
@pytest.mark.parametrize("data", [b"G", b"GET /" + b"a" * 10_000, GET + b"a: b\r\n" * 80])
async def test_a_head_that_drips_is_answered_and_left(hasty: Served, beginning: bytes, data: bytes) -> None:
    opened = await line(hasty.stranger)
    if beginning:
        await opened.say(beginning)
        await healthy(opened)
    dripping = asyncio.create_task(opened.drip(data, pause=0.1))
    await opened.refusal(408, "request_timeout")
    dripping.cancel()
    opened.writer.close()


async def test_empty_lines_between_requests_hold_no_connection(hasty: Served) -> None:
    opened = await line(hasty.stranger)
    await opened.say(GET + b"\r\n")
    await healthy(opened)
    dripping = asyncio.create_task(opened.drip(b"\r\n" * 1000, pause=0.1))
    assert await opened.reader.read() == b""
    dripping.cancel()
    opened.writer.close()


async def test_a_connection_that_is_used_lives(hasty: Served) -> None:
    """Longer than a head may take, and a socket too."""
    ada = await hasty.stranger.user()
    opened = await line(hasty.stranger)
    async with connected(ada, await ada.conversation()) as socket:
        for _ in range(4):
            await opened.say(GET + b"\r\n")
            await healthy(opened)
            await asyncio.sleep(0.3)
        assert (await socket.ask())[-1].type == "reply.completed"
    opened.writer.close()


@pytest.mark.parametrize("size", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("beginning", [b"", b"4000\r\n{"])
async def test_a_body_that_stops_is_answered_and_left(
    hasty: Served, size: str, beginning: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "LINGER_SECONDS", 0.1)
    opened = await line_to(hasty.stranger, "/auth/login", size, token=None)
    await opened.say(beginning)
    await opened.refusal(408, "request_timeout")
    opened.writer.close()


async def test_a_body_that_drips_is_answered_and_left(hasty: Served) -> None:
    opened = await line_to(hasty.stranger, "/auth/login", "Content-Length: 100000", token=None)
    dripping = asyncio.create_task(opened.drip(b"{" * 100_000, pause=0.05))
    await opened.refusal(408, "request_timeout")
    dripping.cancel()
    opened.writer.close()


async def test_a_slow_body_that_makes_progress_lives(hasty: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limits, "SLOWEST", 10)
    ada = await hasty.stranger.user()
    body = b'{"title": "%b"}' % (b"a" * 25)
    opened = await line_to(ada, "/conversations/create", f"Content-Length: {len(body)}", token=ada.token)
    await opened.drip(body, pause=0.05)
    assert (await opened.answer())[0] == 201
    opened.writer.close()


async def test_a_body_that_was_answered_before_its_end_holds_no_connection(hasty: Served) -> None:
    opened = await line_to(hasty.stranger, "/conversations/create", "Content-Length: 1000", token=None)
    assert (await opened.answer())[0] == 401
    dripping = asyncio.create_task(opened.drip(b"{" * 1000, pause=0.1))
    assert await opened.reader.read() == b""
    dripping.cancel()
    opened.writer.close()


# ---- bodies that are not complete ------------------------------------------------------------------------


async def test_of_all_unfinished_bodies_so_many_bytes_are_held(hasty: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """One address may hold a quarter; and what comes complete is answered meanwhile."""
    monkeypatch.setattr(body_limits, "SLOWEST", 0.001)
    lines = [await line_to(hasty.stranger, "/auth/login", "Content-Length: 300000", token=None) for _ in range(3)]
    first, second, third = lines
    for one in (first, second, third):
        await one.say(b" " * 200_000)
        await hasty.stranger.get("/health")
    status, headers, problem = await third.answer()
    assert (status, problem["code"], headers["connection"]) == (503, "unavailable", "close")
    assert int(headers["retry-after"]) > 0
    small = {"username": "nobody", "password": "x" * 10}
    (await hasty.stranger.post("/auth/login", small)).problem(401, "invalid_credentials")
    for one in (first, second):
        await one.say(b" " * 100_000)
        assert (await one.answer())[0] == 400
    again = await line_to(hasty.stranger, "/auth/login", "Content-Length: 300000", token=None)
    for _ in range(2):
        await again.say(b" " * 150_000)
    assert (await again.answer())[0] == 400
    for one in (*lines, again):
        one.writer.close()


async def test_the_longest_message_may_have_every_character_escaped(house: Served) -> None:
    """In a body and in a frame."""
    ada = await house.stranger.user()
    MODEL.model = ScriptedModel("Hello")
    conversation, content = await ada.conversation(), "\N{UNICORN FACE}" * 200_000
    path = f"/conversations/{conversation}/chat"
    (await ada.call("POST", path, BytesIO(json.dumps({"content": content, "stream": False}).encode()))).ok()
    async with connected(ada, conversation) as socket:
        await socket.connection.send_str(json.dumps({"type": "send", "content": content}))
        await socket.rest()
    told = [message["content"] for message in await ada.messages(conversation) if message["role"] == "user"]
    assert told == [content, content]


async def test_of_an_import_only_what_is_not_read_yet_counts(hasty: Served) -> None:
    ada = await hasty.stranger.user()
    size = 2_000_000
    opened = await line_to(ada, "/conversations/import", f"Content-Length: {size}", token=ada.token)
    lines = b'{"kind":"export","format":"chatcore export","version":1}\n'
    lines += b" " * (size - len(lines) - 1) + b"\n"
    for start in range(0, size, 100_000):
        await opened.say(lines[start : start + 100_000])
        await ada.get("/health")
    status, _, answer = await opened.answer()
    assert status == 200, answer
    opened.writer.close()


@pytest.mark.parametrize("path", ["/auth/login", "/conversations/create", "/conversations/import", "/v1/auth/token"])
@pytest.mark.parametrize("size", ["Content-Length: 10000", "Transfer-Encoding: chunked"])
async def test_a_client_that_leaves_in_the_middle_is_no_error(
    house: Served, path: str, size: str, caplog: pytest.LogCaptureFixture
) -> None:
    ada = await house.stranger.user()
    with capture_logs() as logs:
        opened = await line_to(ada, path, size, token=ada.token)
        await opened.say(b"4000\r\n{")
        await ada.get("/health")
        opened.writer.close()
        async with asyncio.timeout(30):
            while not any(entry.get("path") == path for entry in logs):
                await asyncio.sleep(0.01)
    assert [entry["status"] for entry in logs if entry.get("path") == path] == [400]
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")]
