"""Files over HTTP."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import FormData

from integration.http_app import Answer, Api, api_of, settings_for

pytestmark = pytest.mark.asyncio(loop_scope="module")
SKY = b"The sky is blue."
MOST = 1_000_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stranger(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    folder = tmp_path_factory.mktemp("files")
    limits = {"MAX_FILE_BYTES": str(MOST), "MAX_FILES_PER_USER": "5", "MAX_STORAGE_BYTES": "3000000"}
    async with api_of(settings_for(folder, DATABASE_URL=database_url, **limits)) as api:
        yield api


@pytest_asyncio.fixture(loop_scope="module")
async def alice(stranger: Api) -> Api:
    return await stranger.user()


async def sent(api: Api, form: FormData) -> Answer:
    headers = {"Authorization": f"Bearer {api.token}"}
    async with api.http.post("/files", data=form, headers=headers) as response:
        return Answer(response.status, response.headers, await response.read())


def form_of(data: bytes = SKY, name: str = "sky.txt", media_type: str = "text/plain", **fields: str) -> FormData:
    form = FormData(fields, quote_fields=False)  # as browsers
    form.add_field("file", BytesIO(data), filename=name, content_type=media_type)
    return form


async def content(api: Api, file: Any, **headers: str) -> Answer:
    return await api.get(f"/files/{file['id']}/content", headers)


# ---- upload ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 16, 262_144, 600_000, MOST])
async def test_a_file_comes_back_as_it_was_sent(alice: Api, size: int) -> None:
    data = os.urandom(size)
    file = (await sent(alice, form_of(data, "漢 🦄.bin", "image/png", collection="notes"))).ok(201)
    assert {name: file[name] for name in ("name", "collection", "media_type", "size", "sha256")} == {
        "name": "漢 🦄.bin",
        "collection": "notes",
        "media_type": "image/png",
        "size": size,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert (await alice.get(f"/files/{file['id']}")).ok() == file
    answer = await content(alice, file)
    assert (answer.status, answer.body) == (200, data)
    assert answer.headers["Content-Length"] == str(size)
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''%E6%BC%A2%20%F0%9F%A6%84.bin"


async def test_the_body_may_be_the_file(alice: Api) -> None:
    for place, kind in enumerate(("application/octet-stream", "application/json", "text/html; charset=utf-8")):
        answer = await alice.call("POST", f"/files?name=a.html&collection={place}", SKY, {"Content-Type": kind})
        file = answer.ok(201)
        assert (file["name"], file["media_type"], file["collection"]) == ("a.html", kind, str(place))
        assert (await content(alice, file)).body == SKY


async def test_a_body_of_nothing_is_no_file(alice: Api) -> None:
    (await alice.call("POST", "/files?name=a")).problem(400, "validation_failed", "file")


async def test_the_same_bytes_are_the_same_file(alice: Api) -> None:
    first = (await sent(alice, form_of())).ok(201)
    assert (await sent(alice, form_of(name="other.txt"))).ok(201) == first
    other = (await sent(alice, form_of(collection="other"))).ok(201)
    assert other["id"] != first["id"]
    assert [file["id"] for file in (await alice.get("/files")).ok()["items"]] == [other["id"], first["id"]]


async def test_of_two_at_once_one_is_stored(alice: Api) -> None:
    answers = await asyncio.gather(*(sent(alice, form_of(os.urandom(0) + SKY * 30_000)) for _ in range(4)))
    assert sorted(answer.status for answer in answers) == [201] * 4
    assert len({answer.json["id"] for answer in answers}) == 1


@pytest.mark.parametrize(
    ("name", "stored"), [("/etc/passwd", "passwd"), ("C:\\notes\\a.txt", "a.txt"), ("../../x", "x"), (" a ", "a")]
)
async def test_folders_are_left_out(alice: Api, name: str, stored: str) -> None:
    assert (await sent(alice, form_of(name=name))).ok(201)["name"] == stored


@pytest.mark.parametrize(
    ("form", "field"),
    [
        (form_of(name="x" * 256), "name"),
        (form_of(collection="c" * 101), "collection"),
        (form_of(media_type="nonsense"), "media_type"),
        (FormData({"collection": "notes"}, default_to_multipart=True), "file"),
    ],
    ids=["name", "collection", "media_type", "file"],
)
async def test_what_breaks_a_rule_is_named(alice: Api, form: FormData, field: str) -> None:
    (await sent(alice, form)).problem(400, "validation_failed", field)
    assert (await alice.get("/files")).ok()["items"] == []


async def test_a_field_after_the_file_is_refused(alice: Api) -> None:
    form = form_of()
    form.add_field("collection", "notes")
    (await sent(alice, form)).problem(400, "validation_failed", "collection")
    assert (await alice.get("/files")).ok()["items"] == []


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", SKY),
        ("multipart/form-data; boundary=x", SKY),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=file\r\n\r\nhalf a file"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: nonsense\r\n\r\n\r\n--x--"),
        ("multipart/form-data; boundary=" + "x" * 3000, b"--x"),
    ],
)
async def test_what_is_no_form_is_refused(alice: Api, content_type: str, body: bytes) -> None:
    answer = await alice.call("POST", "/files", body, {"Content-Type": content_type})
    answer.problem(400, "validation_failed")
    assert (await alice.get("/files")).ok()["items"] == []


# ---- limits ----------------------------------------------------------------------------------------------


async def test_a_file_has_a_size_at_most(alice: Api) -> None:
    (await sent(alice, form_of(b"x" * (MOST + 1)))).problem(413, "file_too_large")
    (await sent(alice, form_of(b"x" * (MOST + 100_000)))).problem(413, "payload_too_large")
    assert (await alice.get("/files")).ok()["items"] == []


async def test_a_user_has_so_many(alice: Api) -> None:
    files = [await alice.file(bytes([number])) for number in range(5)]
    (await sent(alice, form_of())).problem(409, "too_many_files")
    assert (await sent(alice, form_of(b"\x00"))).ok(201) == files[0]
    (await alice.post(f"/files/{files[0]['id']}/delete")).ok()
    (await sent(alice, form_of())).ok(201)


async def test_files_fill_the_storage(alice: Api) -> None:
    for letter in "abc":
        answer = await sent(alice, form_of(letter.encode() * (MOST - 2000)))
    answer = await sent(alice, form_of(b"d" * MOST))
    answer.problem(413, "storage_full")
    newest = (await alice.get("/files")).ok()["items"][0]
    (await alice.post(f"/files/{newest['id']}/delete")).ok()
    (await sent(alice, form_of(b"e" * (MOST - 2000)))).ok(201)


async def test_a_client_that_leaves_stores_nothing(alice: Api) -> None:
    async def half() -> AsyncIterator[bytes]:
        yield b"x" * 300_000
        raise ConnectionResetError

    headers = {"Authorization": f"Bearer {alice.token}"}
    with pytest.raises((ConnectionResetError, OSError)):
        await alice.http.post("/files", data=half(), headers=headers)
    await asyncio.sleep(0.2)
    assert (await alice.get("/files")).ok()["items"] == []


# ---- list, ranges, delete --------------------------------------------------------------------------------


async def test_pages(alice: Api) -> None:
    ids = [(await alice.file(bytes([number])))["id"] for number in range(5)]
    first = (await alice.get("/files?limit=2")).ok()
    second = (await alice.get(f"/files?limit=2&before={ids[3]}")).ok()
    last = (await alice.get(f"/files?limit=2&before={ids[1]}")).ok()
    pages = (first, second, last)
    assert [[file["id"] for file in page["items"]] for page in pages] == [ids[:2:-1], ids[2:0:-1], ids[:1]]
    assert [page["has_more"] for page in pages] == [True, True, False]
    assert (await alice.get("/files?collection=none")).ok() == {"items": [], "has_more": False}


@pytest.mark.parametrize(
    ("asked", "status", "start", "end"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=262143-262144", 206, 262_143, 262_145),
        ("bytes=599999-", 206, 599_999, 600_000),
        ("bytes=-1", 206, 599_999, 600_000),
        ("bytes=-9999999", 206, 0, 600_000),
        ("bytes=5-9999999", 206, 5, 600_000),
        ("bytes=0-1,3-4", 200, 0, 600_000),
        ("bytes=-", 200, 0, 600_000),
        ("lines=1-2", 200, 0, 600_000),
        ("bytes=600000-", 416, 0, 0),
        ("bytes=2-1", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
    ],
)
async def test_a_range(alice: Api, asked: str, status: int, start: int, end: int) -> None:
    data = bytes(number % 251 for number in range(600_000))
    answer = await content(alice, await alice.file(data), Range=asked)
    assert answer.status == status
    if status == 416:
        assert answer.headers["Content-Range"] == "bytes */600000"
        return
    assert answer.body == data[start:end]
    assert answer.headers["Content-Length"] == str(end - start)
    assert answer.headers.get("Content-Range") == (f"bytes {start}-{end - 1}/600000" if status == 206 else None)


async def test_a_deleted_file_is_nowhere(alice: Api) -> None:
    file = await alice.file()
    (await alice.post(f"/files/{file['id']}/delete")).ok()
    for answer in (
        await alice.get(f"/files/{file['id']}"),
        await content(alice, file),
        await alice.post(f"/files/{file['id']}/delete"),
    ):
        answer.problem(404, "not_found")


# ---- keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scope", "status"), [("files", 201), ("chat", 403), ("read", 403)])
async def test_a_key_needs_its_scope(stranger: Api, alice: Api, scope: str, status: int) -> None:
    file = await alice.file(b"known")
    key = stranger.with_token((await alice.key(scopes=[scope]))["key"])
    assert (await sent(key, form_of())).status == status
    assert (await key.get(f"/files/{file['id']}")).status == (200 if status == 201 else 403)
