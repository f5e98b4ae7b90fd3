"""HOST and PORT in the forms that people write, and sentences for those that cannot be."""

import asyncio
import socket
from pathlib import Path

import pytest

from chatcore_app import Settings, SettingsError
from chatcore_cli.listening import listen
from integration.processes import run


def reaches(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as client:
        client.settimeout(5)
        return client.connect_ex((host, port)) == 0


@pytest.mark.parametrize(
    ("host", "reached", "not_reached"),
    [
        ("127.0.0.1", ["127.0.0.1"], ["::1"]),
        ("::1", ["::1"], ["127.0.0.1"]),
        ("[::1]", ["::1"], ["127.0.0.1"]),
        ("::", ["127.0.0.1", "::1"], []),
        ("[::]", ["127.0.0.1", "::1"], []),
        ("localhost", ["127.0.0.1"], []),
    ],
)
def test_it_listens_where_it_is_told_to(host: str, reached: list[str], not_reached: list[str]) -> None:
    settings = Settings(host=host, port=0)
    sockets = listen(settings)
    try:
        port = sockets[0].getsockname()[1]
        for each in sockets:
            each.listen()
        assert [reaches(address, port) for address in reached] == [True] * len(reached)
        assert [reaches(address, port) for address in not_reached] == [False] * len(not_reached)
    finally:
        for each in sockets:
            each.close()


@pytest.mark.parametrize(
    "host",
    ["http://127.0.0.1", "http://127.0.0.1:8000/", "127.0.0.1:8000", "localhost:80", "[::1", "[::1]:80", "*", "1:2:3"],
)
def test_what_is_none_is_a_sentence_that_names_the_setting(tmp_path: Path, host: str) -> None:
    with pytest.raises(SettingsError, match=r"^HOST: .*PORT"):
        Settings.load({"HOST": host, "DATA_DIR": str(tmp_path)}, str(tmp_path / ".env"))


@pytest.mark.parametrize("host", ["no.such.name.invalid", "203.0.113.7"])
def test_what_is_not_of_this_machine_is_a_sentence_too(host: str) -> None:
    with pytest.raises(SettingsError, match=r"^HOST: "):
        listen(Settings(host=host, port=0))


@pytest.mark.parametrize("more", [{}, {"WORKERS": "2", "DATABASE_URL": "postgresql://postgres@127.0.0.1/none"}])
async def test_a_port_that_is_taken_is_a_sentence(tmp_path: Path, more: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        async with asyncio.timeout(120):
            ended = await run(tmp_path, "serve", PORT=str(port), **more)
    assert ended.code == 1
    assert f"PORT: {port} is taken" in ended.stderr
    assert "Traceback" not in ended.stderr
