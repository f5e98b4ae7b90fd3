"""Clients and monitors that speak HTTP as it was: HEAD, and HTTP/1.0."""

import asyncio
import json

import pytest

from integration.http_app import Api

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def raw_answer(api: Api, request: str) -> tuple[str, dict[str, str], bytes]:
    """Until the server closes."""
    url = api.http._base_url
    assert url is not None
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(request.encode())
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return status, {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}, body


@pytest.mark.parametrize("path", ["/", "/health", "/ready"])
async def test_head_is_answered_as_get_is_without_the_body(stranger: Api, path: str) -> None:
    request = "{} " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    status, headers, body = await raw_answer(stranger, request.format("HEAD"))
    as_get = await raw_answer(stranger, request.format("GET"))
    assert (status, body) == ("HTTP/1.1 200 OK", b"")
    assert headers["content-length"] == str(len(as_get[2]))
    assert headers.keys() == as_get[1].keys()


async def test_head_elsewhere_is_not_allowed(stranger: Api) -> None:
    status, headers, body = await raw_answer(stranger, "HEAD /auth/me HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert status.split()[1] == "405"
    assert "GET" in headers["allow"]
    assert body == b""


@pytest.mark.parametrize("connection", ["", "Connection: keep-alive\r\n"])
async def test_http_1_0_gets_a_stream_without_chunks(ada: Api, connection: str) -> None:
    conversation = await ada.conversation()
    (await ada.post(f"/conversations/{conversation}/chat", {"content": "Hi"})).ok()
    head = f"HTTP/1.0\r\n{connection}Authorization: Bearer {ada.token}\r\n\r\n"
    status, headers, body = await raw_answer(ada, f"GET /auth/me/export {head}")
    assert status.endswith("200 OK")
    assert "transfer-encoding" not in headers
    assert [json.loads(line)["kind"] for line in body.splitlines()][-1] == "end"
    status, headers, body = await raw_answer(ada, f"GET /conversations/{conversation}/reply {head}")
    assert "transfer-encoding" not in headers
    assert body.startswith(b"event: reply.started\n")
    assert body.endswith(b"\n\n")


async def test_http_1_0_gets_a_length_where_there_is_one(ada: Api) -> None:
    _, headers, body = await raw_answer(ada, "GET /health HTTP/1.0\r\n\r\n")
    assert int(headers["content-length"]) == len(body) > 0
    assert headers["connection"] == "close"
