"""Nothing that a user may type for a model URL makes the server connect to where it must not.

A real server on loopback counts connections; names are looked up by a resolver of the test's own.
"""

import asyncio
import itertools
import socket
import unicodedata
from collections.abc import AsyncIterator, Iterator
from ipaddress import IPv4Address, IPv6Address
from threading import Event

import aiohttp
import pytest
from aiohttp.abc import ResolveResult

from chatcore.bounds import MODEL
from chatcore.entities import OwnerId
from chatcore.errors import ModelError, ModelTimeout, ModelURLRefused
from chatcore.ports import ModelEndpoint, Prompt
from chatcore_openai import LOOPBACK, OpenAIGateway
from chatcore_openai.egress import Egress
from chatcore_openai.names import Address, Names
from integration.model_server import ModelServer, plain

PROMPT = Prompt(messages=[])
OWNER = OwnerId(1)

PRIVATE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.254",
    "100.64.0.1",
    "100.127.255.254",
    "127.0.0.1",
    "127.1.2.3",
    "127.255.255.254",
    "169.254.0.1",
    "172.16.0.1",
    "172.31.255.254",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.254",
    "198.18.0.1",
    "198.19.255.254",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
]
METADATA = [
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
]
PRIVATE_6 = [
    "::",
    "::1",
    "fe80::1",
    "fec0::1",
    "fc00::1",
    "fd00::1",
    "ff02::1",
    "100::1",
    "2001:db8::1",
    "3fff::1",
    "2001::1",
    "2001:10::1",
    "5f00::1",
    "64:ff9b:1::1",
    "4000::1",
    "fd00:ec2::254",
    "fd20:ce::254",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "172.32.0.1",
    "192.167.255.255",
    "2606:4700:4700::1111",
    "2a00:1450::1",
    "64:ff9b::808:808",
]


def inside(address: str) -> Iterator[str]:
    """IPv6 addresses that lead to an IPv4 one."""
    number = int(IPv4Address(address))
    yield str(IPv6Address((0xFFFF << 32) | number))
    yield str(IPv6Address(number))
    yield str(IPv6Address((0x0064_FF9B << 96) | number))
    yield str(IPv6Address((0x2002 << 112) | (number << 80) | 1))
    yield str(IPv6Address((0x2001_0000 << 96) | (0x0808_0808 << 64) | (number ^ 0xFFFF_FFFF)))
    yield str(IPv6Address((0xFFFF_0000 << 32) | number))
    yield str(IPv6Address((0xFD00 << 112) | (0x5EFE << 32) | number))
    yield str(IPv6Address((0xFD00 << 112) | (0x0200_5EFE << 32) | number))


def tunnelled(address: str) -> Iterator[str]:
    """The same by what only an operator's own network leads to."""
    number, local = int(IPv4Address(address)), 0x0064_FF9B_0001 << 80
    yield str(IPv6Address((0x2001_0000 << 96) | (number << 64) | 0xF7F7_F7F7))
    yield str(IPv6Address(local | number))
    yield str(IPv6Address(local | (number >> 16 << 64) | ((number & 0xFFFF) << 40)))
    yield str(IPv6Address(local | (number >> 24 << 64) | ((number & 0xFF_FFFF) << 32)))
    yield str(IPv6Address(local | (number << 24)))
    yield str(IPv6Address((0x2600_0001 << 96) | number))


def spelled(address: str) -> Iterator[str]:
    """Other ways to write an IPv4 address, which some programs take for it."""
    a, b, c, d = (int(part) for part in address.split("."))
    number = int(IPv4Address(address))
    yield address
    yield str(number)
    yield hex(number)
    yield f"0{number:o}"
    yield f"{a}.{number & 0xFFFFFF}"
    yield f"{a}.{b}.{number & 0xFFFF}"
    yield f"0{a:o}.0{b:o}.0{c:o}.0{d:o}"
    yield f"{a:#x}.{b:#x}.{c:#x}.{d:#x}"
    yield f"{a:#x}.0{b:o}.{c}.{d}"
    yield address + "."
    yield "".join(chr(ord(each) + 0xFEE0) if each.isdigit() else each for each in address)
    yield address.replace(".", "\u3002")
    yield address.replace("1", "\u2460")


def hosts() -> Iterator[str]:
    for address in (*PRIVATE, *METADATA):
        yield address
        yield from (f"[{each}]" for each in inside(address))
    for address in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.0.1"):
        yield from spelled(address)
    yield from (f"[{each}]" for each in PRIVATE_6)
    yield from (
        "localhost",
        "LOCALHOST",
        "localhost.",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:0:0:1]",
        "[::1%25lo]",
    )


FRAMES = [
    ("http://user:pass@", "/v1"),
    ("http://example.com@", "/v1"),
    ("http://example.com#@", "/v1"),
    ("http://example.com\\@", "/v1"),
    ("http:\\\\", "/v1"),
    ("http:/", "/v1"),
    ("http:", "/v1"),
    ("//", "/v1"),
    ("ftp://", "/v1"),
    ("file://", "/v1"),
    ("gopher://", "/_x"),
    ("unix://", "/v1"),
    ("http://", "/v1?x"),
    ("http://", "/v1#x"),
    ("http://\t", "/v1"),
    ("http://\r\n", "/v1"),
    (" http://", "/v1"),
    ("http://", "/v1\0"),
]


def forms(port: int) -> list[tuple[str, str]]:
    """URLs, each with its host as it is written there."""
    framed = [("http://", host, "/v1") for host in dict.fromkeys(hosts())]
    framed += [("https://", host, "/v1") for host in ("127.0.0.1", "[::1]", "localhost", "2130706433")]
    framed += [(before, "127.0.0.1", after) for before, after in FRAMES]
    return [(f"{before}{host}:{port}{after}", host) for before, host, after in framed]


def urls(port: int) -> list[str]:
    return [url for url, _ in forms(port)]


def meant(host: str) -> list[str]:
    """The addresses that a program which takes every form for one would dial."""
    text = unicodedata.normalize("NFKC", host).replace("\u3002", ".").strip("[].").partition("%")[0].lower()
    if text == "localhost":
        return ["127.0.0.1", "::1"]
    return [str(IPv6Address(text)) if ":" in text else socket.inet_ntoa(socket.inet_aton(text))]


class Listening:
    """Counts who connects to loopback."""

    def __init__(self) -> None:
        self.hits = 0
        self.port = 0

    async def hit(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.hits += 1
        writer.close()


@pytest.fixture
async def listening() -> AsyncIterator[Listening]:
    counter = Listening()
    servers = [await asyncio.start_server(counter.hit, "127.0.0.1", 0)]
    counter.port = servers[0].sockets[0].getsockname()[1]
    if socket.has_ipv6:
        servers.append(await asyncio.start_server(counter.hit, "::1", counter.port))
    yield counter
    for server in servers:
        server.close()


def at(url: str) -> ModelEndpoint:
    return ModelEndpoint(url=url, model="m", api_key="sk-secret")


async def call(gateway: OpenAIGateway, url: str) -> ModelError | None:
    """What a call of an endpoint that a user has stored comes to."""
    try:
        async for _ in gateway.stream(at(url), PROMPT):
            pass
    except ModelError as error:
        return error
    return None


def test_there_are_more_than_three_hundred_forms() -> None:
    assert len(set(urls(8000))) >= 300


async def test_no_form_is_saved(listening: Listening) -> None:
    async with OpenAIGateway() as gateway:
        for url in urls(listening.port):
            assert MODEL["model_url"].broken(url, "model_url") is not None or not await gateway.may_call(
                url, owner=OWNER
            ), url
    assert listening.hits == 0


async def test_no_form_is_connected_to(listening: Listening) -> None:
    """Even if it had been stored."""
    async with OpenAIGateway() as gateway:
        for url in urls(listening.port):
            assert isinstance(await call(gateway, url), ModelError), url
    assert listening.hits == 0


async def test_every_numeric_form_ends_in_the_same_refusal(listening: Listening) -> None:
    async with OpenAIGateway() as gateway:
        for address in (*PRIVATE, *METADATA):
            error = await call(gateway, f"http://{address}:{listening.port}/v1")
            assert isinstance(error, ModelURLRefused), address
            assert error.detail == ModelURLRefused.default_detail


async def test_no_form_is_reached_by_a_redirect(listening: Listening) -> None:
    async with ModelServer() as server, OpenAIGateway(allow=[f"http://127.0.0.0/8:{server.port}"]) as gateway:
        for url in urls(listening.port):
            location = url.translate({0: None, 10: None, 13: None})  # what no header can hold; all else in UTF-8
            server.script(plain(307, "elsewhere", Location=location))
            assert isinstance(await call(gateway, server.url), ModelURLRefused), url
    assert listening.hits == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_to_where_calls_may_go(status: int) -> None:
    async with ModelServer() as server, OpenAIGateway(allow=LOOPBACK) as gateway:
        server.script(plain(status, "elsewhere", Location=f"{server.url}/elsewhere"))
        assert isinstance(await call(gateway, server.url), ModelURLRefused)
        assert [request.path for request in server.requests] == ["/v1/chat/completions"]


class Found:
    """What names are looked up as: one answer after the other, the last one again and again."""

    def __init__(self) -> None:
        self._answers: list[list[str]] = []

    def are(self, *answers: list[str]) -> None:
        self._answers = [*answers]

    def look_up(self, host: str) -> list[Address]:
        addresses = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [Address(socket.AF_INET6 if ":" in address else socket.AF_INET, address) for address in addresses]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Found:
    names = Found()
    monkeypatch.setattr("chatcore_openai.names.look_up", names.look_up)
    return names


ADDRESSES = [*PRIVATE, *METADATA, *PRIVATE_6, *itertools.chain.from_iterable(inside(each) for each in PRIVATE)]
OTHERS = list[str](), ["93.184.216.34"]


async def test_no_name_leads_there(listening: Listening, names: Found) -> None:
    async with OpenAIGateway() as gateway:
        for number, (address, others) in enumerate(itertools.product(ADDRESSES, OTHERS)):
            names.are([*others, address])
            url = f"http://model{number}.example.com:{listening.port}/v1"
            assert not await gateway.may_call(url, owner=OWNER), address
            assert isinstance(await call(gateway, url), ModelURLRefused), address
    assert listening.hits == 0


async def test_a_name_that_changes_its_mind_is_looked_at_again(listening: Listening, names: Found) -> None:
    """The name stands where each form has its host, and leads there once it has been saved."""
    async with OpenAIGateway() as gateway:
        for number, (form, host) in enumerate(forms(listening.port)):
            url = form.replace(host, f"model{number}.example.com")
            names.are(["93.184.216.34"])
            saved = not any(MODEL.broken(model_url=url)) and await gateway.may_call(url, owner=OWNER)
            assert saved is (form.endswith("/v1") and form.startswith((f"http://{host}:", f"https://{host}:"))), form
            names.are(meant(host))
            assert isinstance(await call(gateway, url), ModelURLRefused if saved else ModelError), form
    assert listening.hits == 0


async def test_what_gets_past_the_names_is_seen_before_it_is_dialled(
    listening: Listening, names: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if aiohttp had kept an answer, or had another way of looking names up."""

    async def resolve(_: object, host: str, port: int, traces: object = None) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)]

    monkeypatch.setattr(aiohttp.TCPConnector, "_resolve_host", resolve)
    async with OpenAIGateway() as gateway:
        assert isinstance(await call(gateway, f"http://model.example.com:{listening.port}/v1"), ModelURLRefused)
    assert listening.hits == 0


# ---- what is allowed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_permitted(address: str) -> None:
    assert Egress().permits("https", address, 443)


@pytest.mark.parametrize("address", [*PRIVATE, *PRIVATE_6])
def test_a_private_network_is_permitted_by_scheme_network_and_port(address: str) -> None:
    network = f"[{address}]/128" if ":" in address else f"{address}/32"
    egress = Egress([f"http://{network}:11434"])
    kept_out = address in METADATA or address in ("fd00:ec2::254", "fd20:ce::254", "fe80::1", "169.254.0.1")
    assert egress.permits("http", address, 11434) is not kept_out
    assert not egress.permits("https", address, 11434)
    assert not egress.permits("http", address, 11435)
    assert not Egress().permits("http", address, 11434)


METADATA_6 = [
    "fe80::a9fe:a9fe",
    "fd00:ec2::254",
    "fd00:ec2::253",
    "fd00:ec2::23",
    "fd00:ec2::123",
    "fd20:ce::254",
    "fd00:c1::a9fe:a9fe",
    "fd00:42::42",
    "fd00:a9fe:a9fe::1",
]


@pytest.mark.parametrize(
    "address", [*METADATA, *METADATA_6, *(form for each in METADATA for form in (*inside(each), *tunnelled(each)))]
)
def test_metadata_is_never_permitted_in_whatever_form(address: str) -> None:
    everything = Egress(["http://0.0.0.0/0:*", "http://[::]/0:*"])
    assert not everything.permits("http", address, 80)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "fd00::1", "64:ff9b:1::1", "2002:a00:1::1", "2001::1"])
def test_what_is_no_metadata_may_be_allowed(address: str) -> None:
    assert Egress(["http://0.0.0.0/0:*", "http://[::]/0:*"]).permits("http", address, 80)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1",
        "http://127.0.0.1",
        "http://127.0.0.1/8:80",
        "ftp://127.0.0.0/8:21",
        "http://localhost:80",
        "http://127.0.0.0/8:0",
        "http://127.0.0.0/8:",
        "http://[::1]/129:80",
        "http://127.0.0.0/8:80 ",
    ],
)
def test_what_is_of_no_form_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="scheme://network:port"):
        OpenAIGateway(allow=[text])


async def test_a_model_on_the_own_machine_works_in_development() -> None:
    async with ModelServer() as server, OpenAIGateway(allow=LOOPBACK) as gateway:
        assert await gateway.may_call(server.url, owner=OWNER)
        assert await call(gateway, server.url) is None
        assert await call(gateway, server.url.replace("127.0.0.1", "localhost")) is None


async def test_what_the_operator_configured_goes_anywhere(listening: Listening) -> None:
    async with OpenAIGateway() as gateway:
        with pytest.raises(ModelError):
            await gateway.models(
                ModelEndpoint(url=f"http://127.0.0.1:{listening.port}", model="m", api_key="", trusted=True)
            )
    assert listening.hits > 0


async def test_names_that_nobody_answers_for_are_only_their_users_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    silence = Event()

    def look_up(host: str) -> list[Address]:
        if host.endswith(".silent.test"):
            silence.wait()
        return [Address(socket.AF_INET, "10.0.0.1" if host == "private.test" else "127.0.0.1")]

    def own(user: int, host: str) -> ModelEndpoint:
        url = server.url.replace("127.0.0.1", host)
        return ModelEndpoint(url=url, model="m", api_key="", owner=OwnerId(user))

    async def ask(endpoint: ModelEndpoint) -> None:
        async for _ in gateway.stream(endpoint, PROMPT):
            pass

    monkeypatch.setattr("chatcore_openai.names.look_up", look_up)
    async with ModelServer() as server, OpenAIGateway(allow=LOOPBACK) as gateway:
        attack = [asyncio.create_task(ask(own(1, f"model{number}.silent.test"))) for number in range(200)]
        await asyncio.sleep(0.1)
        await ask(own(2, "model.test"))
        assert not await gateway.may_call("http://private.test/v1", owner=OwnerId(2))
        silence.set()
        await asyncio.gather(*attack)


async def test_a_name_that_nobody_answers_for_is_the_models_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(_: str) -> list[Address]:
        silence.wait()
        return []

    silence = Event()
    monkeypatch.setattr("chatcore_openai.names.look_up", look_up)
    async with OpenAIGateway() as gateway:
        monkeypatch.setattr(gateway, "_names", Names(within=0.01))
        error = await call(gateway, "http://model.silent.test/v1")
        assert await gateway.may_call("http://model.silent.test/v1", owner=OWNER)
    assert isinstance(error, ModelTimeout)
    assert "address" in error.detail
    silence.set()


async def test_the_operators_own_names_are_not_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatcore_openai.names.look_up", lambda _: pytest.fail("it was"))
    async with ModelServer() as server, OpenAIGateway() as gateway:
        url = server.url.replace("127.0.0.1", "localhost")
        async for _ in gateway.stream(ModelEndpoint(url=url, model="m", api_key="", trusted=True), PROMPT):
            pass
        assert server.requests


async def test_the_reason_is_in_the_log_alone(listening: Listening, caplog: pytest.LogCaptureFixture) -> None:
    async with OpenAIGateway() as gateway:
        error = await call(gateway, f"http://127.0.0.1:{listening.port}/v1")
    assert error is not None
    assert "127.0.0.1" not in error.detail
    assert "127.0.0.1 port" in caplog.text
    assert "sk-secret" not in caplog.text
